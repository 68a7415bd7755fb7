//! Tests of this crate.

mod addresses;
mod authorizations;
