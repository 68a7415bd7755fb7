//! Finds fields of an Authorization that this version does not know.
//!
//! The generated decoder drops unknown fields without a word, and with them a condition that a newer control plane
//! wants enforced. So the raw bytes are walked once more against the field numbers below.

use crate::limits::SCAN_DEPTH;

/// What is known of a message: field numbers, and the message that a field holds.
struct Known {
    fields: &'static [(u32, Option<&'static Known>)],
}

static AUTHORIZATION: Known = Known {
    fields: &[
        (1, None),
        (2, None),
        (3, None),
        (4, None),
        (5, Some(&RULE)),
        (6, None),
        (7, None), // extensions: seen by the conversion
    ],
};
static RULE: Known = Known {
    fields: &[(1, Some(&CLAUSE))],
};
static CLAUSE: Known = Known {
    fields: &[(2, Some(&MATCH))],
};
static MATCH: Known = Known {
    fields: &[
        (1, Some(&TEXT)),
        (2, Some(&TEXT)),
        (3, Some(&TEXT)),
        (4, Some(&TEXT)),
        (5, Some(&PAIR)),
        (6, Some(&PAIR)),
        (7, Some(&PAIR)),
        (8, Some(&PAIR)),
        (9, None),
        (10, None),
        (11, Some(&PAIR)),
        (12, Some(&PAIR)),
        (13, None), // extensions: seen by the conversion
    ],
};
/// StringMatch; `presence` is an empty message.
static TEXT: Known = Known {
    fields: &[(1, None), (2, None), (3, None), (4, Some(&EMPTY))],
};
/// Address and ServiceAccountMatch.
static PAIR: Known = Known {
    fields: &[(1, None), (2, None)],
};
static EMPTY: Known = Known { fields: &[] };

/// Path of the first unknown field of an Authorization, for example `5.1.2.14`; an error when the bytes are no message.
pub(crate) fn unknown_field(bytes: &[u8]) -> Result<Option<String>, String> {
    let mut path = Vec::new();
    let found = walk(bytes, &AUTHORIZATION, &mut path)?;
    let text = || {
        path.iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(".")
    };
    Ok(found.then(text))
}

/// True when there is an unknown field; `path` then leads to it.
fn walk(mut bytes: &[u8], known: &Known, path: &mut Vec<u32>) -> Result<bool, String> {
    if path.len() >= SCAN_DEPTH {
        return Err("nested too deeply".to_owned());
    }
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let number = u32::try_from(key >> 3).map_err(|_| "field number out of range".to_owned())?;
        let value = value(&mut bytes, key & 7)?;
        path.push(number);
        let Some((_, inner)) = known.fields.iter().find(|(n, _)| *n == number) else {
            return Ok(true);
        };
        if let (Some(inner), Some(value)) = (inner, value)
            && walk(value, inner, path)?
        {
            return Ok(true);
        }
        path.pop();
    }
    Ok(false)
}

/// Takes one value; the bytes of a length-delimited one.
fn value<'a>(bytes: &mut &'a [u8], wire_type: u64) -> Result<Option<&'a [u8]>, String> {
    match wire_type {
        0 => varint(bytes).map(|_| None),
        1 => take(bytes, 8).map(|_| None),
        2 => {
            let length = varint(bytes)?;
            let length = usize::try_from(length).map_err(|_| "length out of range".to_owned())?;
            take(bytes, length).map(Some)
        }
        5 => take(bytes, 4).map(|_| None),
        other => Err(format!("wire type {other}")),
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or("cut short")?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err("bad varint".to_owned())
}
