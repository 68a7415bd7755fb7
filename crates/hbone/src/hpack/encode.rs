//! Encoding: literals without indexing, so that no state is shared with the peer.

/// Appends a field. Names that the static table knows (`:method`, `:authority`, `:status`) are referred to by index.
pub(crate) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    let index = match name {
        ":authority" => 1,
        ":method" => 2,
        ":status" => 8,
        _ => 0,
    };
    block.push(index);
    if index == 0 {
        string(block, name);
    }
    string(block, value);
}

/// Appends `:status`.
pub(crate) fn status(block: &mut Vec<u8>, status: u16) {
    match status {
        200 => block.push(0x80 | 8),
        400 => block.push(0x80 | 12),
        404 => block.push(0x80 | 13),
        500 => block.push(0x80 | 14),
        other => literal(block, ":status", &other.to_string()),
    }
}

fn string(block: &mut Vec<u8>, text: &str) {
    integer(block, 7, text.len());
    block.extend_from_slice(text.as_bytes());
}

/// An integer with a prefix of `bits` bits whose higher bits are zero (§5.1).
fn integer(block: &mut Vec<u8>, bits: u32, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        block.push(value as u8);
        return;
    }
    block.push(mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}
