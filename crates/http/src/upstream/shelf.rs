//! Where connections wait, by key, and who looks after them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::http1::Http1;
use super::http2::Http2;
use super::seats::Seats;
use crate::limits;

/// The connections of a pool.
pub(super) struct Shelf<K> {
    entries: RefCell<HashMap<K, Entry>>,
    idle: Cell<usize>,
    /// The janitor runs: one task per pool, while there is something to look after.
    tended: Cell<bool>,
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self {
            entries: RefCell::default(),
            idle: Cell::new(0),
            tended: Cell::new(false),
        }
    }
}

/// The connections of a key.
#[derive(Default)]
struct Entry {
    /// HTTP/1, unused; the last used is the last.
    #[expect(
        clippy::vec_box,
        reason = "they come and go with each request, and are large"
    )]
    idle: Vec<Box<Http1>>,
    /// HTTP/2.
    shared: Vec<Rc<Http2>>,
    making: Option<Rc<Landing>>,
    retired: Rc<Cell<bool>>,
    /// Where connections are limited.
    seats: Option<Rc<Seats>>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        // Connections in use hold on to `retired`: they must hear of it.
        let unused = Rc::strong_count(&self.retired) == 1;
        let unseated = self.seats.as_ref().is_none_or(|s| Rc::strong_count(s) == 1);
        unused && unseated && self.shared.is_empty() && self.making.is_none()
    }
}

impl<K: Hash + Eq + Clone + 'static> Shelf<K> {
    /// A connection that waits; the one that waits the shortest, so that others can fall idle.
    pub(super) fn take(&self, key: &K) -> Option<Box<Http1>> {
        let now = Instant::now();
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(key)?;
        while let Some(mut connection) = entry.idle.pop() {
            self.idle.set(self.idle.get() - 1);
            if connection.is_usable(now) {
                return Some(connection);
            }
            connection.close();
        }
        None
    }

    /// Told to connections when their key is retired.
    pub(super) fn retired(self: &Rc<Self>, key: &K) -> Rc<Cell<bool>> {
        // Whoever makes the entry sees to it that it goes.
        self.tend();
        let mut entries = self.entries.borrow_mut();
        Rc::clone(&entries.entry(key.clone()).or_default().retired)
    }

    /// Seats of connections that are limited.
    pub(super) fn seats(self: &Rc<Self>, key: &K) -> Rc<Seats> {
        self.tend();
        let mut entries = self.entries.borrow_mut();
        let entry = entries.entry(key.clone()).or_default();
        Rc::clone(entry.seats.get_or_insert_default())
    }

    /// Open connections of a key, used or not.
    pub(super) fn connections_of(&self, key: &K) -> usize {
        let entries = self.entries.borrow();
        entries.get(key).map_or(0, |entry| {
            Rc::strong_count(&entry.retired) - 1 + entry.shared.len()
        })
    }

    /// A connection that nobody uses any more; kept if it is of use.
    pub(super) fn put(self: &Rc<Self>, key: &K, mut connection: Box<Http1>) {
        let now = Instant::now();
        connection.idle_since = now;
        // Whoever brings it has just moved it on.
        if !connection.is_fit(now) || self.idle.get() >= limits::IDLE_PER_POOL {
            return connection.close();
        }
        let mut entries = self.entries.borrow_mut();
        let entry = entries.entry(key.clone()).or_insert_with(|| Entry {
            retired: Rc::clone(&connection.retired),
            ..Entry::default()
        });
        if entry.idle.len() < limits::IDLE_PER_KEY {
            entry.idle.push(connection);
            self.idle.set(self.idle.get() + 1);
            if let Some(seats) = &entry.seats {
                seats.free();
            }
        } else {
            connection.close();
        }
        drop(entries);
        self.tend();
    }

    /// A shared connection with room: the fullest, so that others can fall idle.
    pub(super) fn shared(&self, key: &K) -> Option<Rc<Http2>> {
        let now = Instant::now();
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(key)?;
        entry.shared.retain(|connection| connection.is_usable(now));
        let found = entry.shared.iter().find(|connection| connection.has_room());
        found.map(Rc::clone)
    }

    pub(super) fn share(self: &Rc<Self>, key: &K, connection: &Rc<Http2>) {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.entry(key.clone()).or_default();
        entry.shared.push(Rc::clone(connection));
        drop(entries);
        self.tend();
    }

    pub(super) fn forget(&self, key: &K, connection: &Rc<Http2>) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(key) {
            entry.shared.retain(|known| !Rc::ptr_eq(known, connection));
        }
    }

    /// The connection that somebody is making.
    pub(super) fn making(&self, key: &K) -> Option<Rc<Landing>> {
        self.entries.borrow().get(key)?.making.clone()
    }

    pub(super) fn retire_where(&self, mut matches: impl FnMut(&K) -> bool) {
        let mut gone = Vec::new();
        self.entries.borrow_mut().retain(|key, entry| {
            if !matches(key) {
                return true;
            }
            entry.retired.set(true);
            if let Some(landing) = &entry.making {
                landing.retired.set(true);
            }
            self.idle.set(self.idle.get() - entry.idle.len());
            gone.push(std::mem::take(entry));
            false
        });
        for connection in gone.into_iter().flat_map(|entry| entry.idle) {
            connection.close();
        }
    }

    pub(super) fn connections(&self) -> usize {
        let entries = self.entries.borrow();
        entries
            .values()
            .map(|entry| entry.idle.len() + entry.shared.len())
            .sum()
    }

    fn tend(self: &Rc<Self>) {
        if !self.tended.replace(true) {
            tokio::task::spawn_local(janitor(Rc::downgrade(self)));
        }
    }

    /// Lets go of what is over; whether anything is left.
    fn tidy(&self) -> bool {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut entries = self.entries.borrow_mut();
        entries.retain(|_, entry| {
            let before = entry.idle.len();
            let (kept, over) = std::mem::take(&mut entry.idle)
                .into_iter()
                .map(|mut connection| (connection.is_usable(now), connection))
                .partition::<Vec<_>, _>(|(usable, _)| *usable);
            gone.extend(over);
            entry.idle = kept.into_iter().map(|(_, connection)| connection).collect();
            self.idle.set(self.idle.get() - (before - entry.idle.len()));
            entry.shared.retain(|connection| connection.is_usable(now));
            !entry.is_empty()
        });
        let left = !entries.is_empty();
        drop(entries);
        for (_, connection) in gone {
            connection.close();
        }
        left
    }
}

