#!/usr/bin/env bash
# Runs lanes of tests and sums them up: the last line is `N passed, N failed, N skipped`. Exit code 0 only if nothing failed.
#
#   tests/lanes.sh [LANE…]      default: all of them, in this order
#
#   format    cargo fmt --check
#   lint      clippy, every target, warnings are errors
#   docs      rustdoc, warnings are errors
#   unit      every test that needs nothing but this repository
#   clients   senders of other people through the hop: SDKs of four languages, telemetrygen, the Collector
#   bpf       the eBPF object against its source, and the programs against what the kernel counts itself (root)
#   demo      the demo, as a user runs it
#   numbers   metrics and spans against the kernel's own numbers, on this host (root)
#   guest     the same on cgroup v2 and another kernel, in a guest under QEMU
#   live      the chain with real parts (root)
#
# A lane that cannot run here is told and counted as skipped; where CI=true that is a failure. Each lane's output is kept
# in target/lanes.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

logs=target/lanes
mkdir -p "$logs"
passed=0 failed=0 skipped=0 shaky=0

# Adds up the `test result:` lines of cargo.
count() {
  local p f i
  read -r p f i < <(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$1")
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + i))
  echo "$((p + f))"
}

skip() {
  echo "== $1: skipped: $2"
  if [ "${CI:-}" = true ]; then failed=$((failed + 1)); else skipped=$((skipped + 1)); fi
}

# A command that passes or fails as a whole.
whole() {
  local lane=$1
  shift
  echo "== $lane: $*"
  if "$@" 2>&1 | tee "$logs/$lane.log"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "== $lane: FAILED"; fi
}

# `PROGRAM NAME` of each test that failed in a log of cargo.
failures() {
  awk '/^ *Running .*\(.*\)$/ { program = $NF; gsub(/[()]/, "", program) }
       /^test .* \.\.\. FAILED$/ { print program, $2 }' "$1"
}

# Runs each test of a log that failed once more, alone. A machine may stall for seconds under everything at once; what is
# broken is broken twice. Which tests needed it is told, so that a shaky one is seen and mended.
second_look() {
  local lane=$1 program name
  while read -r program name; do
    echo "== $lane: $name failed; once more, alone"
    if CARGO_MANIFEST_DIR=$PWD "$program" --exact "$name" --test-threads=1 >>"$logs/$lane.again.log" 2>&1 </dev/null; then
      echo "== $lane: $name passed at the second look: it is shaky"
      failed=$((failed - 1)) passed=$((passed + 1)) shaky=$((shaky + 1))
    else
      tail -n 40 "$logs/$lane.again.log"
    fi
  done < <(failures "$logs/$lane.log")
}

# A command whose tests are counted. One that fails without a failing test (it does not compile) fails as a whole.
tests() {
  local lane=$1 status before_failed=$failed
  shift
  echo "== $lane: $*"
  rm -f "$logs/$lane.again.log"
  "$@" 2>&1 | tee "$logs/$lane.log"
  status=${PIPESTATUS[0]}
  count "$logs/$lane.log" >"$logs/$lane.count"
  if [ "$status" != 0 ] && [ "$failed" = "$before_failed" ]; then failed=$((failed + 1)); fi
  if [ "$status" = 0 ] && [ "$(cat "$logs/$lane.count")" = 0 ]; then echo "== $lane: ran no test"; failed=$((failed + 1)); fi
  if [ "$failed" != "$before_failed" ] && [ "$((failed - before_failed))" -le 10 ]; then second_look "$lane"; fi
  if [ "$failed" != "$before_failed" ]; then echo "== $lane: FAILED"; fi
}

lint() { cargo clippy --locked --all-targets -- -D warnings && cargo clippy --locked --test live --test live_bpf --test clients --test numbers -- -D warnings && cargo fetch --locked --manifest-path fuzz/Cargo.toml; }
docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items; }
demo() { cargo build --locked --release && { play || { echo "== demo: failed; once more" && play; }; }; }
play() { timeout 120 target/release/stallspan demo; }

bpf() {
  if ! command -v clang-14 llvm-strip-14 >/dev/null || [ ! -e /usr/include/bpf/bpf_helpers.h ]; then
    skip bpf "clang-14, llvm-14 and libbpf-dev are needed to compile the programs: tests/setup.sh test installs them"
  else
    whole bpf src/bpf/build.sh check
  fi
  if [ "$(id -u)" != 0 ]; then skip bpf "the kernel takes programs from root only: run it as root"; return; fi
  if [ ! -e /sys/kernel/btf/vmlinux ]; then skip bpf "this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)"; return; fi
  tests bpf cargo test --locked --test live_bpf -- --test-threads=1
  STALLSPAN_TEST_RAW_BPF=1 tests bpf-raw cargo test --locked --test live_bpf -- --test-threads=1 # the form for older kernels
}

