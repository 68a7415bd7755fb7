//! The Huffman code of HPACK (RFC 7541, appendix B).
//!
//! The code is canonical: sorted by length and then by symbol, codes count upwards. So the lengths are all there is to know.

use super::HpackError;

/// Bits of each octet's code; the last entry is EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const LONGEST: usize = 30;
const EOS: u16 = 256;

/// Symbols in the order of their codes, and where each length begins.
struct Code {
    symbols: [u16; 257],
    /// First code of this length.
    first: [u32; LONGEST + 1],
    /// How many codes of this length there are.
    count: [u32; LONGEST + 1],
    /// Where in `symbols` they begin.
    start: [u32; LONGEST + 1],
}

static CODE: Code = Code::canonical();

impl Code {
    const fn canonical() -> Self {
        let mut code = Self {
            symbols: [0; 257],
            first: [0; LONGEST + 1],
            count: [0; LONGEST + 1],
            start: [0; LONGEST + 1],
        };
        let (mut next, mut placed, mut bits) = (0u32, 0u32, 1);
        while bits <= LONGEST {
            next <<= 1;
            code.first[bits] = next;
            code.start[bits] = placed;
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == bits {
                    code.symbols[placed as usize] = symbol as u16;
                    placed += 1;
                    next += 1;
                }
                symbol += 1;
            }
            code.count[bits] = placed - code.start[bits];
            bits += 1;
        }
        code
    }
}

/// Decodes `raw`; the result may have `limit` bytes.
pub(super) fn decode(raw: &[u8], limit: usize) -> Result<Box<[u8]>, HpackError> {
    let mut text = Vec::with_capacity((raw.len() * 2).min(limit));
    let (mut pending, mut bits) = (0u32, 0usize);
    for &octet in raw {
        for shift in (0..8).rev() {
            pending = pending << 1 | u32::from(octet >> shift & 1);
            bits += 1;
            let offset = pending.wrapping_sub(CODE.first[bits]);
            if offset < CODE.count[bits] {
                let symbol = CODE.symbols[(CODE.start[bits] + offset) as usize];
                if symbol == EOS {
                    return Err(HpackError::Malformed);
                }
                if text.len() == limit {
                    return Err(HpackError::TooLarge);
                }
                text.push(symbol as u8);
                (pending, bits) = (0, 0);
            } else if bits == LONGEST {
                return Err(HpackError::Malformed);
            }
        }
    }
    // What is left must be the beginning of EOS, all ones, shorter than an octet (§5.2).
    if bits > 7 || pending != (1 << bits) - 1 {
        return Err(HpackError::Malformed);
    }
    Ok(text.into_boxed_slice())
}

/// Encodes `text`; only tests need it, to play other peers.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut pending, mut bits) = (Vec::new(), 0u64, 0);
    for &octet in text {
        let length = usize::from(LENGTHS[usize::from(octet)]);
        let begin = CODE.start[length] as usize;
        let rank = CODE.symbols[begin..]
            .iter()
            .position(|&symbol| symbol == u16::from(octet))
            .unwrap();
        pending = pending << length | u64::from(CODE.first[length] + rank as u32);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push((pending >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push((pending << (8 - bits)) as u8 | 0xff >> bits);
    }
    out
}
