//! Which worker is how busy, and how a connection gets to the least busy one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc;

use crate::inbound::Arrival;
use crate::limits::{HANDOVER_ADVANTAGE, HANDOVERS};

/// Every worker's count of connections, and the way to it.
#[derive(Debug)]
pub(crate) struct Board {
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    load: Arc<AtomicUsize>,
    to: mpsc::Sender<Arrival>,
}

/// A connection counts on a worker for as long as this lives.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Board {
    /// For so many workers; each gets its receiver.
    pub(crate) fn new(workers: usize) -> (Self, Vec<mpsc::Receiver<Arrival>>) {
        let (places, receivers) = (0..workers)
            .map(|_| {
                let (to, from) = mpsc::channel(HANDOVERS);
                let load = Arc::default();
                (Place { load, to }, from)
            })
            .unzip();
        (Self { places }, receivers)
    }

    /// Takes a seat on the least busy worker; on `own` unless another one is clearly less busy.
    pub(crate) fn seat(&self, own: usize) -> (usize, Seat) {
        let load = |at: usize| {
            self.places
                .get(at)
                .map_or(usize::MAX, |p| p.load.load(Relaxed))
        };
        let mut best = (own, load(own).saturating_sub(HANDOVER_ADVANTAGE - 1));
        for at in (0..self.places.len()).filter(|at| *at != own) {
            if load(at) < best.1 {
                best = (at, load(at));
            }
        }
        (best.0, self.sit(best.0))
    }

    /// Takes a seat on one worker.
    pub(crate) fn sit(&self, worker: usize) -> Seat {
        let load = self
            .places
            .get(worker)
            .map(|p| p.load.clone())
            .unwrap_or_default();
        load.fetch_add(1, Relaxed);
        Seat(load)
    }

    /// Hands a connection over; back when that worker cannot take it.
    pub(crate) fn send(&self, worker: usize, arrival: Arrival) -> Result<(), Box<Arrival>> {
        let Some(place) = self.places.get(worker) else {
            return Err(Box::new(arrival));
        };
        place.to.try_send(arrival).map_err(|error| {
            Box::new(match error {
                mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back) => {
                    back
                }
            })
        })
    }

    /// Connections of each worker.
    pub(crate) fn loads(&self) -> Vec<usize> {
        self.places.iter().map(|p| p.load.load(Relaxed)).collect()
    }
}

#[cfg(test)]
mod tests;
