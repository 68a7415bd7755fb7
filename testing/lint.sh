#!/usr/bin/env bash
# Formatting, clippy without a warning, licences and advisories. Usage: lint.sh PROFILE
set -euo pipefail
profile=$1
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --locked --profile "$profile" --workspace --all-targets -- -D warnings
command -v cargo-deny >/dev/null 2>&1 || cargo install --quiet --locked cargo-deny@0.20.2
cargo deny --log-level error check bans licenses sources
