//! What arrives on a tunnel.

use std::io::IoSlice;
use std::rc::Rc;

use super::state::Inner;
use super::{Phase, Role, driver};
use crate::connect::Head;
use crate::frame::{Event, PREFACE, Violation, code, flag, kind, setting};
use crate::hpack::{self, HpackError};
use crate::limits;
use crate::server::Incoming;
use crate::stream::{Answer, Fate, StreamState};
use crate::{Error, Settings};

/// DATA that is gathered for one stream, to be written to its application by one system call.
pub(super) struct Delivery<'a> {
    stream: Option<Rc<StreamState>>,
    slices: [IoSlice<'a>; limits::SLICES_PER_WRITE],
    count: usize,
    bytes: usize,
}

impl<'a> Delivery<'a> {
    pub(super) fn new() -> Self {
        Self {
            stream: None,
            slices: [IoSlice::new(&[]); limits::SLICES_PER_WRITE],
            count: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, payload: &'a [u8]) {
        self.slices[self.count] = IoSlice::new(payload);
        self.count += 1;
        self.bytes += payload.len();
    }
}

impl Inner {
    /// Takes in opened bytes.
    pub(super) fn take_in<'a>(
        &mut self,
        mut input: &'a [u8],
        delivery: &mut Delivery<'a>,
        settings: &Settings,
    ) -> Result<(), Violation> {
        self.heard = true;
        if self.preface_left > 0 {
            let n = self.preface_left.min(input.len());
            let at = PREFACE.len() - self.preface_left;
            if input[..n] != PREFACE[at..at + n] {
                return Err(Violation::protocol("no HTTP/2 preface"));
            }
            self.preface_left -= n;
            input = &input[n..];
        }
        while let Some(event) = self.parser.next(&mut input)? {
            if !self.settled && !matches!(event, Event::Settings(_)) {
                return Err(Violation::protocol("SETTINGS must come first"));
            }
            self.handle(event, delivery, settings)?;
        }
        Ok(())
    }