async fn janitor<K: Hash + Eq + Clone + 'static>(shelf: Weak<Shelf<K>>) {
    loop {
        tokio::time::sleep(limits::TEND_EVERY).await;
        let Some(shelf) = shelf.upgrade() else { return };
        if !shelf.tidy() {
            shelf.tended.set(false);
            return;
        }
    }
}

/// A connection that is being made, for those who wait for it.
#[derive(Default)]
pub(super) struct Landing {
    landed: Notify,
    done: Cell<bool>,
    retired: Cell<bool>,
    error: RefCell<Option<Rc<dyn Any>>>,
}

impl Landing {
    /// Waits for it; an error, if it failed with one.
    pub(super) async fn landed(&self) -> Option<Rc<dyn Any>> {
        let landed = self.landed.notified();
        tokio::pin!(landed);
        landed.as_mut().enable();
        if !self.done.get() {
            landed.await;
        }
        self.error.borrow().clone()
    }
}

/// Making a connection. Given up, somebody else may try.
pub(super) struct Flight<'a, K: Hash + Eq + Clone + 'static> {
    shelf: &'a Shelf<K>,
    key: &'a K,
    landing: Rc<Landing>,
}

impl<'a, K: Hash + Eq + Clone + 'static> Flight<'a, K> {
    pub(super) fn begin(shelf: &'a Shelf<K>, key: &'a K) -> Self {
        let landing = Rc::new(Landing::default());
        let mut entries = shelf.entries.borrow_mut();
        entries.entry(key.clone()).or_default().making = Some(Rc::clone(&landing));
        drop(entries);
        Self {
            shelf,
            key,
            landing,
        }
    }

    pub(super) fn is_retired(&self) -> bool {
        self.landing.retired.get()
    }

    pub(super) fn fail(&self, error: Rc<dyn Any>) {
        *self.landing.error.borrow_mut() = Some(error);
    }
}

impl<K: Hash + Eq + Clone + 'static> Drop for Flight<'_, K> {
    fn drop(&mut self) {
        let mut entries = self.shelf.entries.borrow_mut();
        if let Some(entry) = entries.get_mut(self.key) {
            let ours = |making: &Rc<Landing>| Rc::ptr_eq(making, &self.landing);
            if entry.making.as_ref().is_some_and(ours) {
                entry.making = None;
            }
            if entry.is_empty() {
                entries.remove(self.key);
            }
        }
        drop(entries);
        self.landing.done.set(true);
        self.landing.landed.notify_waiters();
    }
}
