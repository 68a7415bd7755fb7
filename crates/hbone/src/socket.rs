//! Reading and writing sockets with no system call more than needed.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::limits;

/// Reads what is there. A short read means that the socket is drained, which is noted, so that the next wait does not
/// begin with a read in vain.
pub(crate) fn read(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let room = buffer.len();
    noting_drained(socket, room, || socket.try_read(buffer))
}

/// The same into several places.
pub(crate) fn read_vectored(
    socket: &TcpStream,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let room = buffers.iter().map(|buffer| buffer.len()).sum();
    noting_drained(socket, room, || socket.try_read_vectored(buffers))
}

fn noting_drained(
    socket: &TcpStream,
    room: usize,
    read: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut short = None;
    let full = socket.try_io(Interest::READABLE, || {
        let n = read()?;
        if 0 < n && n < room {
            short = Some(n);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(n)
    });
    short.map_or(full, Ok)
}

/// Whether an I/O result only means "not now".
pub(crate) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Buffers that a worker lends to whoever has something to read or write right now.
#[derive(Default)]
struct Lender {
    spare: Vec<Vec<u8>>,
    scratch: Option<Box<Scratch>>,
}

/// Where a worker receives; used between two waits, never across one.
pub(crate) struct Scratch {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// Where the opened records are in it.
    pub(crate) records: Vec<(usize, usize)>,
}

thread_local! {
    static LENDER: RefCell<Lender> = RefCell::default();
}

/// Lends the worker's receive buffer.
pub(crate) fn with_scratch<T>(use_it: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = LENDER
        .with_borrow_mut(|lender| lender.scratch.take())
        .unwrap_or_else(|| {
            Box::new(Scratch {
                bytes: vec![0; limits::SCRATCH],
                records: Vec::new(),
            })
        });
    let result = use_it(&mut scratch);
    LENDER.with_borrow_mut(|lender| lender.scratch = Some(scratch));
    result
}

/// A write buffer; its contents are whatever was in it.
pub(crate) fn lend() -> Vec<u8> {
    LENDER
        .with_borrow_mut(|lender| lender.spare.pop())
        .unwrap_or_default()
}

/// Takes a write buffer back.
pub(crate) fn give_back(buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.len() > limits::LARGEST_SPARE {
        return;
    }
    LENDER.with_borrow_mut(|lender| {
        if lender.spare.len() < limits::SPARE_BUFFERS {
            lender.spare.push(buffer);
        }
    });
}
