//! The tunnels of a worker, by key. Made once: whoever comes while a tunnel is being made waits for it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{Opened, Tunnel};
use crate::{Connect, OpenError, Settings, limits};

#[cfg(test)]
mod tests;

/// Why a pooled open failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PoolError<E> {
    /// The tunnel could not be made; everybody who waited for it gets the same reason.
    #[error("{0}")]
    Connect(Rc<E>),
    /// The tunnel is there, the stream is not.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// The tunnels of one worker. The key must hold everything that makes a tunnel unfit for others: source identity, destination
/// address, expected identities.
pub struct Pool<K>(Rc<Shelf<K>>);

struct Shelf<K> {
    settings: Settings,
    entries: RefCell<HashMap<K, Entry>>,
    /// The janitor runs: one task per pool, while there is something to look after.
    tended: Cell<bool>,
}

/// The tunnels of a key, and the one that is being made.
#[derive(Default)]
struct Entry {
    tunnels: Vec<Kept>,
    making: Option<Rc<Flight>>,
}

struct Kept {
    tunnel: Tunnel,
    /// When it was last known to be of use; for the janitor.
    used: Instant,
}

/// Waiters for a tunnel that is being made. The error travels as `Rc<dyn Any>` inside the outcome of the leader.
#[derive(Default)]
struct Flight {
    /// The key was retired meanwhile: the tunnel is for those who wait for it, and not kept.
    retired: Cell<bool>,
    landed: RefCell<Option<Outcome>>,
    waiters: RefCell<Vec<Waker>>,
}

#[derive(Clone)]
enum Outcome {
    /// A tunnel is on the shelf, or the leader gave up: look again.
    LookAgain,
    Failed(Rc<dyn std::any::Any>),
}

impl<K: Hash + Eq + Clone + 'static> Pool<K> {
    /// An empty pool.
    pub fn new(settings: Settings) -> Self {
        Self(Rc::new(Shelf {
            settings,
            entries: RefCell::default(),
            tended: Cell::new(false),
        }))
    }

    /// Opens a stream on a tunnel for `key`, making the tunnel with `connect` if there is none with room. If a pooled tunnel
    /// turns out to be dead before it answered, a fresh one is tried, once.
    ///
    /// # Errors
    /// When no tunnel can be made, or the peer refuses.
    pub async fn open<E: 'static>(
        &self,
        key: K,
        connect: impl AsyncFnOnce() -> Result<Tunnel, E>,
        request: &Connect,
    ) -> Result<Opened, PoolError<E>> {
        self.open_for(key, connect, request, None).await
    }

    /// The same for an application whose first bytes may follow the request before it is answered. They are taken from its socket
    /// when the stream is relayed; until then they are there for whoever is asked next.
    ///
    /// # Errors
    /// As [`Pool::open`].
    pub async fn open_for<E: 'static>(
        &self,
        key: K,
        connect: impl AsyncFnOnce() -> Result<Tunnel, E>,
        request: &Connect,
        app: Option<&TcpStream>,
    ) -> Result<Opened, PoolError<E>> {
        let mut connect = Some(connect);
        let mut retried = false;
        loop {
            let (tunnel, fresh) = match self.0.ready(&key) {
                Some(tunnel) => (tunnel, false),
                None => match self.make(&key, &mut connect).await? {
                    Some(tunnel) => (tunnel, true),
                    None => continue,
                },
            };
            match tunnel.open_or_unprocessed(request, app).await {
                Ok(opened) => return Ok(opened),
                Err(failed) if failed.unprocessed && !fresh && !retried => {
                    // Dead, or taking no streams: the next one comes from elsewhere.
                    retried = true;
                    tunnel.retire();
                    self.0.sweep(&key);
                }
                Err(failed) => return Err(PoolError::Open(failed.error)),
            }
        }
    }

    /// Makes a tunnel, or waits for whoever does. None: look at the shelf again.
    async fn make<E: 'static, F: AsyncFnOnce() -> Result<Tunnel, E>>(
        &self,
        key: &K,
        connect: &mut Option<F>,
    ) -> Result<Option<Tunnel>, PoolError<E>> {
        if let Some(flight) = self.0.making(key) {
            return match poll_fn(|cx| flight.poll(cx)).await {
                Outcome::LookAgain => Ok(None),
                Outcome::Failed(error) => match error.downcast::<E>() {
                    Ok(error) => Err(PoolError::Connect(error)),
                    // Somebody made it with another kind of error: find out for ourselves.
                    Err(_) => Ok(None),
                },
            };
        }
        let Some(connect) = connect.take() else {
            return Err(PoolError::Open(OpenError::Tunnel(crate::Error::Closed)));
        };
        let leader = Leader::new(&self.0, key);
        match connect().await {
            Ok(tunnel) => {
                if !leader.flight.retired.get() {
                    self.0.keep(key, &tunnel);
                }
                leader.land(Outcome::LookAgain);
                Ok(Some(tunnel))
            }
            Err(error) => {
                let error = Rc::new(error);
                leader.land(Outcome::Failed(Rc::clone(&error) as Rc<dyn std::any::Any>));
                Err(PoolError::Connect(error))
            }
        }
    }

    /// Retires the tunnels whose key matches: no new streams, closed when the last one ends.
    pub fn retire_where(&self, mut matches: impl FnMut(&K) -> bool) {
        self.0.entries.borrow_mut().retain(|key, entry| {
            let retire = matches(key);
            if retire {
                for kept in entry.tunnels.drain(..) {
                    kept.tunnel.retire();
                }
                if let Some(flight) = &entry.making {
                    flight.retired.set(true);
                }
            }
            !retire || entry.making.is_some()
        });
    }

    /// Tunnels that are open now.
    pub fn tunnels(&self) -> usize {
        let entries = self.0.entries.borrow();
        entries
            .values()
            .map(|entry| {
                entry
                    .tunnels
                    .iter()
                    .filter(|kept| !kept.tunnel.is_closed())
                    .count()
            })
            .sum()
    }
}

