//! Key sets of issuers: parsed once; those at a URL fetched once for all who wait, and again from time to time.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tulle_identity::jwt;
use tulle_policy::jwt::{JwtRule, Keys};

use crate::fetch;
use crate::limits::{KEYRINGS, KEYS_AGAIN, KEYS_FRESH, KEYS_NEWER};
use crate::worker::Worker;

/// All key sets of the process.
#[derive(Debug, Default)]
pub(crate) struct Keyring(Mutex<HashMap<Arc<str>, Entry>>);

#[derive(Clone, Debug)]
struct Entry {
    /// `None`: they could not be had.
    keys: Option<Arc<jwt::Keys>>,
    at: Instant,
    /// Somebody fetches them now.
    fetching: bool,
}

impl Keyring {
    fn get(&self, name: &str) -> Option<Entry> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(name).cloned()
    }

    fn put(&self, name: &Arc<str>, keys: Option<Arc<jwt::Keys>>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= KEYRINGS && !table.contains_key(name) {
            table.clear();
        }
        let entry = table.entry(name.clone()).or_insert_with(|| Entry {
            keys: None,
            at: Instant::now(),
            fetching: false,
        });
        // Old keys are better than none.
        entry.keys = keys.or(entry.keys.take());
        entry.at = Instant::now();
        entry.fetching = false;
    }

    /// Whether the caller is the one who fetches.
    fn claim(&self, name: &Arc<str>) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = table.entry(name.clone()).or_insert_with(|| Entry {
            keys: None,
            at: Instant::now(),
            fetching: false,
        });
        !std::mem::replace(&mut entry.fetching, true)
    }
}

/// The keys of a rule; `None` when they cannot be had.
pub(crate) async fn keys(worker: &Rc<Worker>, rule: &Arc<JwtRule>) -> Option<Arc<jwt::Keys>> {
    let ring = &worker.shared.keyring;
    match &rule.keys {
        Keys::Inline(text) => {
            if let Some(entry) = ring.get(text) {
                return entry.keys;
            }
            let parsed = parse(text, &rule.issuer);
            ring.put(text, parsed.clone());
            parsed
        }
        Keys::Uri(uri) => fetched(worker, rule, uri.clone()).await,
        Keys::Discovery => fetched(worker, rule, rule.issuer.clone()).await,
    }
}

fn parse(text: &str, issuer: &str) -> Option<Arc<jwt::Keys>> {
    match jwt::Keys::parse(text) {
        Ok(keys) => Some(Arc::new(keys)),
        Err(error) => {
            tracing::warn!(issuer, %error, "tokens of this issuer are refused");
            None
        }
    }
}

async fn fetched(
    worker: &Rc<Worker>,
    rule: &Arc<JwtRule>,
    name: Arc<str>,
) -> Option<Arc<jwt::Keys>> {
    let ring = &worker.shared.keyring;
    let known = ring.get(&name);
    let age = known.as_ref().map(|entry| entry.at.elapsed());
    let keys = known.and_then(|entry| entry.keys);
    match (&keys, age) {
        (Some(_), Some(age)) if age < KEYS_FRESH => return keys,
        // A failure is not asked for again with every request.
        (None, Some(age)) if age < KEYS_AGAIN && !is_fetching(ring, &name) => return None,
        _ => {}
    }
    fetch(worker, rule, &name);
    if keys.is_some() {
        // While new ones are fetched, the old ones count.
        return keys;
    }
    awaited(worker, rule, &name).await
}

/// The keys as they are now, when a token names one that is not among those that are known. Not more often than
/// [`KEYS_NEWER`]: anybody can name a key.
pub(crate) async fn newer(worker: &Rc<Worker>, rule: &Arc<JwtRule>) -> Option<Arc<jwt::Keys>> {
    let name = match &rule.keys {
        Keys::Inline(_) => return None,
        Keys::Uri(uri) => uri,
        Keys::Discovery => &rule.issuer,
    };
    let ring = &worker.shared.keyring;
    let known = ring.get(name)?;
    if known.at.elapsed() < KEYS_NEWER && !known.fetching {
        return None;
    }
    fetch(worker, rule, name);
    awaited(worker, rule, name).await
}

/// Begins to fetch keys, unless somebody does.
fn fetch(worker: &Rc<Worker>, rule: &Arc<JwtRule>, name: &Arc<str>) {
    if !worker.shared.keyring.claim(name) {
        return;
    }
    let (worker, rule, name) = (worker.clone(), rule.clone(), name.clone());
    tokio::task::spawn_local(async move {
        let found = fetch::keys(&worker, &rule, &name).await;
        let parsed = match found {
            Ok(text) => parse(&text, &rule.issuer),
            Err(error) => {
                tracing::warn!(issuer = &*rule.issuer, url = &*name, %error, "the keys of an issuer could not be fetched");
                None
            }
        };
        worker.shared.keyring.put(&name, parsed);
        worker.shared.keys_came.notify_waiters();
    });
}

/// What is known when nobody fetches any more.
async fn awaited(
    worker: &Rc<Worker>,
    rule: &Arc<JwtRule>,
    name: &Arc<str>,
) -> Option<Arc<jwt::Keys>> {
    let ring = &worker.shared.keyring;
    let waited = async {
        loop {
            let came = worker.shared.keys_came.notified();
            if !is_fetching(ring, name) {
                return ring.get(name).and_then(|entry| entry.keys);
            }
            // Another worker's news may come between the two lines above.
            let pause = tokio::time::sleep(std::time::Duration::from_millis(100));
            tokio::select! { () = came => {}, () = pause => {} }
        }
    };
    tokio::time::timeout(rule.timeout, waited)
        .await
        .ok()
        .flatten()
}

fn is_fetching(ring: &Keyring, name: &str) -> bool {
    ring.get(name).is_some_and(|entry| entry.fetching)
}
