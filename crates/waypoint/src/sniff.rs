//! What a client speaks, told from its first bytes.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tulle_identity::gateway::{ClientHello, hello};

use crate::io::Io;
use crate::limits::SNIFF_BYTES;

/// What a client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1 or HTTP/2.
    Http,
    /// TLS, with what its first message asks for.
    Tls(ClientHello),
    /// Anything else; or the client waits for the server to speak.
    Bytes,
}

/// Reads until it is known what is spoken; everything read is put back. A client that says nothing within `patience` waits for
/// the server to speak first.
pub(crate) async fn sniff(io: &mut Io, patience: Duration) -> std::io::Result<Spoken> {
    let mut read = BytesMut::new();
    let deadline = tokio::time::Instant::now() + patience;
    let spoken = loop {
        match judge(&read) {
            Some(spoken) => break spoken,
            None if read.len() >= SNIFF_BYTES => break Spoken::Bytes,
            None => {}
        }
        match tokio::time::timeout_at(deadline, io.read_buf(&mut read)).await {
            Ok(Ok(0)) | Err(_) => break Spoken::Bytes,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    };
    io.put_back(read.freeze());
    Ok(spoken)
}

/// `None`: more bytes are needed.
fn judge(bytes: &[u8]) -> Option<Spoken> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const TLS_HANDSHAKE: u8 = 22;
    match bytes.first() {
        None => None,
        Some(&TLS_HANDSHAKE) => match hello(bytes) {
            Ok(found) => found.map(Spoken::Tls),
            Err(_) => Some(Spoken::Bytes),
        },
        Some(_) if PREFACE.starts_with(bytes) || bytes.starts_with(PREFACE) => {
            (bytes.len() >= PREFACE.len()).then_some(Spoken::Http)
        }
        Some(_) => request_line(bytes),
    }
}

/// A method, a space, and something that begins like a target.
fn request_line(bytes: &[u8]) -> Option<Spoken> {
    /// Of the methods that are registered.
    const LONGEST_METHOD: usize = 17;
    let end = bytes
        .iter()
        .position(|b| !b.is_ascii_uppercase() && *b != b'-');
    match end {
        None if bytes.len() <= LONGEST_METHOD => None,
        None => Some(Spoken::Bytes),
        Some(0) => Some(Spoken::Bytes),
        Some(end) if end > LONGEST_METHOD || bytes[end] != b' ' => Some(Spoken::Bytes),
        Some(end) => match bytes.get(end + 1) {
            None => None,
            // origin-form, asterisk-form; absolute-form and authority-form begin with a letter or digit.
            Some(b'/' | b'*' | b'[') => Some(Spoken::Http),
            Some(byte) if byte.is_ascii_alphanumeric() => absolute(&bytes[end + 1..]),
            Some(_) => Some(Spoken::Bytes),
        },
    }
}

/// `http://...` or `host:port` up to a space and `HTTP/`: other line protocols have commands in capitals, too.
fn absolute(target: &[u8]) -> Option<Spoken> {
    const VERSION: &[u8] = b" HTTP/";
    let line = match target.iter().position(|b| matches!(b, b'\r' | b'\n')) {
        Some(end) => &target[..end],
        None if target.len() < SNIFF_BYTES / 2 => return None,
        None => return Some(Spoken::Bytes),
    };
    let is_http = line.windows(VERSION.len()).any(|w| w == VERSION);
    Some(if is_http { Spoken::Http } else { Spoken::Bytes })
}

#[cfg(test)]
mod tests;
