#!/bin/sh
# Compiles the eBPF programs with Debian's clang-14. `build.sh check` only compares with what is committed: the object is
# the same from any directory, on any architecture of the same byte order.
set -eu
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# -g makes the BTF that maps and relocations need; the DWARF beside it goes again.
clang-14 -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-parameter \
	-fdebug-prefix-map="$PWD"=. -idirafter /usr/include -c stall.bpf.c -o "$out/stall.bpf.o"
llvm-strip-14 -g "$out/stall.bpf.o"
if [ "${1:-}" = check ]; then
	cmp "$out/stall.bpf.o" stall.bpf.o && echo "stall.bpf.o is what its source compiles to"
else
	cp "$out/stall.bpf.o" stall.bpf.o
fi
