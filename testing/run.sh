#!/usr/bin/env bash
# All tests, from cheap to dear. Usage: run.sh PROFILE CNI_PLUGIN
set -euo pipefail
profile=$1 cni=$2
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

echo "== units, properties, goldens, namespaces"
# Everything in one go: other selections of packages would compile with other features. The walks say that they wait.
cargo test --locked --profile "$profile" --workspace --lib --bins --tests

echo "== end to end: the walks, on a playground of their own"
TULLE_BIN=$(realpath "$target/$profile/tulle") TULLE_CNI=$(realpath "$cni") LOAD_BIN=$(realpath "$target/$profile/load") \
  cargo test --locked --profile "$profile" --workspace --test e2e

echo "skipped: Gateway API conformance and peers (Envoy, other ztunnels) run by hand; see docs/testing.md"
