//! The task that owns a tunnel's socket: flushes what is sealed, takes in what arrives, watches the clock.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::receive::Delivery;
use super::state::{Inner, broken_cipher};
use super::{Core, Phase};
use crate::frame::{code, kind};
use crate::socket::{self, Scratch, would_block};
use crate::{Error, Settings, limits};

/// The PING behind a server's GOAWAY: its answer shows that the peer knows.
pub(super) const DRAIN_PING: [u8; 8] = *b"draining";
/// The PING that asks for a sign of life.
const LIFE_PING: [u8; 8] = *b"alive?\0\0";

/// Runs a tunnel to its end.
pub(super) async fn drive(core: Rc<Core>, mut tcp: TcpStream, early: Vec<u8>) {
    let _last = Last(Rc::clone(&core));
    let error = {
        let mut driver = Driver::new(&core, &tcp);
        let begun = driver.begin(early);
        match begun {
            Ok(()) => std::future::poll_fn(|cx| driver.poll(cx)).await,
            Err(error) => error,
        }
    };
    say_goodbye(&core, &mut tcp, error).await;
}

/// A worker that ends takes its tunnels along; owners of streams on other workers must learn of it.
struct Last(Rc<Core>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Ok(mut inner) = self.0.inner.try_borrow_mut() {
            inner.end(Error::Aborted);
        }
    }
}

struct Driver<'a> {
    core: &'a Rc<Core>,
    tcp: &'a TcpStream,
    clock: Clock,
}

/// One timer per tunnel, moved as rarely as possible.
struct Clock {
    sleep: Pin<Box<Sleep>>,
    watch: Watch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// No streams: from time to time, the peer is asked whether it is still there.
    Idle,
    /// The peer's SETTINGS must come.
    Preface,
    /// The peer must be heard of.
    Life {
        /// When our unanswered PING went out.
        asked: Option<Instant>,
    },
}

impl<'a> Driver<'a> {
    fn new(core: &'a Rc<Core>, tcp: &'a TcpStream) -> Self {
        let clock = Clock {
            sleep: Box::pin(tokio::time::sleep(core.settings.preface_deadline)),
            watch: Watch::Preface,
        };
        Self { core, tcp, clock }
    }

