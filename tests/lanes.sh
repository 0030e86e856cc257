#!/usr/bin/env bash
# Runs lanes of tests and sums them up: the last line is `N passed, N failed, N skipped`. Exit code 0 only if nothing failed.
#
#   tests/lanes.sh [LANE…]      default: all of them, in this order
#
#   format    cargo fmt --check
#   lint      clippy, every target, warnings are errors
#   docs      rustdoc, warnings are errors
#   unit      every test that needs nothing but this repository
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
passed=0 failed=0 skipped=0

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

# A command whose tests are counted. One that fails without a failing test (it does not compile) fails as a whole.
tests() {
  local lane=$1 status before_failed=$failed
  shift
  echo "== $lane: $*"
  "$@" 2>&1 | tee "$logs/$lane.log"
  status=${PIPESTATUS[0]}
  count "$logs/$lane.log" >"$logs/$lane.count"
  if [ "$status" != 0 ] && [ "$failed" = "$before_failed" ]; then failed=$((failed + 1)); fi
  if [ "$status" = 0 ] && [ "$(cat "$logs/$lane.count")" = 0 ]; then echo "== $lane: ran no test"; failed=$((failed + 1)); fi
  if [ "$failed" != "$before_failed" ]; then echo "== $lane: FAILED"; fi
}

# A command that sums itself up in its last line, as this script does.
summed() {
  local lane=$1 status p f i
  shift
  echo "== $lane: $*"
  "$@" 2>&1 | tee "$logs/$lane.log"
  status=${PIPESTATUS[0]}
  read -r p f i < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$logs/$lane.log" | tail -n 1) || p=0 f=0 i=0
  if [ "$status" != 0 ] && [ "$f" = 0 ]; then f=1; fi
  if [ "$status" = 0 ] && [ "$p" = 0 ] && [ "$i" = 0 ]; then echo "== $lane: ran no check"; f=1; fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + i))
  if [ "$f" != 0 ]; then echo "== $lane: FAILED"; fi
}

lint() { cargo clippy --locked --all-targets -- -D warnings && cargo clippy --locked --test live --test numbers -- -D warnings; }
docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items; }
demo() { cargo build --locked --release && timeout 120 target/release/stallspan demo; }

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

begin=$(date +%s)
if [ $# -eq 0 ]; then set -- format lint docs unit demo numbers guest live; fi
for lane in "$@"; do
  lane_begin=$(date +%s)
  case $lane in
    format) whole format cargo fmt --check ;;
    lint) whole lint lint ;;
    docs) whole docs docs ;;
    unit) tests unit cargo test --locked --no-fail-fast ;;
    demo) whole demo demo ;;
    numbers) numbers ;;
    guest) guest ;;
    live) live ;;
    *) echo "lanes: no lane '$lane'"; exit 2 ;;
  esac
  echo "== $lane: $(($(date +%s) - lane_begin)) s"
done
echo "== all: $(($(date +%s) - begin)) s"
echo "$passed passed, $failed failed, $skipped skipped" | tee "$logs/total"
[ "$failed" = 0 ]
