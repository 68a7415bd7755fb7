//! One message is one datagram: a byte that says what, then a key. Descriptors travel beside it.

use crate::limits::KEPT_KEY;

/// Set in the worker's environment: its standard input is the keeper's socket.
pub(super) const ENVIRONMENT: &str = "TULLE_KEEPER";

/// Longest message.
pub(super) const MESSAGE: usize = KEPT_KEY + 1;

/// What the two say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Worker: keep these descriptors under this key, instead of what was there.
    Put(String),
    /// Worker: give up what is under this key.
    Delete(String),
    /// Keeper: this was kept.
    Kept(String),
    /// Keeper: that was all.
    Complete,
    /// Keeper: end in order.
    Terminate,
}

impl Message {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, key) = match self {
            Self::Put(key) => (b'p', key.as_str()),
            Self::Delete(key) => (b'd', key.as_str()),
            Self::Kept(key) => (b'k', key.as_str()),
            Self::Complete => (b'c', ""),
            Self::Terminate => (b't', ""),
        };
        let mut datagram = Vec::with_capacity(1 + key.len());
        datagram.push(kind);
        datagram.extend_from_slice(key.as_bytes());
        datagram
    }

    /// `None` for what neither side sends.
    pub(super) fn decode(datagram: &[u8]) -> Option<Self> {
        let (kind, key) = datagram.split_first()?;
        let key = std::str::from_utf8(key).ok()?.to_owned();
        match kind {
            b'p' => Some(Self::Put(key)),
            b'd' => Some(Self::Delete(key)),
            b'k' => Some(Self::Kept(key)),
            b'c' if key.is_empty() => Some(Self::Complete),
            b't' if key.is_empty() => Some(Self::Terminate),
            _ => None,
        }
    }
}
