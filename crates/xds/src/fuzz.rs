//! Discovery messages, as `fuzz/` brings them: any bytes may come in, and a broken promise panics.

use crate::client;

pub use crate::server::fuzz::requests;

/// What a control plane answers: every name and version that it brought is told to the next one.
pub fn answer(data: &[u8]) {
    client::fuzz::answer(data);
}
