//! Bearer tokens: whose they are, as the API server says, remembered for a moment.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tulle_api::contract;
use tulle_cluster::{Client, Error, review_token};
use tulle_xds::server::Caller;

use crate::limits::{TOKEN_REMEMBERED_FOR, TOKEN_SHARDS, TOKENS_REMEMBERED};

/// Asks the API server about tokens. A node proxy shows the same token for each of its pods, so
/// answers are kept for half a minute under a keyed hash; the token itself is not kept.
pub(crate) struct Tokens {
    client: Client,
    keys: (RandomState, RandomState),
    /// A shard is locked while the API server is asked: callers with one token ask once.
    shards: [Mutex<Vec<Remembered>>; TOKEN_SHARDS],
}

struct Remembered {
    hash: (u64, u64),
    caller: Arc<Caller>,
    until: Instant,
}

impl Tokens {
    pub(crate) fn new(client: Client) -> Self {
        let keys = (RandomState::new(), RandomState::new());
        Self {
            client,
            keys,
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Whose token this is.
    pub(crate) async fn caller(&self, token: &str) -> Result<Arc<Caller>, Error> {
        let hash = (self.keys.0.hash_one(token), self.keys.1.hash_one(token));
        let shard = usize::try_from(hash.0 % TOKEN_SHARDS as u64).unwrap_or_default();
        let mut shard = self.shards[shard].lock().await;
        let now = Instant::now();
        shard.retain(|known| known.until > now);
        if let Some(known) = shard.iter().find(|known| known.hash == hash) {
            return Ok(known.caller.clone());
        }
        let caller = Arc::new(self.review(token).await?);
        if shard.len() >= TOKENS_REMEMBERED / TOKEN_SHARDS {
            shard.remove(0);
        }
        let until = now + TOKEN_REMEMBERED_FOR;
        shard.push(Remembered {
            hash,
            caller: caller.clone(),
            until,
        });
        Ok(caller)
    }

    async fn review(&self, token: &str) -> Result<Caller, Error> {
        let identity = review_token(&self.client, token, &[contract::TOKEN_AUDIENCE]).await?;
        let Some((namespace, account)) = identity.service_account() else {
            let why = format!("{:?} is no service account", identity.username);
            return Err(Error::TokenRefused { why });
        };
        let claim = |name| identity.claim(name).map(str::to_owned);
        Ok(Caller {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            pod_name: claim("pod-name"),
            pod_uid: claim("pod-uid"),
            node: claim("node-name"),
            // The token does not say; the pods do.
            gateway: None,
        })
    }
}

#[cfg(test)]
mod tests;
