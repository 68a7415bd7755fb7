#!/usr/bin/env bash
# Formatting, clippy without a warning, licences and advisories. Usage: lint.sh PROFILE
set -euo pipefail
profile=$1
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --locked --profile "$profile" --workspace --all-targets -- -D warnings
if command -v cargo-deny >/dev/null 2>&1; then
  cargo deny --offline check bans licenses sources
else
  echo "skipped: cargo-deny is not installed (cargo install cargo-deny); deny.toml was not checked"
fi
