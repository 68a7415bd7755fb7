//! What goes out: frames are sealed as they are made, into one buffer that is written by one system call per wake-up.

use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tulle_identity::channel::{KEY_UPDATE_RECORD, OVERHEAD, RecordError};

use crate::frame::{HEAD, Head, flag, kind};
use crate::limits;
use crate::socket;
use crate::transport::{MAX_PLAINTEXT, Transport};

/// Payload of a DATA frame: a frame fills a record, so that no peer waits for more than one record.
const MAX_PAYLOAD: usize = MAX_PLAINTEXT - HEAD;

/// The sending half of a tunnel.
pub(crate) struct Writer {
    pub(crate) transport: Transport,
    /// Borrowed from the worker while there is something to send. All of it is initialised; `start..end` is unsent.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// Why application bytes were not taken.
#[derive(Debug)]
pub(crate) enum DataError {
    /// The application's socket.
    App(io::Error),
    /// Our cipher.
    Record(RecordError),
}

impl Writer {
    /// `unsent` goes first: the end of the handshake.
    pub(crate) fn new(transport: Transport, unsent: Vec<u8>) -> Self {
        Self {
            transport,
            start: 0,
            end: unsent.len(),
            buffer: unsent,
        }
    }

    /// Sealed bytes that the socket has not taken yet.
    pub(crate) fn unsent(&self) -> usize {
        self.end - self.start
    }

    /// Whether applications may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.unsent() < limits::UNSENT_HIGH
    }

    /// Appends raw bytes as one record.
    pub(crate) fn raw(&mut self, plain: &[u8]) -> Result<(), RecordError> {
        debug_assert!(plain.len() <= MAX_PLAINTEXT);
        self.update_key()?;
        let (before, after) = self.transport.margins();
        let len = before + plain.len() + after;
        self.reserve(len);
        let record = &mut self.buffer[self.end..self.end + len];
        record[before..before + plain.len()].copy_from_slice(plain);
        self.transport.seal(record)?;
        self.end += len;
        Ok(())
    }

    /// Appends a frame; its payload must fit a record.
    pub(crate) fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> Result<(), RecordError> {
        debug_assert!(payload.len() <= MAX_PAYLOAD);
        self.update_key()?;
        let (before, after) = self.transport.margins();
        let len = before + HEAD + payload.len() + after;
        self.reserve(len);
        let record = &mut self.buffer[self.end..self.end + len];
        let head = Head {
            len: payload.len(),
            kind,
            flags,
            stream,
        };
        record[before..before + HEAD].copy_from_slice(&head.encode());
        record[before + HEAD..before + HEAD + payload.len()].copy_from_slice(payload);
        self.transport.seal(record)?;
        self.end += len;
        Ok(())
    }

    /// Reads an application's socket straight into DATA frames: at most `limit` bytes, at most `records` frames.
    /// 0 is the end of what the application sends.
    pub(crate) fn data(
        &mut self,
        stream: u32,
        app: &TcpStream,
        limit: usize,
        records: usize,
    ) -> Result<usize, DataError> {
        self.update_key().map_err(DataError::Record)?;
        let (before, after) = self.transport.margins();
        let (before, stride) = (before + HEAD, before + HEAD + MAX_PAYLOAD + after);
        let records = limit.div_ceil(MAX_PAYLOAD).min(records);
        self.reserve(records * stride);
        let area = &mut self.buffer[self.end..self.end + records * stride];
        let limit = limit.min(records * MAX_PAYLOAD);
        let n = if records == 1 {
            socket::read(app, &mut area[before..before + limit])
        } else {
            let mut left = limit;
            let mut places: Vec<IoSliceMut<'_>> = area
                .chunks_mut(stride)
                .map(|record| {
                    let len = left.min(MAX_PAYLOAD);
                    left -= len;
                    IoSliceMut::new(&mut record[before..before + len])
                })
                .collect();
            socket::read_vectored(app, &mut places)
        }
        .map_err(DataError::App)?;
        self.seal_data(stream, n, before, after)
            .map_err(DataError::Record)?;
        Ok(n)
    }

