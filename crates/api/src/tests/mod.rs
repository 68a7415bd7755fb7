//! Tests of this crate.

mod definitions;
mod resources;
