//! Harness, end-to-end walks and benches.