# A command that sums itself up in its last line, as this script does: sets `sum`.
sum_up() {
  local lane=$1 status p=0 f=0 i=0
  shift
  "$@" 2>&1 | tee "$logs/$lane.log"
  status=${PIPESTATUS[0]}
  read -r p f i < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$logs/$lane.log" | tail -n 1) || p=0 f=0 i=0
  if [ "$status" != 0 ] && [ "$f" = 0 ]; then f=1; fi
  if [ "$status" = 0 ] && [ "$p" = 0 ] && [ "$i" = 0 ]; then echo "== $lane: ran no check"; f=1; fi
  sum="$p $f $i"
}

# Such a command as a lane, with a second look as the other lanes have it, at all of it.
summed() {
  local lane=$1 sum p f i
  echo "== $lane: ${*:2}"
  sum_up "$@"
  read -r p f i <<<"$sum"
  if [ "$f" != 0 ]; then
    echo "== $lane: $f failed; once more, all of it"
    sum_up "$@"
    read -r p f i <<<"$sum"
    if [ "$f" = 0 ]; then echo "== $lane: passed at the second look: it is shaky"; shaky=$((shaky + 1)); fi
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + i))
  if [ "$f" != 0 ]; then echo "== $lane: FAILED"; fi
}

numbers() {
  if [ "$(id -u)" != 0 ]; then skip numbers "it makes cgroups: run it as root"; return; fi
  if ! cargo build --locked --release --bin stallspan; then failed=$((failed + 1)); return; fi
  STALLSPAN_BIN=$PWD/target/release/stallspan summed numbers cargo test --locked --test numbers
}

guest() {
  local tool
  for tool in qemu-system-x86_64 busybox cpio dpkg-deb; do
    if ! command -v "$tool" >/dev/null; then skip guest "$tool is missing: tests/setup.sh test installs it"; return; fi
  done
  if [ "$(uname -m)" != x86_64 ]; then skip guest "the guest is made for x86_64"; return; fi
  if ! tests/guest/build.sh; then echo "== guest: FAILED: the guest was not built"; failed=$((failed + 1)); return; fi
  summed guest tests/guest/run.sh
}

live() {
  if [ "$(id -u)" != 0 ]; then skip live "it starts containers: run it as root"; return; fi
  if ! grep -q . /proc/self/schedstat 2>/dev/null; then skip live "this kernel has no schedstat to compare with"; return; fi
  if ! tests/peers/build.sh; then echo "== live: FAILED: the peers were not built"; failed=$((failed + 1)); return; fi
  if ! cargo build --locked --release --bin stallspan --example checkout; then failed=$((failed + 1)); return; fi
  # What runs is what users run; only the test that drives it is built for debugging.
  STALLSPAN_BIN=$PWD/target/release/stallspan CHECKOUT_BIN=$PWD/target/release/examples/checkout \
    tests live cargo test --locked --test live -- --test-threads=1 --skip figures:: # those are for `make figures`
}

clients() {
  if ! tests/clients/build.sh || ! tests/peers/build.sh telemetrygen collector; then
    echo "== clients: FAILED: the senders were not installed"
    failed=$((failed + 1))
    return
  fi
  tests clients cargo test --locked --test clients -- --test-threads=2
}

begin=$(date +%s)
if [ $# -eq 0 ]; then set -- format lint docs unit clients bpf demo numbers guest live; fi
for lane in "$@"; do
  lane_begin=$(date +%s)
  case $lane in
    format) whole format cargo fmt --check ;;
    lint) whole lint lint ;;
    docs) whole docs docs ;;
    unit) tests unit cargo test --locked --no-fail-fast ;;
    clients) clients ;;
    bpf) bpf ;;
    demo) whole demo demo ;;
    numbers) numbers ;;
    guest) guest ;;
    live) live ;;
    *) echo "lanes: no lane '$lane'"; exit 2 ;;
  esac
  echo "== $lane: $(($(date +%s) - lane_begin)) s"
done
echo "== all: $(($(date +%s) - begin)) s"
if [ "$shaky" != 0 ]; then echo "== $shaky tests passed only at the second look"; fi
echo "$passed passed, $failed failed, $skipped skipped" | tee "$logs/total"
[ "$failed" = 0 ]
