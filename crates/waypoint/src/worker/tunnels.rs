//! The tunnels of clients on one worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use tulle_hbone::server::Handle;

use crate::limits::TUNNELS_PER_WORKER;

/// Handles of live tunnels.
#[derive(Default)]
pub(crate) struct Tunnels {
    table: RefCell<HashMap<u64, Handle>>,
    next: Cell<u64>,
}

/// Keeps a tunnel listed.
pub(crate) struct Listed<'a> {
    tunnels: &'a Tunnels,
    id: u64,
}

impl Tunnels {
    /// Whether there is no room for another.
    pub(crate) fn full(&self) -> bool {
        self.table.borrow().len() >= TUNNELS_PER_WORKER
    }

    pub(crate) fn list(&self, handle: Handle) -> Listed<'_> {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        self.table.borrow_mut().insert(id, handle);
        Listed { tunnels: self, id }
    }

    /// Asks every peer to open new connections elsewhere; streams go on.
    pub(super) fn drain(&self) {
        self.handles().iter().for_each(Handle::drain);
    }

    /// Cuts them all.
    pub(super) fn abort(&self) {
        self.handles().iter().for_each(Handle::abort);
    }

    fn handles(&self) -> Vec<Handle> {
        self.table.borrow().values().cloned().collect()
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.tunnels.table.borrow_mut().remove(&self.id);
    }
}
