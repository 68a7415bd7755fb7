#!/usr/bin/env bash
# Fuzzes targets of tulle-fuzz, guided by coverage, on stable Rust: the instrumentation is LLVM's own, libFuzzer needs a C++ compiler.
# Usage: run.sh SECONDS [TARGET...]     (all targets, when none is named)
# What is learnt stays in corpus/, what is found in findings/: shrink it, move it to ../regressions/TARGET/, and mend the parser.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?usage: run.sh SECONDS [TARGET...]}
shift
host=$(rustc -vV | sed -n 's/^host: //p')
program=${CARGO_TARGET_DIR:-target}/$host/release/tulle-fuzz-guided
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares)
# Set for an explicit --target, so that build scripts and macros keep the ordinary flags.
env "CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUSTFLAGS=${flags[*]}" cargo build --release --target "$host"
[ $# -gt 0 ] || set -- $(FUZZ_TARGET=list "$program")
for name in "$@"; do
  mkdir -p "corpus/$name" "findings/$name"
  echo "== $name"
  FUZZ_TARGET=$name FUZZ_SEEDS=corpus/$name "$program" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="findings/$name/" "corpus/$name"
done
