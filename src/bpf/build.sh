#!/bin/sh
# Compiles the eBPF programs with Debian's clang-14, once for what kernels offer since 5.12 and once for older ones (RAW).
# `build.sh check` only compares with what is committed: the objects are the same from any directory, on any architecture
# of the same byte order.
set -eu
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# -g makes the BTF that maps and relocations need; the DWARF beside it goes again.
compile() {
	clang-14 -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-parameter \
		-fdebug-prefix-map="$PWD"=. -idirafter /usr/include "$@"
}
compile -c stall.bpf.c -o "$out/stall.bpf.o"
compile -DRAW -c stall.bpf.c -o "$out/stall-raw.bpf.o"
for object in stall.bpf.o stall-raw.bpf.o; do
	llvm-strip-14 -g "$out/$object"
	if [ "${1:-}" = check ]; then
		cmp "$out/$object" "$object" && echo "$object is what its source compiles to"
	else
		cp "$out/$object" "$object"
	fi
done