impl<K: Hash + Eq + Clone + 'static> Shelf<K> {
    /// A tunnel with room: the fullest, so that others can fall idle.
    fn ready(&self, key: &K) -> Option<Tunnel> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(key)?;
        entry.tunnels.retain(|kept| kept.tunnel.usable());
        let kept = entry
            .tunnels
            .iter_mut()
            .filter(|kept| kept.tunnel.has_room())
            .max_by_key(|kept| kept.tunnel.streams())?;
        kept.used = Instant::now();
        Some(kept.tunnel.clone())
    }

    fn making(&self, key: &K) -> Option<Rc<Flight>> {
        self.entries.borrow().get(key)?.making.clone()
    }

    fn keep(self: &Rc<Self>, key: &K, tunnel: &Tunnel) {
        let mut entries = self.entries.borrow_mut();
        let tunnels: usize = entries.values().map(|entry| entry.tunnels.len()).sum();
        if tunnels >= limits::POOL_TUNNELS {
            for entry in entries.values_mut() {
                entry.tunnels.retain(|kept| kept.tunnel.streams() > 0);
            }
        }
        let entry = entries.entry(key.clone()).or_default();
        entry.tunnels.push(Kept {
            tunnel: tunnel.clone(),
            used: Instant::now(),
        });
        if !self.tended.replace(true) {
            tokio::task::spawn_local(janitor(Rc::downgrade(self), self.settings.pool_idle));
        }
    }

    /// Lets go of what is over or was not used for the idle time; whether anything is left.
    fn tidy(&self, idle: Duration) -> bool {
        let mut entries = self.entries.borrow_mut();
        entries.retain(|_, entry| {
            entry.tunnels.retain_mut(|kept| {
                if kept.tunnel.streams() > 0 {
                    kept.used = Instant::now();
                }
                kept.tunnel.usable() && kept.used.elapsed() < idle
            });
            !entry.tunnels.is_empty() || entry.making.is_some()
        });
        !entries.is_empty()
    }

    /// Lets go of tunnels that are over, and of a key without any.
    fn sweep(&self, key: &K) {
        let mut entries = self.entries.borrow_mut();
        if let Some(entry) = entries.get_mut(key) {
            entry.tunnels.retain(|kept| kept.tunnel.usable());
            if entry.tunnels.is_empty() && entry.making.is_none() {
                entries.remove(key);
            }
        }
    }
}

/// Retires what nobody used for the idle time, as long as there is anything.
async fn janitor<K: Hash + Eq + Clone + 'static>(shelf: Weak<Shelf<K>>, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 2).await;
        let Some(shelf) = shelf.upgrade() else {
            return;
        };
        if !shelf.tidy(idle) {
            shelf.tended.set(false);
            return;
        }
    }
}

/// Makes the tunnel of a key. If it is dropped halfway (its task was cancelled), a waiter takes over.
struct Leader<'a, K: Hash + Eq + Clone + 'static> {
    shelf: &'a Shelf<K>,
    key: &'a K,
    flight: Rc<Flight>,
}

impl<'a, K: Hash + Eq + Clone + 'static> Leader<'a, K> {
    fn new(shelf: &'a Shelf<K>, key: &'a K) -> Self {
        let flight = Rc::new(Flight::default());
        let mut entries = shelf.entries.borrow_mut();
        entries.entry(key.clone()).or_default().making = Some(Rc::clone(&flight));
        Self { shelf, key, flight }
    }

    fn land(self, outcome: Outcome) {
        *self.flight.landed.borrow_mut() = Some(outcome);
    }
}

impl<K: Hash + Eq + Clone + 'static> Drop for Leader<'_, K> {
    fn drop(&mut self) {
        if let Some(entry) = self.shelf.entries.borrow_mut().get_mut(self.key) {
            entry.making = None;
        }
        self.shelf.sweep(self.key);
        self.flight
            .landed
            .borrow_mut()
            .get_or_insert(Outcome::LookAgain);
        for waiter in self.flight.waiters.borrow_mut().drain(..) {
            waiter.wake();
        }
    }
}

impl Flight {
    fn poll(&self, cx: &Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = &*self.landed.borrow() {
            return Poll::Ready(outcome.clone());
        }
        self.waiters.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }
}
