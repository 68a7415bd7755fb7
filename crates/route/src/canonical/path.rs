//! Paths.

use std::borrow::Cow;

use super::{Normalization, Refusal, escaped};

/// The one form of a path (without query). Idempotent: the form of a form is itself.
pub fn path(raw: &str, normalization: Normalization) -> Result<Cow<'_, str>, Refusal> {
    let turned = normalization != Normalization::None && raw.starts_with('\\');
    if !turned && !raw.starts_with('/') {
        return Err(Refusal::RelativePath);
    }
    if is_plain(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    let decoded = decode(raw, normalization)?;
    if normalization == Normalization::None {
        return Ok(Cow::Borrowed(raw));
    }
    let text = segments(&decoded, normalization)?;
    Ok(if text == raw {
        Cow::Borrowed(raw)
    } else {
        Cow::Owned(text)
    })
}

/// A path in a user's rule, written so that it equals canonical paths: encoded characters that need no encoding are decoded, the
/// others have upper-case digits. What is no valid encoding stays.
pub fn literal(text: &str) -> Cow<'_, str> {
    if !text.contains('%') && text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, escaped(bytes, at)) {
            (b'%', Some(value)) => {
                push_escaped(&mut out, value);
                at += 2;
            }
            (byte, _) if byte.is_ascii() => out.push(char::from(*byte)),
            (byte, _) => push_escape(&mut out, *byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

/// Nothing in it that any setting would change or refuse: the usual case, seen in one pass.
fn is_plain(bytes: &[u8]) -> bool {
    let mut previous = 0;
    for byte in bytes {
        let plain = match byte {
            b'/' => previous != b'/',
            // A dot after a slash may begin a dot segment.
            b'.' => previous != b'/',
            b'%' | b'\\' | b'#' | b';' | 0x00..=b' ' | 0x7f.. => false,
            _ => true,
        };
        if !plain {
            return false;
        }
        previous = *byte;
    }
    true
}

/// Escapes in one form, `\` as `/`; refuses what has no form.
fn decode(raw: &str, normalization: Normalization) -> Result<String, Refusal> {
    let bytes = raw.as_bytes();
    let strict = normalization != Normalization::None;
    let slashes = normalization == Normalization::DecodeAndMergeSlashes;
    let mut out = String::with_capacity(bytes.len());
    let mut utf8 = Utf8Check::default();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'#' => return Err(Refusal::Fragment),
            0x00..=b' ' | 0x7f => return Err(Refusal::ControlCharacter),
            b'%' => match escaped(bytes, at) {
                None if strict => return Err(Refusal::BadEscape),
                None => out.push('%'),
                Some(value) => {
                    if value < b' ' || value == 0x7f {
                        return Err(Refusal::ControlCharacter);
                    }
                    utf8.next(value)?;
                    match value {
                        b'/' | b'\\' if slashes => out.push('/'),
                        value => push_escaped(&mut out, value),
                    }
                    at += 2;
                }
            },
            b'\\' => out.push('/'),
            byte if byte.is_ascii() => {
                utf8.next(*byte)?;
                out.push(char::from(*byte));
            }
            byte => push_escape(&mut out, *byte),
        }
        at += 1;
    }
    Ok(out)
}

/// Decoded when it needs no encoding (RFC 3986, 2.3), else `%XX`.
fn push_escaped(out: &mut String, value: u8) {
    if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
        out.push(char::from(value));
    } else {
        push_escape(out, value);
    }
}

fn push_escape(out: &mut String, value: u8) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    out.push('%');
    for digit in [value >> 4, value & 15] {
        out.extend(DIGITS.get(usize::from(digit)));
    }
}

/// Dot segments away, slashes merged if wanted.
fn segments(text: &str, normalization: Normalization) -> Result<String, Refusal> {
    let merge = matches!(
        normalization,
        Normalization::MergeSlashes | Normalization::DecodeAndMergeSlashes
    );
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = text.strip_prefix('/').unwrap_or(text).split('/').peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // `/a/..` is a directory: it ends with a slash.
                if last {
                    kept.push("");
                }
            }
            _ if is_dot_with_parameters(segment) => return Err(Refusal::DotParameters),
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(text.len());
    // Only now: `/a//../b` is `/a/b` (RFC 3986), not `/b`.
    for (index, segment) in kept.iter().enumerate() {
        if merge && segment.is_empty() && index + 1 < kept.len() {
            continue;
        }
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

fn is_dot_with_parameters(segment: &str) -> bool {
    let name = segment
        .split_once(';')
        .map(|(name, _)| name)
        .or_else(|| segment.split_once("%3B").map(|(name, _)| name));
    matches!(name, Some("." | ".."))
}

/// Finds overlong forms and code points that do not exist in encoded bytes. Other encodings than UTF-8 pass: applications have them.
#[derive(Default)]
struct Utf8Check {
    previous: u8,
}

impl Utf8Check {
    fn next(&mut self, byte: u8) -> Result<(), Refusal> {
        let previous = std::mem::replace(&mut self.previous, byte);
        let continues = (0x80..=0xbf).contains(&byte);
        let overlong = continues
            && match previous {
                0xc0 | 0xc1 => true,
                0xe0 => byte < 0xa0,
                0xf0 => byte < 0x90,
                0xf4 => byte > 0x8f,
                0xf5..=0xff => true,
                _ => false,
            };
        if overlong {
            return Err(Refusal::BadUtf8);
        }
        Ok(())
    }
}
