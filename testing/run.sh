#!/usr/bin/env bash
# All tests, from cheap to dear. Usage: run.sh PROFILE CNI_PLUGIN
set -euo pipefail
profile=$1 cni=$2
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

echo "== units, properties, goldens, namespaces"
cargo test --locked --profile "$profile" --workspace --lib --bins --tests --exclude tulle-testing
cargo test --locked --profile "$profile" -p tulle-testing --lib

echo "== end to end: the walks, on a playground of their own"
cargo build --locked --profile "$profile" -p tulle-testing --bins
TULLE_BIN=$(realpath "$target/$profile/tulle") TULLE_CNI=$(realpath "$cni") LOAD_BIN=$(realpath "$target/$profile/load") \
  cargo test --locked --profile "$profile" -p tulle-testing --test e2e

echo "skipped: Gateway API conformance and peers (Envoy, other ztunnels) run by hand; see docs/testing.md"
