//! Harness, end-to-end walks and benches: everything that watches Tulle from outside.

pub mod bench;
pub mod fixtures;
pub mod kubectl;
pub mod load;
pub mod observers;
pub mod processes;
pub mod relay;
pub mod stage;
pub mod suite;
