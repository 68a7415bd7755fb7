//! Inputs made from others: the same sequence for the same seed.

/// Longest input.
const LONGEST: usize = 4096;
/// Changes to one input, at most.
const CHANGES: u64 = 6;
/// Values at which something often ends.
const EDGES: [u64; 14] = [
    0,
    1,
    0x1f,
    0x20,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3fff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX,
];
/// Bytes that mean something to one parser or another.
const MEANINGFUL: &[u8] = b"\0\r\n\t :,;.=/[]{}\"\\%#*-_0a\x7f\xff";

/// A small generator (SplitMix64); nothing here is secret.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// With a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `end`; 0 if that is 0.
    fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            end => (self.roll() % end as u64) as usize,
        }
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = (length - start).min(64);
        start..start + self.below(most + 1)
    }
}

/// A new input out of known ones.
pub fn next(dice: &mut Dice, known: &[Vec<u8>]) -> Vec<u8> {
    let mut input = known
        .get(dice.below(known.len()))
        .cloned()
        .unwrap_or_default();
    for _ in 0..=dice.roll() % CHANGES {
        change(dice, &mut input, known);
        input.truncate(LONGEST);
    }
    input
}

fn change(dice: &mut Dice, input: &mut Vec<u8>, known: &[Vec<u8>]) {
    let at = dice.below(input.len());
    match dice.below(9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = dice.roll() as u8;
            }
        }
        2 => {
            let byte = MEANINGFUL[dice.below(MEANINGFUL.len())];
            input.insert(at, byte);
        }
        3 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = MEANINGFUL[dice.below(MEANINGFUL.len())];
            }
        }
        4 => drop(input.drain(dice.range(input.len()))),
        5 => {
            let copy = input[dice.range(input.len())].to_vec();
            input.splice(at..at, copy);
        }
        6 => {
            let other = &known[dice.below(known.len())];
            let piece = other[dice.range(other.len())].to_vec();
            let end = at + dice.below(input.len() - at + 1);
            input.splice(at..end, piece);
        }
        7 => {
            let edge = EDGES[dice.below(EDGES.len())].to_be_bytes();
            let width = [1, 2, 3, 4, 8][dice.below(5)];
            let edge = &edge[8 - width..];
            let end = (at + width).min(input.len());
            input.splice(at..end, edge.iter().copied());
        }
        _ => input.truncate(at),
    }
}
