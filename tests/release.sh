#!/usr/bin/env bash
# The release binary, compiled for what it does most: built once to be watched, watched while it serves requests of every kind
# (tests/live/training.rs), and built again with what was seen (profile-guided optimization: hot code together, rare code out of
# its way). Needs root, as it is a container's spans that are enriched, and ten minutes or more.
#
#   tests/release.sh    → target/trained/stallspan
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "release: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "the build is watched while it serves a container: run this as root"
for set in RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET; do
  [ -z "${!set-}" ] || fail "$set is set, and would be dropped for the flags of this build: unset it"
done
trained=$PWD/target/trained
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=${LLVM_PROFDATA:-$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata}
if [ ! -x "$profdata" ]; then
  # Of the compiler's own version: another's does not read what its builds write.
  command -v rustup >/dev/null || fail "$profdata is missing: say where the one of this rustc's LLVM is, LLVM_PROFDATA=…, or use rustup"
  rustup component add llvm-tools
  [ -x "$profdata" ] || fail "$profdata is missing though rustup has its component: is another toolchain's rustc before rustup's?"
fi

# With --target, build scripts and macros are compiled without the flags.
build() {
  echo "release: building $1"
  CARGO_ENCODED_RUSTFLAGS=$2 cargo build --locked --release --bin stallspan --target "$host" --target-dir "$trained/$1"
}

# What an earlier build has seen is of no use to this one.
rm -rf "$trained/seen"
build watched "-Cprofile-generate=$trained/seen"
echo "release: watching it"
STALLSPAN_BIN=$trained/watched/$host/release/stallspan cargo test --locked --test live -- --exact training::requests_of_every_kind
"$profdata" merge --sparse -o "$trained/seen.profdata" "$trained/seen"
# Of every request each span is walked through: where nothing of that was seen, nothing was.
"$profdata" show --function=otlp4walk --counts "$trained/seen.profdata" | grep -E 'Block counts: \[[1-9]' >/dev/null || fail "nothing was seen of the watched build's work"
build final "-Cprofile-use=$trained/seen.profdata"
cp "$trained/final/$host/release/stallspan" "$trained/stallspan.new"
mv "$trained/stallspan.new" "$trained/stallspan"
"$trained/stallspan" --version
