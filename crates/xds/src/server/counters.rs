//! What the server did, for metrics and for `tulle status`.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Counters since the start, and who is connected.
#[derive(Debug, Default)]
pub struct Counters {
    refused_callers: AtomicU64,
    failed_handshakes: AtomicU64,
    signed: AtomicU64,
    refused_requests: AtomicU64,
    next_stream: AtomicU64,
    types: Mutex<BTreeMap<String, TypeCounts>>,
    streams: Mutex<HashMap<u64, Connected>>,
}

/// Of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypeCounts {
    /// Answers sent.
    pub answers: u64,
    /// Resources in them.
    pub resources: u64,
    /// Removals in them.
    pub removals: u64,
    /// Bytes of resources in them.
    pub bytes: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Rejected, in part, by a client.
    pub rejected: u64,
}

/// A discovery stream that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The node id that the client gave.
    pub node: String,
    /// Its cluster, as it says.
    pub cluster: String,
    /// Its version, as it says.
    pub version: String,
    /// Where it comes from.
    pub address: Option<SocketAddr>,
    /// The Gateway (`namespace/name`) whose proxy it is.
    pub gateway: Option<Arc<str>>,
    /// Since when.
    pub since: SystemTime,
    /// By type: the sequence number of the newest change that was acknowledged, and the last complaint if it stands.
    pub acknowledged: BTreeMap<String, (u64, Option<String>)>,
}

impl Counters {
    /// Callers that were not let in.
    pub fn refused_callers(&self) -> u64 {
        self.refused_callers.load(Relaxed)
    }

    /// TLS handshakes that failed.
    pub fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.load(Relaxed)
    }

    /// Certificates signed.
    pub fn signed(&self) -> u64 {
        self.signed.load(Relaxed)
    }

    /// Certificate requests refused.
    pub fn refused_requests(&self) -> u64 {
        self.refused_requests.load(Relaxed)
    }

    /// By type URL.
    pub fn types(&self) -> BTreeMap<String, TypeCounts> {
        locked(&self.types).clone()
    }

    /// The open streams.
    pub fn connected(&self) -> Vec<Connected> {
        locked(&self.streams).values().cloned().collect()
    }

    pub(super) fn refused_caller(&self) {
        self.refused_callers.fetch_add(1, Relaxed);
    }

    pub(super) fn failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Relaxed);
    }

    pub(super) fn sign(&self, done: bool) {
        let counter = if done {
            &self.signed
        } else {
            &self.refused_requests
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn count(&self, type_url: &str, change: impl FnOnce(&mut TypeCounts)) {
        let mut types = locked(&self.types);
        match types.get_mut(type_url) {
            Some(counts) => change(counts),
            None => change(types.entry(type_url.to_owned()).or_default()),
        }
    }

    pub(super) fn opened(&self, address: Option<SocketAddr>, gateway: Option<Arc<str>>) -> u64 {
        let id = self.next_stream.fetch_add(1, Relaxed);
        locked(&self.streams).insert(
            id,
            Connected {
                node: String::new(),
                cluster: String::new(),
                version: String::new(),
                address,
                gateway,
                since: SystemTime::now(),
                acknowledged: BTreeMap::new(),
            },
        );
        id
    }

    pub(super) fn update(&self, id: u64, change: impl FnOnce(&mut Connected)) {
        if let Some(stream) = locked(&self.streams).get_mut(&id) {
            change(stream);
        }
    }

    pub(super) fn closed(&self, id: u64) {
        locked(&self.streams).remove(&id);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