    /// What an application has said so far, as one DATA frame, without taking it from its socket. 0: nothing, or only the end.
    pub(crate) fn peek(
        &mut self,
        stream: u32,
        app: &TcpStream,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Result<usize, RecordError> {
        self.update_key()?;
        let (before, after) = self.transport.margins();
        let before = before + HEAD;
        self.reserve(before + MAX_PAYLOAD + after);
        let from = self.end + before;
        let mut place = ReadBuf::new(&mut self.buffer[from..from + limit.min(MAX_PAYLOAD)]);
        // A socket that fails is the relay's business, once the answer is there.
        let Poll::Ready(Ok(n)) = app.poll_peek(cx, &mut place) else {
            return Ok(0);
        };
        self.seal_data(stream, n, before, after)?;
        Ok(n)
    }

    /// Copies bytes of an owner in memory into DATA frames: at most `limit`. Returns how many.
    pub(crate) fn gather(
        &mut self,
        stream: u32,
        slices: &[IoSlice<'_>],
        limit: usize,
    ) -> Result<usize, RecordError> {
        let total = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let total = total.min(limit).min(limits::BULK_RECORDS * MAX_PAYLOAD);
        if total == 0 {
            return Ok(0);
        }
        self.update_key()?;
        let (before, after) = self.transport.margins();
        let before = before + HEAD;
        self.reserve(total + total.div_ceil(MAX_PAYLOAD) * (before + after));
        let (mut at, mut room, mut left) = (self.end + before, MAX_PAYLOAD, total);
        for slice in slices {
            let mut rest: &[u8] = slice;
            while left > 0 && !rest.is_empty() {
                if room == 0 {
                    (at, room) = (at + after + before, MAX_PAYLOAD);
                }
                let n = rest.len().min(room).min(left);
                self.buffer[at..at + n].copy_from_slice(&rest[..n]);
                (at, room, left, rest) = (at + n, room - n, left - n, &rest[n..]);
            }
        }
        self.seal_data(stream, total, before, after)?;
        Ok(total)
    }

    /// Seals `n` payload bytes that were read into their places.
    fn seal_data(
        &mut self,
        stream: u32,
        n: usize,
        before: usize,
        after: usize,
    ) -> Result<(), RecordError> {
        let mut left = n;
        while left > 0 {
            let payload = left.min(MAX_PAYLOAD);
            let len = before + payload + after;
            let record = &mut self.buffer[self.end..self.end + len];
            let head = Head {
                len: payload,
                kind: kind::DATA,
                flags: 0,
                stream,
            };
            record[before - HEAD..before].copy_from_slice(&head.encode());
            self.transport.seal(record)?;
            self.end += len;
            left -= payload;
        }
        Ok(())
    }

    /// Ends what we send on a stream.
    pub(crate) fn end_stream(&mut self, stream: u32) -> Result<(), RecordError> {
        self.frame(kind::DATA, flag::END_STREAM, stream, &[])
    }

    /// Ends the transport.
    pub(crate) fn close(&mut self) {
        self.reserve(OVERHEAD + 2);
        let mut record = [0; OVERHEAD + 2];
        let len = self.transport.seal_close(&mut record);
        self.buffer[self.end..self.end + len].copy_from_slice(&record[..len]);
        self.end += len;
    }

    /// Writes what the socket takes; true when nothing is left, and then no buffer is held.
    pub(crate) fn flush(&mut self, socket: &TcpStream) -> io::Result<bool> {
        while self.start < self.end {
            match socket.try_write(&self.buffer[self.start..self.end]) {
                Ok(n) => self.start += n,
                Err(error) if socket::would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        (self.start, self.end) = (0, 0);
        socket::give_back(std::mem::take(&mut self.buffer));
        Ok(true)
    }

    fn update_key(&mut self) -> Result<(), RecordError> {
        let Some(channel) = self.transport.key_update() else {
            return Ok(());
        };
        let mut record = [0; KEY_UPDATE_RECORD];
        channel.seal_key_update(&mut record)?;
        self.reserve(record.len());
        self.buffer[self.end..self.end + record.len()].copy_from_slice(&record);
        self.end += record.len();
        Ok(())
    }

    /// Makes room for `more` bytes behind `end`.
    fn reserve(&mut self, more: usize) {
        if self.buffer.capacity() == 0 {
            self.buffer = socket::lend();
        }
        if self.end + more <= self.buffer.len() {
            return;
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end + more > self.buffer.len() {
            // Small tunnels stay small: grow to what is needed, in steps.
            let len = (self.end + more).next_multiple_of(4096);
            self.buffer.resize(len, 0);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        socket::give_back(std::mem::take(&mut self.buffer));
    }
}
