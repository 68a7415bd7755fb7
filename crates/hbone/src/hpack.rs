//! HPACK (RFC 7541): a complete decoder, and an encoder that never uses the dynamic table nor Huffman codes.
//!
//! Tunnels carry a handful of headers per connection, so the decoder is written for clarity and bounds, not speed.

mod encode;
mod huffman;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use encode::{literal, status};
use table::{Field, Table};

/// Why a header block was refused. All but `TooLarge` break the compression state: the tunnel is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HpackError {
    /// Not as RFC 7541 has it.
    Malformed,
    /// The decoded list is larger than we promised to accept.
    TooLarge,
}

/// What RFC 7541 §4.1 adds to the length of each field.
const FIELD_OVERHEAD: usize = 32;

/// The decoding side of a connection's header compression.
pub(crate) struct Decoder {
    table: Table,
}

impl Decoder {
    /// With the default table size (4096), which is what our SETTINGS promise by silence.
    pub(crate) fn new() -> Self {
        Self {
            table: Table::new(4096),
        }
    }

    /// Decodes a complete block and shows each field to `visit`. Fields together may measure `limit` (§4.1).
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        let mut input = Input(block);
        let mut left = limit;
        let mut fields = 0;
        while let Some(first) = input.peek() {
            if first & 0xe0 == 0x20 {
                // Size updates come first, and at most two make sense (§4.2).
                let size = input.integer(5)?;
                fields += 1;
                if fields > 2 || !self.table.resize(size) {
                    return Err(HpackError::Malformed);
                }
                continue;
            }
            fields = 3;
            let (name, value) = self.field(first, &mut input, left)?;
            let size = name.len() + value.len() + FIELD_OVERHEAD;
            left = left.checked_sub(size).ok_or(HpackError::TooLarge)?;
            visit(&name, &value);
            if first & 0xc0 == 0x40 {
                self.table.insert(name, value);
            }
        }
        Ok(())
    }

    /// One field (§6.1, §6.2); `first` is its first octet, still in `input`.
    fn field(&self, first: u8, input: &mut Input<'_>, left: usize) -> Result<Field, HpackError> {
        if first & 0x80 != 0 {
            let (name, value) = self.table.get(input.integer(7)?)?;
            return Ok((name.into(), value.into()));
        }
        let prefix = if first & 0xc0 == 0x40 { 6 } else { 4 };
        let index = input.integer(prefix)?;
        let name = if index == 0 {
            input.string(left)?
        } else {
            self.table.get(index)?.0.into()
        };
        let value = input.string(left)?;
        Ok((name, value))
    }
}

/// A header block while it is read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn octet(&mut self) -> Result<u8, HpackError> {
        let (&octet, rest) = self.0.split_first().ok_or(HpackError::Malformed)?;
        self.0 = rest;
        Ok(octet)
    }

    /// An integer with a prefix of `bits` bits (§5.1); anything over 2^24 makes no sense here.
    fn integer(&mut self, bits: u32) -> Result<usize, HpackError> {
        let mask = (1usize << bits) - 1;
        let mut value = usize::from(self.octet()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let octet = usize::from(self.octet()?);
            value += (octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return if value < 1 << 24 {
                    Ok(value)
                } else {
                    Err(HpackError::Malformed)
                };
            }
        }
        Err(HpackError::Malformed)
    }

    /// A string literal (§5.2) whose decoded form may have `limit` bytes.
    fn string(&mut self, limit: usize) -> Result<Box<[u8]>, HpackError> {
        let huffman = self.peek().ok_or(HpackError::Malformed)? & 0x80 != 0;
        let len = self.integer(7)?;
        let (raw, rest) = self.0.split_at_checked(len).ok_or(HpackError::Malformed)?;
        self.0 = rest;
        if huffman {
            huffman::decode(raw, limit)
        } else if len > limit {
            Err(HpackError::TooLarge)
        } else {
            Ok(raw.into())
        }
    }
}
