//! The inbound tunnels of a worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use tulle_hbone::server::Handle;

use crate::limits::TUNNELS_PER_WORKER;
use crate::pod::PodSerial;

/// Handles of live tunnels, by pod.
#[derive(Default)]
pub(crate) struct Tunnels {
    table: RefCell<HashMap<u64, (PodSerial, Handle)>>,
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

    pub(crate) fn list(&self, pod: PodSerial, handle: Handle) -> Listed<'_> {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        self.table.borrow_mut().insert(id, (pod, handle));
        Listed { tunnels: self, id }
    }

    /// Asks every peer to open new connections elsewhere; streams go on.
    pub(super) fn drain(&self) {
        self.handles(None).iter().for_each(Handle::drain);
    }

    /// Cuts the tunnels of a pod, or all.
    pub(super) fn abort(&self, pod: Option<PodSerial>) {
        self.handles(pod).iter().for_each(Handle::abort);
    }

    fn handles(&self, pod: Option<PodSerial>) -> Vec<Handle> {
        let table = self.table.borrow();
        let wanted = table
            .values()
            .filter(|(of, _)| pod.is_none_or(|id| *of == id));
        wanted.map(|(_, handle)| handle.clone()).collect()
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.tunnels.table.borrow_mut().remove(&self.id);
    }
}