    /// What came together with the end of the handshake.
    fn begin(&mut self, early: Vec<u8>) -> Result<(), Error> {
        let mut inner = self.core.inner.borrow_mut();
        let mut delivery = Delivery::new();
        inner.take_in(&early, &mut delivery, &self.core.settings)?;
        inner.deliver(&mut delivery);
        if inner.carry.is_empty() {
            return Ok(());
        }
        let carry = std::mem::take(&mut inner.carry);
        socket::with_scratch(|scratch| {
            scratch.bytes[..carry.len()].copy_from_slice(&carry);
            inner.open(scratch, carry.len(), &self.core.settings)
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match self.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        for _ in 0..limits::READS_PER_TURN {
            self.core.collect(cx);
            self.flush(cx)?;
            self.watch_clock(cx)?;
            if self.tcp.poll_read_ready(cx)?.is_pending() {
                return Ok(());
            }
            self.receive()?;
        }
        self.core.collect(cx);
        self.flush(cx)?;
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Writes what is sealed. Whoever waited for room is woken.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let mut inner = self.core.inner.borrow_mut();
        if !inner
            .driver
            .as_ref()
            .is_some_and(|driver| driver.will_wake(cx.waker()))
        {
            inner.driver = Some(cx.waker().clone());
        }
        if let Phase::Closed(error) = &inner.phase {
            return Err(error.clone());
        }
        while !inner.writer.flush(self.tcp)? {
            if inner.writer.unsent() > limits::UNSENT_MAX {
                return Err(Error::Protocol {
                    code: code::ENHANCE_YOUR_CALM,
                    what: "asks, but does not read our answers",
                });
            }
            if self.tcp.poll_write_ready(cx)?.is_pending() {
                break;
            }
        }
        if inner.writer.has_room() && inner.send.available() > 0 {
            inner.wake_waiting();
        }
        if matches!(inner.phase, Phase::Leaving)
            && inner.streams.is_empty()
            && inner.writer.unsent() == 0
        {
            return Err(Error::Closed);
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Error> {
        let mut inner = self.core.inner.borrow_mut();
        socket::with_scratch(|scratch| {
            let had = inner.carry.len();
            let n = match socket::read(self.tcp, &mut scratch.bytes[had..]) {
                Ok(0) if inner.streams.is_empty() => return Err(Error::Closed),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(n) => n,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            scratch.bytes[..had].copy_from_slice(&inner.carry);
            inner.open(scratch, had + n, &self.core.settings)
        })
    }

    /// Reads the clock. Only its expiry costs anything.
    fn watch_clock(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let settings = &self.core.settings;
        let mut inner = self.core.inner.borrow_mut();
        if self.clock.watch == Watch::Idle && !inner.streams.is_empty() {
            self.clock.arm(Watch::Life { asked: None }, settings);
        }
        while self.clock.sleep.as_mut().poll(cx).is_ready() {
            let next = match self.clock.watch {
                Watch::Preface if !inner.settled => {
                    return Err(Error::Deadline {
                        stage: "its HTTP/2 preface",
                        after: settings.preface_deadline,
                    });
                }
                Watch::Preface if inner.streams.is_empty() => Watch::Idle,
                Watch::Preface => Watch::Life { asked: None },
                Watch::Idle => inner.still_alive(None, settings)?,
                Watch::Life { asked } => inner.still_alive(asked, settings)?,
            };
            self.clock.arm(next, settings);
            if inner.writer.unsent() > 0 {
                cx.waker().wake_by_ref();
            }
        }
        Ok(())
    }
}

impl Clock {
    fn arm(&mut self, watch: Watch, settings: &Settings) {
        let after = match watch {
            Watch::Preface => settings.preface_deadline,
            Watch::Idle => settings.pool_idle,
            Watch::Life { .. } => settings.ping_interval,
        };
        self.watch = watch;
        self.sleep.as_mut().reset(Instant::now() + after);
    }
}

impl Inner {
    /// Opens and takes in `len` received bytes.
    fn open(
        &mut self,
        scratch: &mut Scratch,
        len: usize,
        settings: &Settings,
    ) -> Result<(), Error> {
        let received = &mut scratch.bytes[..len];
        let opened = self
            .writer
            .transport
            .open(received, &mut scratch.records)
            .map_err(broken_cipher)?;
        self.carry.clear();
        self.carry.extend_from_slice(&received[opened.used..]);
        if self.carry.is_empty() && self.carry.capacity() > 0 {
            self.carry = Vec::new();
        }
        let received = &*received;
        let mut delivery = Delivery::new();
        for &(begin, end) in &scratch.records {
            self.take_in(&received[begin..end], &mut delivery, settings)?;
        }
        self.deliver(&mut delivery);
        if opened.closed {
            return Err(if self.streams.is_empty() {
                Error::Closed
            } else {
                io::Error::from(io::ErrorKind::UnexpectedEof).into()
            });
        }
        Ok(())
    }

    /// An interval has passed: whether the peer was heard of, and what to watch next.
    fn still_alive(&mut self, asked: Option<Instant>, settings: &Settings) -> Result<Watch, Error> {
        if std::mem::take(&mut self.heard) {
            let idle = self.streams.is_empty();
            return Ok(if idle {
                Watch::Idle
            } else {
                Watch::Life { asked: None }
            });
        }
        match asked {
            Some(at) if at.elapsed() >= settings.ping_timeout => Err(Error::PingTimeout {
                after: settings.ping_timeout,
            }),
            Some(_) => Ok(Watch::Life { asked }),
            None => {
                let sent = self.writer.frame(kind::PING, 0, 0, &LIFE_PING);
                self.survive(sent);
                Ok(Watch::Life {
                    asked: Some(Instant::now()),
                })
            }
        }
    }
}

/// Everybody learns that the tunnel is over; the peer learns why, if it still listens.
async fn say_goodbye(core: &Core, tcp: &mut TcpStream, error: Error) {
    tracing::debug!(target: "hbone", peer = %core.peer, reason = %error, "tunnel closed");
    let code = match &error {
        Error::Closed | Error::Aborted => Some(code::NO_ERROR),
        Error::Protocol { code, .. } => Some(*code),
        Error::Deadline { .. } => Some(code::PROTOCOL_ERROR),
        _ => None,
    };
    let lost_peer = {
        let mut inner = core.inner.borrow_mut();
        inner.end(error);
        if let Some(code) = code {
            let last = inner.last_peer_stream;
            inner.go_away(last, code);
            inner.writer.close();
        }
        code.is_none() || !inner.writer.flush(tcp).unwrap_or(false)
    };
    if lost_peer {
        return;
    }
    // A socket that is closed with unread bytes in it sends a reset, which may overtake the GOAWAY.
    let linger = async {
        tcp.shutdown().await?;
        let mut sink = [0; 4096];
        loop {
            tcp.readable().await?;
            match tcp.try_read(&mut sink) {
                Ok(0) => return Ok::<(), io::Error>(()),
                Ok(_) => {}
                Err(error) if would_block(&error) => {}
                Err(error) => return Err(error),
            }
        }
    };
    let _ = tokio::time::timeout(limits::LINGER, linger).await;
}
