//! Harness, end-to-end walks and benches: everything that watches Tulle from outside.

pub mod kubectl;
pub mod load;
pub mod relay;
pub mod stage;
pub mod suite;
