#!/bin/sh
# Boots the guest that build.sh made and tells how its checks went. Arguments: names of checks (default: all).
# GUEST_TIMEOUT: seconds until the guest is ended (default 1800; where nothing else runs it takes nine minutes).
set -eu
cd "$(dirname "$0")/../.."
out=target/guest
limit=${GUEST_TIMEOUT:-1800}

wanted=$(printf '%s,' "$@")
qemu=
trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true' EXIT INT TERM

# Emulated: runs wherever this does. On a host that starves, the guest's CPUs stand still for a while and its kernel mistrusts
# its timers, which it is told not to do: it would not come up, or read a slow HPET for the time and let the clock of the run
# queues stand still and jump from tick to tick (sched_clock_local, kernel/sched/clock.c). Both CPUs are emulated by one thread in turn: with a thread
# each, QEMU 7.2 may translate code while the other CPU patches it, and then runs what stood there before for ever. The kernel
# patches the scheduler whenever a tracepoint of it is first used or no longer is: one in some forty loads of the programs
# left a CPU at the `int3` of such a patch, in __schedule with interrupts off.
boot() {
    : >"$out/console.log"
    qemu-system-x86_64 -accel tcg,thread=single -cpu max -m 1024 -smp 2 -nographic -no-reboot -nic none \
        -kernel "$out/vmlinuz" -initrd "$out/initrd.gz" \
        -append "console=ttyS0 quiet panic=-1 psi=1 no_timer_check tsc=reliable numbers=${wanted%,}" </dev/null >"$out/console.log" 2>&1 &
    qemu=$!
    while kill -0 "$qemu" 2>/dev/null && [ "$waited" -lt "$limit" ]; do
        sleep 1
        waited=$((waited + 1))
    done
    kill "$qemu" 2>/dev/null || true
    wait "$qemu" 2>/dev/null || true
    qemu=
}

waited=0
for _ in 1 2 3; do
    boot
    # Once its first process runs, what goes wrong is for the checks to tell.
    if grep -q 'GUEST up' "$out/console.log"; then break; fi
    echo "the guest did not come up: $(tr -d '\r' <"$out/console.log" | grep -m 1 -i panic)"
done

# The serial console ends its lines with a carriage return, and more than one writes to it.
tr -d '\r' <"$out/console.log" | sed -n 's/^.*GUEST \(\(ok\|FAIL\|skip\) .*\)$/\1/p' | tee "$out/results"
count() { grep -c "^$1 " "$out/results" || true; }
passed=$(count ok) failed=$(count FAIL) skipped=$(count skip)
if ! grep -q 'GUEST done' "$out/console.log"; then
    echo "FAIL guest: did not finish within $limit s; the end of its console:"
    tail -n 30 "$out/console.log"
    failed=$((failed + 1))
elif [ "$failed" -gt 0 ]; then
    echo "the whole console is in $out/console.log"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
