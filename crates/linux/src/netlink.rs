//! The few netlink requests that are made often enough to be worth doing without a program.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::limits::{NETLINK_BUFFER, NETLINK_DEADLINE};

pub(crate) const HEADER: usize = 16;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const DUMP: u16 = 0x300;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;

/// A request under construction: a header, a fixed part, then attributes.
pub(crate) struct Request {
    bytes: Vec<u8>,
}

/// One message of an answer.
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST | ACK).to_ne_bytes());
        bytes[8..12].copy_from_slice(&1u32.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}

/// Sends one request to the kernel in the thread's network namespace and collects the whole answer. The kernel's own
/// error code is the error.
pub(crate) fn ask(family: Family, request: Request) -> io::Result<Vec<Answer>> {
    let socket = open(family)?;
    rustix::net::send(&socket, &request.finish(), SendFlags::empty())?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; NETLINK_BUFFER];
    loop {
        let (length, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        if take_messages(&buffer[..length], &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Which part of the kernel is asked.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    Route,
    Netfilter,
}

fn open(family: Family) -> io::Result<OwnedFd> {
    let protocol = match family {
        Family::Route => None,
        Family::Netfilter => Some(netlink::NETFILTER),
    };
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(NETLINK_DEADLINE),
    )?;
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// Splits a datagram into messages; true when the answer is complete.
fn take_messages(mut bytes: &[u8], answers: &mut Vec<Answer>) -> io::Result<bool> {
    while bytes.len() >= HEADER {
        let length = read_u32(bytes, 0) as usize;
        if length < HEADER || length > bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a netlink message is cut short",
            ));
        }
        let kind = read_u16(bytes, 4);
        let body = &bytes[HEADER..length];
        match kind {
            TYPE_ERROR | TYPE_DONE => {
                let code = if body.len() >= 4 {
                    read_u32(body, 0).cast_signed()
                } else {
                    0
                };
                return if code == 0 {
                    Ok(true)
                } else {
                    Err(io::Error::from_raw_os_error(-code))
                };
            }
            _ => answers.push(Answer {
                body: body.to_vec(),
            }),
        }
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    Ok(false)
}

/// The value of one attribute among those that start at `offset` of a message body.
pub(crate) fn attribute(body: &[u8], offset: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(offset..)?;
    while rest.len() >= 4 {
        let length = usize::from(read_u16(rest, 0));
        if length < 4 || length > rest.len() {
            return None;
        }
        // The two upper bits are flags (nested, network byte order).
        if read_u16(rest, 2) & 0x3fff == wanted {
            return Some(&rest[4..length]);
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    None
}

/// Brings the loopback interface of the thread's network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    const NEW_LINK: u16 = 16;
    const IFF_UP: u32 = 1;
    // struct ifinfomsg: family, pad, type, index 1 (loopback is the first of each namespace), flags, mask.
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&1u32.to_ne_bytes());
    fixed[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
    fixed[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    ask(Family::Route, Request::new(NEW_LINK, 0, &fixed)).map(drop)
}

fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
