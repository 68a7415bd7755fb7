//! Base64 (RFC 4648), as much as WebSocket handshakes need.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        for n in 0..4 {
            if n <= group.len() {
                let six = bits >> (18 - 6 * n) & 63;
                text.push(ALPHABET[six as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}
