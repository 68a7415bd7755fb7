//! The plain relay: the floor that benches compare with. One thread, one epoll loop, one 256 KiB buffer, no TLS,
//! one read and one write per message, unpinned.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use rustix::event::epoll;
use rustix::net::{self, sockopt};

/// Size of the one shared buffer.
const BUFFER: usize = 256 << 10;
/// Events taken per wake-up.
const EVENTS: usize = 256;
const LISTENER: u64 = 0;

/// One direction's source: where its bytes go, and what could not be written yet.
struct Leg {
    socket: OwnedFd,
    peer: u64,
    backlog: Vec<u8>,
    /// The other side has ended: shut this one down once the backlog is gone.
    ending: bool,
    /// Its end is behind what can be read now, and makes no event of its own any more.
    end_in_sight: bool,
    ended: bool,
}

/// Relays until killed.
pub fn run(listen: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
    let listener = listener(listen).with_context(|| format!("listening on {listen}"))?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        epoll::EventFlags::IN,
    )?;
    let mut relay = Relay {
        epoll,
        to,
        legs: HashMap::new(),
        next: 1,
        buffer: vec![0; BUFFER],
    };
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(
            &relay.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => relay.accept(&listener),
                leg => relay.ready(leg, event.flags),
            }
        }
    }
}

struct Relay {
    epoll: OwnedFd,
    to: SocketAddr,
    legs: HashMap<u64, Leg>,
    next: u64,
    buffer: Vec<u8>,
}

impl Relay {
    fn accept(&mut self, listener: &OwnedFd) {
        while let Ok(near) = net::accept_with(
            listener,
            net::SocketFlags::NONBLOCK | net::SocketFlags::CLOEXEC,
        ) {
            if let Ok(far) = dial(self.to) {
                self.pair(near, far);
            }
        }
    }

    fn pair(&mut self, near: OwnedFd, far: OwnedFd) {
        let (a, b) = (self.next, self.next + 1);
        self.next += 2;
        for (token, peer, socket) in [(a, b, near), (b, a, far)] {
            let _ = sockopt::set_tcp_nodelay(&socket, true);
            let flags = epoll::EventFlags::IN
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::OUT
                | epoll::EventFlags::ET;
            if epoll::add(
                &self.epoll,
                &socket,
                epoll::EventData::new_u64(token),
                flags,
            )
            .is_ok()
            {
                let leg = Leg {
                    socket,
                    peer,
                    backlog: Vec::new(),
                    ending: false,
                    end_in_sight: false,
                    ended: false,
                };
                self.legs.insert(token, leg);
            }
        }
    }

    fn ready(&mut self, token: u64, flags: epoll::EventFlags) {
        if flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP)
            && let Some(leg) = self.legs.get_mut(&token)
        {
            leg.end_in_sight = true;
        }
        let alive = if flags.contains(epoll::EventFlags::OUT) {
            self.flush(token)
        } else {
            Ok(())
        };
        if alive.and_then(|()| self.pump(token)).is_err() {
            self.close(token);
        }
    }

    /// Reads from one leg and writes to its peer until either would block.
    fn pump(&mut self, token: u64) -> io::Result<()> {
        loop {
            let Some(leg) = self.legs.get(&token) else {
                return Ok(());
            };
            let Some(peer) = self.legs.get(&leg.peer) else {
                return Ok(());
            };
            if leg.ended || !peer.backlog.is_empty() {
                return Ok(());
            }
            let (peer_token, end_in_sight) = (leg.peer, leg.end_in_sight);
            let n = match rustix::io::read(&leg.socket, &mut self.buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let full = n == self.buffer.len();
            if n == 0 {
                if let Some(leg) = self.legs.get_mut(&token) {
                    leg.ended = true;
                }
                if let Some(peer) = self.legs.get_mut(&peer_token) {
                    peer.ending = true;
                }
                return self.flush(peer_token);
            }
            let peer = self
                .legs
                .get_mut(&peer_token)
                .ok_or(ErrorKind::NotConnected)?;
            let written = match rustix::io::write(&peer.socket, &self.buffer[..n]) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error.into()),
            };
            peer.backlog.extend_from_slice(&self.buffer[written..n]);
            if !full && !end_in_sight {
                // A short read on an edge-triggered socket: the next byte, or the end, makes a new event.
                return Ok(());
            }
        }
    }

    /// Writes what is left to a leg, then goes on reading from its peer.
    fn flush(&mut self, token: u64) -> io::Result<()> {
        let Some(leg) = self.legs.get_mut(&token) else {
            return Ok(());
        };
        let peer = leg.peer;
        while !leg.backlog.is_empty() {
            match rustix::io::write(&leg.socket, &leg.backlog) {
                Ok(n) => drop(leg.backlog.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if leg.ending {
            leg.ending = false;
            let _ = net::shutdown(&leg.socket, net::Shutdown::Write);
            if leg.ended {
                self.close(token);
                return Ok(());
            }
        }
        self.pump(peer)
    }

    fn close(&mut self, token: u64) {
        if let Some(leg) = self.legs.remove(&token) {
            self.legs.remove(&leg.peer);
        }
    }
}

fn listener(address: SocketAddr) -> io::Result<OwnedFd> {
    let flags = net::SocketFlags::NONBLOCK | net::SocketFlags::CLOEXEC;
    let family = if address.is_ipv4() {
        net::AddressFamily::INET
    } else {
        net::AddressFamily::INET6
    };
    let socket = net::socket_with(family, net::SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, 4096)?;
    Ok(socket)
}

fn dial(address: SocketAddr) -> io::Result<OwnedFd> {
    let flags = net::SocketFlags::NONBLOCK | net::SocketFlags::CLOEXEC;
    let family = if address.is_ipv4() {
        net::AddressFamily::INET
    } else {
        net::AddressFamily::INET6
    };
    let socket = net::socket_with(family, net::SocketType::STREAM, flags, None)?;
    match net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}
