//! The head of an HTTP/1 request as bytes (RFC 9112): line ends, form, and how long the body is. Stricter than the
//! specification lets us be wherever two readers could differ.

use ::http::StatusCode;

use super::{Limits, Refusal};

/// How the body of a request is delimited, and what else the connection must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framing {
    pub(crate) body: Length,
    /// The client wants to speak something else from here on.
    pub(crate) upgrade: bool,
}

/// Of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Known(u64),
    Chunked,
}

/// Looks for the end of a head in growing bytes, and for line ends that no head may have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    /// Bytes that were looked at.
    at: usize,
    /// Where the current line begins.
    line: usize,
    lines: usize,
}

impl Scan {
    /// The length of the head, if it is all there. `bytes` are those from before and more.
    pub(crate) fn find_end(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, Refusal> {
        if let (0, Some(first)) = (self.lines, bytes.first())
            && !is_token(*first)
        {
            return Err(Refusal::bad("this is not HTTP"));
        }
        let allowed = &bytes[..bytes.len().min(limits.head + 1)];
        while let Some(n) = memchr::memchr(b'\n', &allowed[self.at..]) {
            let end = self.at + n;
            if end == self.line || allowed[end - 1] != b'\r' {
                return Err(Refusal::bad("a line that ends in LF alone"));
            }
            if end == self.line + 1 {
                return if end < limits.head {
                    Ok(Some(end + 1))
                } else {
                    Err(head_too_large(self.lines))
                };
            }
            (self.line, self.at) = (end + 1, end + 1);
            self.lines += 1;
            if self.lines > limits.headers + 1 {
                return Err(Refusal::too_large("too many headers"));
            }
        }
        self.at = allowed.len();
        if bytes.len() > limits.head {
            return Err(head_too_large(self.lines));
        }
        Ok(None)
    }
}

fn head_too_large(lines: usize) -> Refusal {
    if lines == 0 {
        Refusal::too_long()
    } else {
        Refusal::too_large("the headers are too large")
    }
}

/// Judges a whole head, its last empty line included.
pub(crate) fn judge(head: &[u8], limits: &Limits) -> Result<Framing, Refusal> {
    let mut lines = Lines(head);
    let http_11 = request_line(lines.next().unwrap_or_default(), limits)?;
    let mut fields = Fields::default();
    for line in lines {
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        fields.see(name, value)?;
    }
    let body = match (fields.chunked, fields.length) {
        (true, Some(_)) => {
            return Err(Refusal::bad(
                "both Transfer-Encoding and Content-Length are given",
            ));
        }
        (true, None) if !http_11 => {
            return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
        }
        (true, None) => Length::Chunked,
        (false, length) => Length::Known(length.unwrap_or(0)),
    };
    Ok(Framing {
        body,
        upgrade: fields.upgrade && http_11,
    })
}

/// `METHOD SP target SP HTTP/1.x`; whether it is HTTP/1.1.
fn request_line(line: &[u8], limits: &Limits) -> Result<bool, Refusal> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::bad("a malformed request line"));
    };
    if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
        return Err(Refusal::bad("a malformed method"));
    }
    if target.len() > limits.target {
        return Err(Refusal::too_long());
    }
    // A fragment never leaves a client; a backslash is a slash to some.
    let fine = |byte: &u8| {
        byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\' | b'"' | b'<' | b'>' | b'^' | b'`')
    };
    if target.is_empty() || !target.iter().all(fine) {
        return Err(Refusal::bad("a malformed target"));
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', a, b'.', b] if a.is_ascii_digit() && b.is_ascii_digit() => {
            Err(Refusal {
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                why: "an HTTP version that is not spoken here",
            })
        }
        _ => Err(Refusal::bad("a malformed HTTP version")),
    }
}

/// `name: value`, whitespace around the value taken off.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::bad("a header that is folded over lines"));
    }
    let colon = memchr::memchr(b':', line).ok_or(Refusal::bad("a header without a colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(Refusal::bad("a malformed header name"));
    }
    // Most values are plain text: one look per byte, no branches.
    let bad = value.iter().fold(false, |bad, &byte| {
        bad | (byte < 0x20 && byte != b'\t') | (byte == 0x7f)
    });
    if bad {
        return Err(Refusal::bad("a control character in a header"));
    }
    Ok((name, value.trim_ascii()))
}

/// What decides about the body.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Fields {
    fn see(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::bad("Content-Length is given more than once"));
                }
                self.length = Some(length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked {
                    return Err(Refusal::bad("Transfer-Encoding is given more than once"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::unsupported(
                        "a Transfer-Encoding other than chunked",
                    ));
                }
                self.chunked = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            _ => {}
        }
        Ok(())
    }
}

/// Digits and nothing else: no sign, no list, no more than 2^63.
fn length(value: &[u8]) -> Result<u64, Refusal> {
    const BAD: Refusal = Refusal::bad("a malformed Content-Length");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    let text = std::str::from_utf8(value).map_err(|_| BAD)?;
    match text.parse::<u64>() {
        Ok(length) if length <= i64::MAX as u64 => Ok(length),
        _ => Err(BAD),
    }
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            let b = byte as u8;
            table[byte] = b.is_ascii_alphanumeric()
                || matches!(
                    b,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            byte += 1;
        }
        table
    };
    TABLE[byte as usize]
}

/// Lines of a head whose line ends are known to be CRLF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.0)?;
        let line = &self.0[..end.saturating_sub(1)];
        self.0 = &self.0[end + 1..];
        Some(line)
    }
}

#[cfg(test)]
mod tests;