    fn handle<'a>(
        &mut self,
        event: Event<'a>,
        delivery: &mut Delivery<'a>,
        settings: &Settings,
    ) -> Result<(), Violation> {
        match event {
            Event::Data {
                stream,
                payload,
                flow,
                end_stream,
                empty,
            } => {
                if empty {
                    self.budget.spend("empty DATA frames")?;
                }
                self.data(stream, payload, flow, end_stream, delivery)
            }
            other => {
                // Order between a stream's DATA and other frames must hold.
                self.deliver(delivery);
                self.control(other, settings)
            }
        }
    }

    fn data<'a>(
        &mut self,
        id: u32,
        payload: &'a [u8],
        flow: usize,
        end_stream: bool,
        delivery: &mut Delivery<'a>,
    ) -> Result<(), Violation> {
        const OVERRUN: Violation = Violation {
            code: code::FLOW_CONTROL_ERROR,
            what: "DATA beyond the window",
        };
        if !self.receive.arrived(flow) {
            return Err(OVERRUN);
        }
        // Connection credit comes back at receipt: a stream whose application does not read must not stop its neighbours.
        // What it may hold is bounded by its own window.
        if let Some(increment) = self.receive.release(flow) {
            self.window_update(0, increment);
        }
        if delivery
            .stream
            .as_ref()
            .is_none_or(|stream| stream.id != id)
            || delivery.count == limits::SLICES_PER_WRITE
        {
            self.deliver(delivery);
            let Some(stream) = self.find(id) else {
                return self.data_on_closed_stream(id);
            };
            if stream.received_end.get() {
                let stream = Rc::clone(stream);
                self.budget.spend("DATA after the end of a stream")?;
                stream.decide(Fate::Reset(code::STREAM_CLOSED));
                self.reset(&stream, code::STREAM_CLOSED);
                return Ok(());
            }
            delivery.stream = Some(Rc::clone(stream));
        }
        let Some(stream) = &delivery.stream else {
            return Ok(());
        };
        if !stream.arrived(flow) {
            return Err(OVERRUN);
        }
        if flow > payload.len()
            && let Some(increment) = stream.release(flow - payload.len())
        {
            self.window_update(id, increment);
        }
        if !payload.is_empty() {
            delivery.push(payload);
        }
        if end_stream && let Some(stream) = self.deliver(delivery) {
            stream.received_end.set(true);
            stream.wake();
            self.forget_if_done(&stream);
        }
        Ok(())
    }

    /// Hands what was gathered to its stream's application, which is returned.
    pub(super) fn deliver(&mut self, delivery: &mut Delivery<'_>) -> Option<Rc<StreamState>> {
        let stream = delivery.stream.take()?;
        if delivery.bytes > 0 {
            let taken = stream.deliver(&delivery.slices[..delivery.count], delivery.bytes);
            (delivery.count, delivery.bytes) = (0, 0);
            if let Some(increment) = stream.release(taken) {
                self.window_update(stream.id, increment);
            }
        }
        Some(stream)
    }

    /// Streams that are over may still have bytes under way (RFC 9113 §5.1).
    fn data_on_closed_stream(&mut self, id: u32) -> Result<(), Violation> {
        self.check_not_idle(id)
    }

    fn check_not_idle(&self, id: u32) -> Result<(), Violation> {
        let known = match self.role {
            Role::Client => id < self.next_stream && id % 2 == 1,
            Role::Server => id <= self.last_peer_stream && id % 2 == 1,
        };
        if known {
            Ok(())
        } else {
            Err(Violation::protocol(
                "a frame on a stream that was never opened",
            ))
        }
    }

    fn control(&mut self, event: Event<'_>, settings: &Settings) -> Result<(), Violation> {
        match event {
            Event::Headers {
                stream,
                block,
                end_stream,
            } => self.headers(stream, &block, end_stream, settings),
            Event::Reset { stream, code } => self.stream_reset(stream, code),
            Event::Settings(values) => {
                self.settled = true;
                self.budget.spend("SETTINGS")?;
                values
                    .into_iter()
                    .try_for_each(|(id, value)| self.setting(id, value, settings))?;
                let sent = self.writer.frame(kind::SETTINGS, flag::ACK, 0, &[]);
                self.survive(sent);
                Ok(())
            }
            Event::Ping(payload) => {
                self.budget.spend("PING")?;
                let sent = self.writer.frame(kind::PING, flag::ACK, 0, &payload);
                self.survive(sent);
                Ok(())
            }
            Event::Pong(payload) => {
                if payload == driver::DRAIN_PING && matches!(self.phase, Phase::Announced) {
                    self.phase = Phase::Leaving;
                    self.go_away(self.last_peer_stream, code::NO_ERROR);
                }
                Ok(())
            }
            Event::GoAway { last, code } => {
                self.peer_leaves(last, code);
                Ok(())
            }
            Event::WindowUpdate { stream, increment } => self.more_window(stream, increment),
            Event::SettingsAck | Event::Ignored => self.budget.spend("frames of no use"),
            Event::Data { .. } => Ok(()),
        }
    }

    fn setting(&mut self, id: u16, value: u32, settings: &Settings) -> Result<(), Violation> {
        match id {
            setting::ENABLE_PUSH if value > 1 || value == 1 && self.role == Role::Client => {
                Err(Violation::protocol("an impossible ENABLE_PUSH"))
            }
            setting::MAX_CONCURRENT_STREAMS => {
                self.peer_max_streams = value.min(settings.pool_max_streams);
                Ok(())
            }
            setting::INITIAL_WINDOW_SIZE => {
                if value > i32::MAX as u32 {
                    return Err(Violation {
                        code: code::FLOW_CONTROL_ERROR,
                        what: "an impossible INITIAL_WINDOW_SIZE",
                    });
                }
                let change = i64::from(value) - i64::from(self.peer_window);
                self.peer_window = value;
                if self
                    .streams
                    .iter()
                    .all(|stream| stream.adjust_send_window(change))
                {
                    Ok(())
                } else {
                    Err(Violation {
                        code: code::FLOW_CONTROL_ERROR,
                        what: "a window beyond 2^31-1",
                    })
                }
            }
            setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                Err(Violation::protocol("an impossible MAX_FRAME_SIZE"))
            }
            // Our frames are smaller than any MAX_FRAME_SIZE, our encoder has no table, our requests fit any sensible list size.
            _ => Ok(()),
        }
    }

    fn more_window(&mut self, id: u32, increment: u32) -> Result<(), Violation> {
        if id == 0 {
            if increment == 0 {
                return Err(Violation::protocol("WINDOW_UPDATE of 0"));
            }
            let was_empty = self.send.available() == 0;
            self.send.adjust(i64::from(increment))?;
            if was_empty {
                self.wake_waiting();
            }
            return Ok(());
        }
        let Some(stream) = self.find(id).map(Rc::clone) else {
            return self.check_not_idle(id);
        };
        if increment > 0 && stream.adjust_send_window(i64::from(increment)) {
            return Ok(());
        }
        self.budget.spend("impossible WINDOW_UPDATEs")?;
        let code = if increment == 0 {
            code::PROTOCOL_ERROR
        } else {
            code::FLOW_CONTROL_ERROR
        };
        stream.decide(Fate::Reset(code));
        self.reset(&stream, code);
        Ok(())
    }

    fn stream_reset(&mut self, id: u32, code: u32) -> Result<(), Violation> {
        let Some(stream) = self.find(id).map(Rc::clone) else {
            return self.check_not_idle(id);
        };
        if !stream.answered.get() {
            // Rapid reset: work was begun for nothing.
            self.budget
                .spend("connections that are reset before they are answered")?;
        }
        self.forget(id);
        stream.peer_reset(code);
        Ok(())
    }

    fn headers(
        &mut self,
        id: u32,
        block: &[u8],
        end_stream: bool,
        settings: &Settings,
    ) -> Result<(), Violation> {
        let limit = match self.role {
            Role::Client => settings.client_header_list,
            Role::Server => settings.server_header_list,
        };
        let mut head = Head::default();
        self.decoder
            .decode(block, limit as usize, |name, value| head.field(name, value))
            .map_err(|error| match error {
                HpackError::Malformed => Violation {
                    code: code::COMPRESSION_ERROR,
                    what: "a header block that cannot be read",
                },
                HpackError::TooLarge => {
                    Violation::flood("a header list larger than SETTINGS allow")
                }
            })?;
        match self.find(id).map(Rc::clone) {
            Some(stream) if self.role == Role::Client && !stream.answered.get() => {
                self.answered(&stream, head, end_stream)
            }
            Some(stream) => self.trailers(&stream, end_stream),
            None if self.role == Role::Server && id > self.last_peer_stream && id % 2 == 1 => {
                self.last_peer_stream = id;
                self.requested(id, head, end_stream, settings)
            }
            None => {
                self.check_not_idle(id)?;
                self.budget.spend("headers on streams that are over")
            }
        }
    }

    fn trailers(&mut self, stream: &Rc<StreamState>, end_stream: bool) -> Result<(), Violation> {
        if !end_stream || stream.received_end.get() {
            self.budget.spend("headers in the middle of a stream")?;
            stream.decide(Fate::Reset(code::PROTOCOL_ERROR));
            self.reset(stream, code::PROTOCOL_ERROR);
            return Ok(());
        }
        stream.received_end.set(true);
        stream.wake();
        self.forget_if_done(stream);
        Ok(())
    }

    /// Client: the answer to CONNECT.
    fn answered(
        &mut self,
        stream: &Rc<StreamState>,
        head: Head,
        end_stream: bool,
    ) -> Result<(), Violation> {
        let Some(status) = head.answer().filter(|status| (100..600).contains(status)) else {
            stream.decide(Fate::Reset(code::PROTOCOL_ERROR));
            self.reset(stream, code::PROTOCOL_ERROR);
            return Ok(());
        };
        if status < 200 {
            return self.budget.spend("informational answers");
        }
        stream.answered.set(true);
        *stream.answer.borrow_mut() = Some(Answer {
            status,
            baggage: head.baggage,
        });
        if end_stream {
            stream.received_end.set(true);
        }
        stream.wake();
        Ok(())
    }

    /// Server: a new stream.
    fn requested(
        &mut self,
        id: u32,
        head: Head,
        end_stream: bool,
        settings: &Settings,
    ) -> Result<(), Violation> {
        let refuse = self.deaf
            || matches!(self.phase, Phase::Leaving)
            || self.streams.len() >= settings.max_streams as usize
            || self.requests.len() >= settings.max_streams as usize;
        if refuse {
            self.budget.spend("more streams than SETTINGS allow")?;
            let sent =
                self.writer
                    .frame(kind::RST_STREAM, 0, id, &code::REFUSED_STREAM.to_be_bytes());
            self.survive(sent);
            return Ok(());
        }
        if !head.is_connect() {
            self.budget.spend("malformed requests")?;
            return self.refuse_malformed(id);
        }
        let state = Rc::new(StreamState::new(
            id,
            settings.stream_window,
            self.peer_window,
        ));
        state.received_end.set(end_stream);
        self.streams.push(Rc::clone(&state));
        self.requests.push_back(Incoming { state, head });
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.wake();
        }
        Ok(())
    }

    fn refuse_malformed(&mut self, id: u32) -> Result<(), Violation> {
        let mut block = Vec::new();
        hpack::status(&mut block, 400);
        let sent = self
            .writer
            .frame(
                kind::HEADERS,
                flag::END_HEADERS | flag::END_STREAM,
                id,
                &block,
            )
            .and_then(|()| {
                self.writer
                    .frame(kind::RST_STREAM, 0, id, &code::NO_ERROR.to_be_bytes())
            });
        self.survive(sent);
        Ok(())
    }

    /// The peer takes no new streams; those above `last` it has not looked at.
    fn peer_leaves(&mut self, last: u32, code: u32) {
        let error = if code == code::NO_ERROR {
            Error::Closed
        } else {
            Error::GoAway { code }
        };
        if matches!(self.phase, Phase::Open | Phase::Announced) {
            self.phase = Phase::Leaving;
        }
        if self.role == Role::Client {
            let keep = self.streams.partition_point(|stream| stream.id <= last);
            for stream in self.streams.split_off(keep) {
                stream.decide(Fate::Unprocessed(error.clone()));
            }
        }
    }
}
