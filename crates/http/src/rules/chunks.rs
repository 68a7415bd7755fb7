//! A chunked body as bytes (RFC 9112, section 7.1), followed to its end, so that the next request is known to begin there.

use super::{Refusal, wire};
use crate::limits;

/// Where in a chunked body we are.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    state: State,
    /// The current line of trailers; or how long the extensions are.
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A chunk's size: digits so far, value.
    Size(u8, u64),
    /// Its extensions: bytes so far, size of the chunk.
    Extension(usize, u64),
    /// LF after the size.
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// In a line of the trailers.
    Trailer,
    /// LF after a trailer.
    TrailerEnd,
    Done,
}

const BAD_SIZE: Refusal = Refusal::bad("a malformed chunk size");
const BAD_END: Refusal = Refusal::bad("a chunk that does not end in CRLF");

impl Chunks {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Size(0, 0),
            line: Vec::new(),
            trailers: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of data that come before anything is decided again.
    pub(crate) fn data_left(&self) -> u64 {
        match self.state {
            State::Data(left) => left,
            _ => 0,
        }
    }

    /// `n` bytes of data went by.
    pub(crate) fn skip(&mut self, n: u64) {
        if let State::Data(left) = self.state {
            self.state = if left > n {
                State::Data(left - n)
            } else {
                State::DataCr
            };
        }
    }

    /// Follows the body through `bytes`; how many of them belong to it.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            let data = self.data_left().min((bytes.len() - at) as u64);
            if data > 0 {
                self.skip(data);
                at += data as usize;
            } else {
                self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<(), Refusal> {
        self.state = match self.state {
            State::Size(digits, size) => match byte {
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => {
                    let digit = (byte as char).to_digit(16).unwrap_or(0);
                    // 15 digits: no sum of sizes overflows.
                    if digits >= 15 {
                        return Err(BAD_SIZE);
                    }
                    State::Size(digits + 1, size << 4 | u64::from(digit))
                }
                b'\r' if digits > 0 => State::SizeEnd(size),
                b';' if digits > 0 => State::Extension(0, size),
                _ => return Err(BAD_SIZE),
            },
            State::Extension(len, size) => match byte {
                b'\r' => State::SizeEnd(size),
                byte if byte < 0x20 && byte != b'\t' || byte == 0x7f => return Err(BAD_SIZE),
                _ if len >= limits::MAX_CHUNK_EXTENSION => {
                    return Err(Refusal::bad("chunk extensions that are too long"));
                }
                _ => State::Extension(len + 1, size),
            },
            State::SizeEnd(size) => match (byte, size) {
                (b'\n', 0) => State::Trailer,
                (b'\n', size) => State::Data(size),
                _ => return Err(BAD_SIZE),
            },
            State::Data(_) => State::Data(0),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size(0, 0),
            State::DataCr | State::DataLf => return Err(BAD_END),
            State::Trailer => self.trailer(byte)?,
            State::TrailerEnd => self.trailer_end(byte)?,
            State::Done => State::Done,
        };
        Ok(())
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Refusal> {
        if byte == b'\r' {
            return Ok(State::TrailerEnd);
        }
        self.trailers += 1;
        if self.trailers > limits::MAX_TRAILERS {
            return Err(Refusal::too_large("trailers that are too large"));
        }
        self.line.push(byte);
        Ok(State::Trailer)
    }

    fn trailer_end(&mut self, byte: u8) -> Result<State, Refusal> {
        if byte != b'\n' {
            return Err(Refusal::bad("a bare CR in the trailers"));
        }
        if self.line.is_empty() {
            self.line = Vec::new();
            return Ok(State::Done);
        }
        let (name, _) = wire::field(&self.line)?;
        // What would have decided about the request comes too late.
        for late in [
            "content-length",
            "transfer-encoding",
            "host",
            "connection",
            "upgrade",
            "te",
            "trailer",
        ] {
            if name.eq_ignore_ascii_case(late.as_bytes()) {
                return Err(Refusal::bad("a trailer that only a header may be"));
            }
        }
        self.line.clear();
        Ok(State::Trailer)
    }
}

#[cfg(test)]
mod tests;
