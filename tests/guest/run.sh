#!/bin/sh
# Boots the guest that build.sh made and tells how its checks went. Arguments: names of checks (default: all).
# GUEST_TIMEOUT: seconds until the guest is ended (default 420).
set -eu
cd "$(dirname "$0")/../.."
out=target/guest
limit=${GUEST_TIMEOUT:-420}

for tool in qemu-system-x86_64 busybox cpio apt-get; do
    if ! command -v "$tool" >/dev/null; then
        echo "skip guest: $tool is not installed (apt-get install qemu-system-x86 busybox-static cpio)"
        echo "0 passed, 0 failed, 1 skipped"
        exit 0
    fi
done
sh tests/guest/build.sh

wanted=$(printf '%s,' "$@")
: >"$out/console.log"
# Emulated: runs wherever this does. Time in it is slow and coarse.
qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 1024 -smp 2 -nographic -no-reboot -nic none \
    -kernel "$out/vmlinuz" -initrd "$out/initrd.gz" \
    -append "console=ttyS0 quiet panic=-1 psi=1 numbers=${wanted%,}" </dev/null >"$out/console.log" 2>&1 &
qemu=$!
trap 'kill "$qemu" 2>/dev/null || true' EXIT INT TERM

waited=0
while kill -0 "$qemu" 2>/dev/null && [ "$waited" -lt "$limit" ]; do
    sleep 1
    waited=$((waited + 1))
done

# The serial console ends its lines with a carriage return, and more than one writes to it.
tr -d '\r' <"$out/console.log" | sed -n 's/^.*GUEST \(\(pass\|fail\|skip\) .*\)$/\1/p' | tee "$out/results"
count() { grep -c "^$1 " "$out/results" || true; }
passed=$(count pass) failed=$(count fail) skipped=$(count skip)
if ! grep -q 'GUEST done' "$out/console.log"; then
    echo "fail guest: did not finish within $limit s; the end of its console:"
    tail -n 30 "$out/console.log"
    failed=$((failed + 1))
elif [ "$failed" -gt 0 ]; then
    echo "the whole console is in $out/console.log"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
