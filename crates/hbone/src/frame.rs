//! HTTP/2 frames (RFC 9113, sections 4 and 6): heads for those we send, and a parser for what arrives.
//!
//! The parser is cut-through: DATA is passed on as its bytes arrive, as slices of the receive buffer, never waiting for
//! the end of the frame. All other frames are small, and collected.

#[cfg(test)]
mod tests;
mod wire;

pub(crate) use wire::{code, flag, kind, setting};

use crate::limits;

/// Bytes of a frame's head.
pub(crate) const HEAD: usize = 9;
/// What a client says first (§3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The peer broke the protocol in a way that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: u32,
    pub(crate) what: &'static str,
}

impl Violation {
    pub(crate) const fn protocol(what: &'static str) -> Self {
        Self {
            code: code::PROTOCOL_ERROR,
            what,
        }
    }

    pub(crate) const fn size(what: &'static str) -> Self {
        Self {
            code: code::FRAME_SIZE_ERROR,
            what,
        }
    }

    pub(crate) const fn flood(what: &'static str) -> Self {
        Self {
            code: code::ENHANCE_YOUR_CALM,
            what,
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) len: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn encode(self) -> [u8; HEAD] {
        let [_, a, b, c] = (self.len as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    fn decode([a, b, c, kind, flags, d, e, f, g]: [u8; HEAD]) -> Self {
        Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The highest bit is reserved and ignored (§4.1).
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// Some bytes of a DATA frame, or its end.
    Data {
        stream: u32,
        payload: &'a [u8],
        /// Bytes that count for flow control: payload and padding.
        flow: usize,
        /// The stream ends after `payload`.
        end_stream: bool,
        /// A whole frame without payload, and not the last of its stream.
        empty: bool,
    },
    /// A complete header block.
    Headers {
        stream: u32,
        block: Vec<u8>,
        end_stream: bool,
    },
    /// RST_STREAM.
    Reset { stream: u32, code: u32 },
    /// SETTINGS, all values in order.
    Settings(Vec<(u16, u32)>),
    /// The peer knows our SETTINGS.
    SettingsAck,
    /// PING, to be answered.
    Ping([u8; 8]),
    /// The answer to a PING.
    Pong([u8; 8]),
    /// GOAWAY.
    GoAway { last: u32, code: u32 },
    /// WINDOW_UPDATE; stream 0 is the connection.
    WindowUpdate { stream: u32, increment: u32 },
    /// PRIORITY or a frame type we do not know; nothing to do, but not for free.
    Ignored,
}

/// Splits what arrives into events, however it is cut into pieces.
pub(crate) struct Parser {
    state: State,
    /// Head bytes, or the payload of a frame that is collected.
    partial: Vec<u8>,
    /// A header block that CONTINUATION must complete.
    block: Option<Block>,
    max_frame: usize,
    max_block: usize,
}

enum State {
    Head,
    Collect(Head),
    /// Ignores so many bytes, then reports.
    Skip(usize),
    /// The octet that says how much padding follows.
    PadLength(Head),
    Data(Data),
}

struct Data {
    stream: u32,
    left: usize,
    padding: usize,
    end_stream: bool,
    /// Padding octets to be counted with the next event.
    flow: usize,
    empty: bool,
}

struct Block {
    stream: u32,
    end_stream: bool,
    bytes: Vec<u8>,
    fragments: usize,
}

impl Parser {
    /// Frames may have `max_frame` bytes, header blocks (compressed) `max_block`.
    pub(crate) fn new(max_frame: usize, max_block: usize) -> Self {
        Self {
            state: State::Head,
            partial: Vec::new(),
            block: None,
            max_frame,
            max_block,
        }
    }

    /// The next event in `input`, which is advanced; none when `input` is used up.
    pub(crate) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Event<'a>>, Violation> {
        loop {
            match &mut self.state {
                State::Head => {
                    let Some(head) = self.head(input) else {
                        return Ok(None);
                    };
                    self.state = self.begin(head)?;
                }
                State::Collect(head) => {
                    let head = *head;
                    if !collect(&mut self.partial, input, head.len) {
                        return Ok(None);
                    }
                    self.state = State::Head;
                    let payload = std::mem::take(&mut self.partial);
                    if let Some(event) = self.complete(head, &payload)? {
                        return Ok(Some(event));
                    }
                }
                State::Skip(left) => {
                    let n = (*left).min(input.len());
                    *input = &input[n..];
                    *left -= n;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Head;
                    return Ok(Some(Event::Ignored));
                }
                State::PadLength(head) => {
                    let Some((&padding, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    let padding = usize::from(padding);
                    let Some(left) = (head.len - 1).checked_sub(padding) else {
                        return Err(Violation::protocol("padding longer than its frame"));
                    };
                    self.state = State::Data(Data::new(*head, left, padding, 1));
                }
                State::Data(data) => {
                    let Some((event, done)) = data.next(input) else {
                        return Ok(None);
                    };
                    if done {
                        self.state = State::Head;
                    }
                    return Ok(Some(event));
                }
            }
        }
    }

    /// The next head, directly from `input` if it is there in one piece.
    fn head(&mut self, input: &mut &[u8]) -> Option<Head> {
        if self.partial.is_empty()
            && let Some((head, rest)) = input.split_first_chunk::<HEAD>()
        {
            *input = rest;
            return Some(Head::decode(*head));
        }
        if !collect(&mut self.partial, input, HEAD) {
            return None;
        }
        let head = self
            .partial
            .first_chunk::<HEAD>()
            .map(|head| Head::decode(*head));
        self.partial.clear();
        head
    }

    fn begin(&mut self, head: Head) -> Result<State, Violation> {
        if head.len > self.max_frame {
            return Err(Violation::size("a frame larger than SETTINGS allow"));
        }
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(Violation::protocol("a header block was interrupted"));
        }
        let on_stream = matches!(
            head.kind,
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION
        );
        let on_connection = matches!(head.kind, kind::SETTINGS | kind::PING | kind::GOAWAY);
        if on_stream && head.stream == 0 || on_connection && head.stream != 0 {
            return Err(Violation::protocol(
                "a frame on a stream where it cannot be",
            ));
        }
        match head.kind {
            kind::DATA if head.has(flag::PADDED) => {
                if head.len == 0 {
                    return Err(Violation::size("a padded frame without padding length"));
                }
                Ok(State::PadLength(head))
            }
            kind::DATA => Ok(State::Data(Data::new(head, head.len, 0, 0))),
            kind::HEADERS => self.header_block(head),
            kind::CONTINUATION => self.continuation(head),
            kind::SETTINGS
                if !head.len.is_multiple_of(6) || head.has(flag::ACK) && head.len != 0 =>
            {
                Err(Violation::size("SETTINGS of a wrong length"))
            }
            kind::SETTINGS if head.len > limits::MAX_SETTINGS * 6 => {
                Err(Violation::flood("too many settings in one frame"))
            }
            kind::PING if head.len != 8 => Err(Violation::size("PING of a wrong length")),
            kind::RST_STREAM | kind::WINDOW_UPDATE if head.len != 4 => Err(Violation::size(
                "RST_STREAM or WINDOW_UPDATE of a wrong length",
            )),
            kind::GOAWAY if head.len < 8 => Err(Violation::size("GOAWAY of a wrong length")),
            kind::GOAWAY if head.len > limits::MAX_GOAWAY => {
                Err(Violation::flood("GOAWAY with too much debug data"))
            }
            kind::PUSH_PROMISE => Err(Violation::protocol("PUSH_PROMISE, which we have forbidden")),
            kind::SETTINGS | kind::PING | kind::RST_STREAM | kind::WINDOW_UPDATE | kind::GOAWAY => {
                Ok(State::Collect(head))
            }
            // PRIORITY is deprecated (§5.3.2); unknown types must be ignored (§4.1). A PRIORITY of a wrong length is a stream error, of a
            // stream that need not exist: ignored as well.
            _ => Ok(State::Skip(head.len)),
        }
    }

    fn header_block(&mut self, head: Head) -> Result<State, Violation> {
        if head.len > self.max_block + limits::HEADERS_EXTRA {
            return Err(Violation::flood(
                "a header block larger than SETTINGS allow",
            ));
        }
        Ok(State::Collect(head))
    }

    fn continuation(&mut self, head: Head) -> Result<State, Violation> {
        let Some(block) = &mut self.block else {
            return Err(Violation::protocol("CONTINUATION without HEADERS"));
        };
        block.fragments += 1;
        if block.bytes.len() + head.len > self.max_block
            || block.fragments > limits::MAX_CONTINUATIONS
        {
            return Err(Violation::flood(
                "a header block larger than SETTINGS allow",
            ));
        }
        Ok(State::Collect(head))
    }

    /// A collected frame is complete.
    fn complete(
        &mut self,
        head: Head,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, Violation> {
        let word = |at: usize| {
            payload
                .get(at..at + 4)
                .and_then(|word| word.try_into().ok())
                .map_or(0, u32::from_be_bytes)
        };
        let eight = || payload.first_chunk::<8>().copied().unwrap_or_default();
        Ok(Some(match head.kind {
            kind::HEADERS => {
                let bytes = fragment(head, payload)?.to_vec();
                let block = Block {
                    stream: head.stream,
                    end_stream: head.has(flag::END_STREAM),
                    bytes,
                    fragments: 0,
                };
                return Ok(self.block_done(block, head.has(flag::END_HEADERS)));
            }
            kind::CONTINUATION => {
                let Some(mut block) = self.block.take() else {
                    return Err(Violation::protocol("CONTINUATION without HEADERS"));
                };
                block.bytes.extend_from_slice(payload);
                return Ok(self.block_done(block, head.has(flag::END_HEADERS)));
            }
            kind::RST_STREAM => Event::Reset {
                stream: head.stream,
                code: word(0),
            },
            kind::SETTINGS if head.has(flag::ACK) => Event::SettingsAck,
            kind::SETTINGS => Event::Settings(
                payload
                    .as_chunks::<6>()
                    .0
                    .iter()
                    .map(|&[a, b, c, d, e, f]| {
                        (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))
                    })
                    .collect(),
            ),
            kind::PING if head.has(flag::ACK) => Event::Pong(eight()),
            kind::PING => Event::Ping(eight()),
            kind::GOAWAY => Event::GoAway {
                last: word(0) & 0x7fff_ffff,
                code: word(4),
            },
            kind::WINDOW_UPDATE => Event::WindowUpdate {
                stream: head.stream,
                increment: word(0) & 0x7fff_ffff,
            },
            _ => Event::Ignored,
        }))
    }

    fn block_done(&mut self, block: Block, complete: bool) -> Option<Event<'static>> {
        if !complete {
            self.block = Some(block);
            return None;
        }
        Some(Event::Headers {
            stream: block.stream,
            block: block.bytes,
            end_stream: block.end_stream,
        })
    }
}

impl Data {
    fn new(head: Head, left: usize, padding: usize, flow: usize) -> Self {
        Self {
            stream: head.stream,
            left,
            padding,
            end_stream: head.has(flag::END_STREAM),
            flow,
            empty: left == 0,
        }
    }

    /// What `input` has of this frame, and whether the frame is done; none if it has nothing.
    fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<(Event<'a>, bool)> {
        let (payload, rest) = input.split_at(self.left.min(input.len()));
        self.left -= payload.len();
        let padding = if self.left == 0 {
            self.padding.min(rest.len())
        } else {
            0
        };
        self.padding -= padding;
        *input = &rest[padding..];
        let done = self.left == 0 && self.padding == 0;
        let flow = std::mem::take(&mut self.flow) + payload.len() + padding;
        if flow == 0 && !done {
            return None;
        }
        let event = Event::Data {
            stream: self.stream,
            payload,
            flow,
            end_stream: done && self.end_stream,
            empty: done && self.empty && !self.end_stream,
        };
        Some((event, done))
    }
}

/// The header block fragment of a HEADERS frame, without padding and priority.
fn fragment(head: Head, payload: &[u8]) -> Result<&[u8], Violation> {
    let wrong = Violation::protocol("padding longer than its frame");
    let mut rest = payload;
    if head.has(flag::PADDED) {
        let (&padding, after) = rest
            .split_first()
            .ok_or(Violation::size("a padded frame without padding length"))?;
        let keep = after.len().checked_sub(usize::from(padding)).ok_or(wrong)?;
        rest = &after[..keep];
    }
    if head.has(flag::PRIORITY) {
        rest = rest
            .get(5..)
            .ok_or(Violation::size("HEADERS too short for its priority"))?;
    }
    Ok(rest)
}

/// Moves bytes from `input` until `partial` has `want`; whether it has.
fn collect(partial: &mut Vec<u8>, input: &mut &[u8], want: usize) -> bool {
    let n = (want - partial.len()).min(input.len());
    partial.extend_from_slice(&input[..n]);
    *input = &input[n..];
    partial.len() == want
}
