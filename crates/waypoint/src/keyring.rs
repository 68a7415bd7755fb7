//! Key sets of issuers: parsed once; those at a URL fetched once for all who wait, and again from time to time.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tulle_identity::jwt;
use tulle_policy::jwt::{JwtRule, Keys};

use crate::fetch;
use crate::limits::{KEYRINGS, KEYS_AGAIN, KEYS_NEWER, KEYS_REPAIR};
use crate::worker::Worker;

/// All key sets of the process.
#[derive(Debug, Default)]
pub(crate) struct Keyring(Mutex<HashMap<Source, Entry>>);

/// Where keys come from. What is at an issuer's own URL is not what the issuer names as its keys; and who waits for them only a
/// moment must not decide that others cannot have them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    keys: Keys,
    /// The issuer, with [`Keys::Discovery`].
    issuer: Option<Arc<str>>,
    timeout: Duration,
}

impl Source {
    fn of(rule: &JwtRule) -> Self {
        let discovered = rule.keys == Keys::Discovery;
        Self {
            keys: rule.keys.clone(),
            issuer: discovered.then(|| rule.issuer.clone()),
            timeout: rule.timeout,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    /// `None`: they could not be had.
    keys: Option<Arc<jwt::Keys>>,
    at: Instant,
    /// The last attempt brought none.
    failed: bool,
    /// Somebody fetches them now.
    fetching: bool,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            keys: None,
            at: Instant::now(),
            failed: false,
            fetching: false,
        }
    }
}

impl Entry {
    /// Whether it is time to fetch again.
    fn is_due(&self, refresh: Duration) -> bool {
        let after = match (&self.keys, self.failed) {
            (Some(_), false) => refresh,
            (Some(_), true) => refresh.min(KEYS_REPAIR),
            // A failure is not asked for again with every request.
            (None, _) => KEYS_AGAIN,
        };
        self.at.elapsed() >= after
    }
}

impl Keyring {
    fn get(&self, source: &Source) -> Option<Entry> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(source).cloned()
    }

    fn put(&self, source: &Source, keys: Option<Arc<jwt::Keys>>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= KEYRINGS && !table.contains_key(source) {
            table.clear();
        }
        let entry = table.entry(source.clone()).or_default();
        entry.failed = keys.is_none();
        // Old keys are better than none.
        entry.keys = keys.or(entry.keys.take());
        entry.at = Instant::now();
        entry.fetching = false;
    }

    /// Whether the caller is the one who fetches.
    fn claim(&self, source: &Source) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = table.entry(source.clone()).or_default();
        !std::mem::replace(&mut entry.fetching, true)
    }

    fn is_fetching(&self, source: &Source) -> bool {
        self.get(source).is_some_and(|entry| entry.fetching)
    }
}

/// The keys of a rule; `None` when they cannot be had.
pub(crate) async fn keys(worker: &Rc<Worker>, rule: &Arc<JwtRule>) -> Option<Arc<jwt::Keys>> {
    let ring = &worker.shared.keyring;
    let source = Source::of(rule);
    let known = ring.get(&source);
    if let Keys::Inline(text) = &rule.keys {
        if let Some(entry) = known {
            return entry.keys;
        }
        let parsed = parse(text, &rule.issuer);
        ring.put(&source, parsed.clone());
        return parsed;
    }
    let refresh = worker.shared.options.key_refresh;
    match known {
        Some(entry) if entry.keys.is_some() => {
            if entry.is_due(refresh) {
                fetch(worker, rule, &source);
            }
            // While new ones are fetched, the old ones count.
            entry.keys
        }
        Some(entry) if !entry.fetching && !entry.is_due(refresh) => None,
        _ => {
            fetch(worker, rule, &source);
            awaited(worker, &source).await
        }
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

/// The keys as they are now, when a token names one that is not among those that are known. Not more often than
/// [`KEYS_NEWER`]: anybody can name a key.
pub(crate) async fn newer(worker: &Rc<Worker>, rule: &Arc<JwtRule>) -> Option<Arc<jwt::Keys>> {
    if let Keys::Inline(_) = &rule.keys {
        return None;
    }
    let source = Source::of(rule);
    let known = worker.shared.keyring.get(&source)?;
    if known.at.elapsed() < KEYS_NEWER && !known.fetching {
        return None;
    }
    fetch(worker, rule, &source);
    awaited(worker, &source).await
}

/// Begins to fetch keys, unless somebody does.
fn fetch(worker: &Rc<Worker>, rule: &Arc<JwtRule>, source: &Source) {
    if !worker.shared.keyring.claim(source) {
        return;
    }
    let (worker, rule, source) = (worker.clone(), rule.clone(), source.clone());
    tokio::task::spawn_local(async move {
        let found = fetch::keys(&worker, &rule).await;
        let parsed = match found {
            Ok(text) => parse(&text, &rule.issuer),
            Err(error) => {
                tracing::warn!(issuer = &*rule.issuer, keys = ?rule.keys, %error, "the keys of an issuer could not be fetched");
                None
            }
        };
        worker.shared.keyring.put(&source, parsed);
        worker.shared.keys_came.notify_waiters();
    });
}

/// What is known when nobody fetches any more.
async fn awaited(worker: &Rc<Worker>, source: &Source) -> Option<Arc<jwt::Keys>> {
    let ring = &worker.shared.keyring;
    let waited = async {
        loop {
            let came = worker.shared.keys_came.notified();
            if !ring.is_fetching(source) {
                return ring.get(source).and_then(|entry| entry.keys);
            }
            // Another worker's news may come between the two lines above.
            let pause = tokio::time::sleep(Duration::from_millis(100));
            tokio::select! { () = came => {}, () = pause => {} }
        }
    };
    let outcome = tokio::time::timeout(source.timeout, waited).await;
    outcome.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(20 * 60);

    fn entry(age: u64, keys: bool, failed: bool) -> Entry {
        let set = r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#;
        Entry {
            keys: keys.then(|| Arc::new(jwt::Keys::parse(set).unwrap())),
            at: Instant::now() - Duration::from_secs(age),
            failed,
            fetching: false,
        }
    }

    #[test]
    fn what_could_not_be_renewed_is_asked_for_soon() {
        for (age, keys, failed, due) in [
            (0, true, false, false),
            (19 * 60, true, false, false),
            (20 * 60, true, false, true),
            (30, true, true, false),
            (60, true, true, true),
            (1, false, true, false),
            (2, false, true, true),
        ] {
            let entry = entry(age, keys, failed);
            assert_eq!(entry.is_due(REFRESH), due, "{age} s: {keys}, {failed}");
        }
        assert!(entry(1, true, true).is_due(Duration::from_secs(1)));
    }
}
