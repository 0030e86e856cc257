#!/usr/bin/env bash
# Fuzzes with libFuzzer and whatever stable Rust there is: its coverage comes from LLVM's pass, which needs no nightly compiler.
#
#   fuzz/run.sh TARGET SECONDS      one target (or `all`, one after the other); what it finds is in fuzz/artifacts/TARGET
#   fuzz/run.sh minimise TARGET     adds what fuzzing found worth keeping to fuzz/corpus/TARGET, as few small files as show it
#   fuzz/run.sh list                the targets
#
# FUZZ_LONGEST: longest input in bytes (default 4096).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

triple=x86_64-unknown-linux-gnu
longest=${FUZZ_LONGEST:-4096}
# Of the corpus: few and small enough to stand in a repository.
most_files=60
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../target/fuzz}
found=$CARGO_TARGET_DIR/found

targets() { sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' Cargo.toml; }

build() {
  # libFuzzer reads counters of edges, their addresses, and what is compared with what.
  RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16" \
    cargo build --locked --release --target "$triple" --bins
}

program() { echo "$CARGO_TARGET_DIR/$triple/release/$1"; }

fuzz() {
  local target=$1 seconds=$2
  mkdir -p "$found/$target" "artifacts/$target" "corpus/$target"
  echo "== $target: $seconds s"
  nice -n 10 "$(program "$target")" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len="$longest" -use_value_profile=1 \
    -print_final_stats=1 -verbosity=1 -artifact_prefix="artifacts/$target/" "$found/$target" "corpus/$target" 2>"$found/$target.log" \
    || { tail -n 40 "$found/$target.log"; echo "== $target: FINDING"; return 1; }
  grep -E '^stat::number_of_executed_units|^stat::new_units_added|cov: ' "$found/$target.log" | tail -n 3
}

minimise() {
  local target=$1 merged
  merged=$(mktemp -d)
  # Smallest first: libFuzzer keeps a file only for what no smaller one showed.
  "$(program "$target")" -merge=1 -max_len="$longest" "$merged" "corpus/$target" "$found/$target" 2>/dev/null
  find "corpus/$target" -type f -delete
  find "$merged" -type f -printf '%s %p\n' | sort -n | awk -v most="$most_files" '
    { size[NR] = $1; path[NR] = $2 }
    END { step = NR > most ? NR / most : 1; for (i = 1; i <= NR; i += step) print path[int(i)] }' | while IFS= read -r file; do
    mv "$file" "corpus/$target/$(sha256sum "$file" | cut -c 1-16)"
  done
  rm -rf "$merged"
  echo "== $target: $(find "corpus/$target" -type f | wc -l) files, $(du -sb "corpus/$target" | cut -f 1) bytes"
}

case "${1:-}" in
  list) targets ;;
  minimise) build && minimise "${2:?which target}" ;;
  build) build ;;
  all) build && status=0 && for target in $(targets); do fuzz "$target" "${2:?how many seconds}" || status=1; done && exit "$status" ;;
  "") echo "usage: fuzz/run.sh TARGET SECONDS" >&2; exit 2 ;;
  *) build && fuzz "$1" "${2:?how many seconds}" ;;
esac
