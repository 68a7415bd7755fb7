//! HTTP/2 frames as bytes, before the HTTP library sees them: what costs work and brings nobody forward draws on one budget.

use std::time::Instant;

use crate::limits::{FLOOD_BUDGET, FLOOD_EARNED, FLOOD_PERIOD, MAX_CONTINUATIONS};

const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client that wastes our time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an HTTP/2 flood: {0}")]
pub(crate) struct Flood(pub(crate) &'static str);

/// Follows the frames that a client sends.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: [u8; HEAD],
    have: usize,
    /// Of the current frame's payload.
    payload: usize,
    continuations: u32,
    /// A header block was begun and not ended.
    open_block: bool,
    left: u32,
    since: Instant,
}

impl Frames {
    /// From the beginning of a connection, whose preface is `preface` bytes long.
    pub(crate) fn new(preface: usize) -> Self {
        Self {
            preface,
            head: [0; HEAD],
            have: 0,
            payload: 0,
            continuations: 0,
            open_block: false,
            left: FLOOD_BUDGET,
            since: Instant::now(),
        }
    }

    /// A request was answered: useful work.
    pub(crate) fn earn(&mut self) {
        self.left = (self.left + FLOOD_EARNED).min(FLOOD_BUDGET);
    }

    /// Whether the client has begun to ask for something and not said what.
    pub(crate) fn is_open(&self) -> bool {
        let of_block = matches!(self.head[3], HEADERS | CONTINUATION);
        self.preface > 0 || self.have > 0 || self.open_block || (self.payload > 0 && of_block)
    }

    pub(crate) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let skip = self.preface + self.payload;
            if skip > 0 {
                let n = skip.min(bytes.len());
                let of_preface = n.min(self.preface);
                self.preface -= of_preface;
                self.payload -= n - of_preface;
                bytes = &bytes[n..];
                continue;
            }
            let n = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == HEAD {
                self.have = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            DATA if self.payload == 0 && flags & END_STREAM == 0 => self.spend("empty DATA"),
            DATA | WINDOW_UPDATE => Ok(()),
            HEADERS => {
                self.continuations = 0;
                self.open_block = flags & END_HEADERS == 0;
                Ok(())
            }
            CONTINUATION => {
                self.continuations += 1;
                self.open_block = flags & END_HEADERS == 0;
                if self.continuations > MAX_CONTINUATIONS {
                    return Err(Flood("CONTINUATION"));
                }
                Ok(())
            }
            RST_STREAM => self.spend("resets"),
            _ => self.spend("PING, SETTINGS, PRIORITY or unknown frames"),
        }
    }

    fn spend(&mut self, what: &'static str) -> Result<(), Flood> {
        if self.left == 0 && self.since.elapsed() >= FLOOD_PERIOD {
            self.left = FLOOD_BUDGET;
            self.since = Instant::now();
        }
        self.left = self.left.checked_sub(1).ok_or(Flood(what))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
