#!/usr/bin/env bash
# Builds everything that `make up` runs: Rust and Go side by side. Usage: build.sh PROFILE HOST
set -euo pipefail
profile=$1 host=$2
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
started=$SECONDS

# The playground's own program comes first: it builds Kubernetes while cargo builds the rest.
# (--workspace: with the features that the rest needs too, or much would be built twice.)
cargo build --locked --profile "$profile" --workspace --bin playground
"$target/$profile/playground" build &
kubernetes=$!
trap 'kill $kubernetes 2>/dev/null || true' INT TERM

cargo build --locked --profile "$profile" --workspace --bins
# The CNI plugin runs on the node's own file system, whatever libc is there: static, on the gnu target.
# Its flags are set for an explicit --target, so that build scripts and macros keep the ordinary ones.
flags=CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUSTFLAGS
env "$flags=-C target-feature=+crt-static" cargo build --locked --profile "$profile" --target "$host" -p tulle-cni-plugin
wait $kubernetes
echo "Built in $((SECONDS - started)) s."
