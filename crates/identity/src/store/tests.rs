//! The store against a real authority that the test can stop, slow down and replace.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::*;
use crate::BoxFuture;
use crate::authority::Authority;
use crate::fixture::{SLEEP, WEB};
use crate::issue::IssuedPem;
use crate::limits::MAX_FETCHES;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Source {
    authority: ArcSwap<Authority>,
    calls: Mutex<Vec<Identity>>,
    running: AtomicUsize,
    most: AtomicUsize,
    broken: AtomicBool,
    gate: Semaphore,
}

impl Source {
    fn open() -> Arc<Self> {
        Self::gated(Semaphore::MAX_PERMITS)
    }

    fn gated(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            authority: ArcSwap::from_pointee(Authority::new_self_signed("cluster.local").unwrap()),
            calls: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            gate: Semaphore::new(permits),
        })
    }

    fn calls(&self) -> Vec<Identity> {
        self.calls.lock().unwrap().clone()
    }
}

impl Issuer for Source {
    fn issue<'a>(
        &'a self,
        identity: &'a Identity,
        csr_pem: String,
        lifetime: Duration,
    ) -> BoxFuture<'a, Result<IssuedPem, IssueError>> {
        Box::pin(async move {
            self.calls.lock().unwrap().push(identity.clone());
            self.most
                .fetch_max(self.running.fetch_add(1, SeqCst) + 1, SeqCst);
            self.gate.acquire().await.unwrap().forget();
            self.running.fetch_sub(1, SeqCst);
            let refused = |why: String| IssueError::Refused {
                identity: identity.clone(),
                why,
            };
            if self.broken.load(SeqCst) {
                return Err(refused("broken on purpose".into()));
            }
            let authority = self.authority.load();
            let chain = authority.sign_workload(&csr_pem, identity, Some(lifetime));
            Ok(IssuedPem {
                chain: chain.map_err(|error| refused(error.to_string()))?,
            })
        })
    }
}

/// Tells the test what the store tells its observer.
struct Told {
    issued: watch::Sender<usize>,
    failed: watch::Sender<usize>,
    forgotten: watch::Sender<usize>,
    kept: AtomicUsize,
}

impl Told {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            issued: watch::Sender::new(0),
            failed: watch::Sender::new(0),
            forgotten: watch::Sender::new(0),
            kept: AtomicUsize::new(0),
        })
    }

    async fn until(counter: &watch::Sender<usize>, count: usize) {
        let mut seen = counter.subscribe();
        let reached = seen.wait_for(|seen| *seen >= count);
        timeout(PATIENCE, reached).await.expect("in time").unwrap();
    }
}

impl Observer for Told {
    fn issued(&self, _: &Arc<Epoch>) {
        self.issued.send_modify(|count| *count += 1);
    }

    fn failed(&self, _: &Identity, _: &IssueError, kept: Option<&Arc<Epoch>>) {
        self.kept.fetch_add(usize::from(kept.is_some()), SeqCst);
        self.failed.send_modify(|count| *count += 1);
    }

    fn forgotten(&self, _: &Identity) {
        self.forgotten.send_modify(|count| *count += 1);
    }
}

struct Running {
    store: Certificates,
    source: Arc<Source>,
    told: Arc<Told>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start(source: Arc<Source>, lifetime: Duration) -> Running {
    let told = Told::new();
    let settings = Settings {
        lifetime,
        tls: TlsSettings::default(),
    };
    let (store, renewal) = Certificates::new(source.clone(), told.clone(), settings);
    Running {
        store,
        source,
        told,
        task: tokio::spawn(renewal.run()),
    }
}

fn day(source: Arc<Source>) -> Running {
    start(source, DEFAULT_LIFETIME)
}

fn sleep() -> Identity {
    SLEEP.parse().unwrap()
}

#[tokio::test]
async fn all_who_wait_share_one_fetch() {
    let running = day(Source::gated(0));
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let store = running.store.clone();
            tokio::spawn(async move { store.get(&sleep()).await })
        })
        .collect();
    let other = running.store.clone();
    let other = tokio::spawn(async move { other.get(&WEB.parse().unwrap()).await });
    while running.source.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(running.store.try_get(&sleep()).is_none());
    running.source.gate.add_permits(2);
    let mut serials = HashSet::new();
    for waiter in waiting {
        serials.insert(waiter.await.unwrap().unwrap().serial.clone());
    }
    other.await.unwrap().unwrap();
    assert_eq!(serials.len(), 1);
    assert_eq!(running.source.calls().len(), 2);
    let known = running.store.try_get(&sleep()).unwrap();
    assert!(serials.contains(&known.serial));
    assert_eq!(known.identity, sleep());
}

#[tokio::test]
async fn few_fetches_run_at_once_and_those_with_waiters_come_first() {
    let running = day(Source::gated(0));
    let name = |n: usize| Identity::new("cluster.local", "default", format!("sa-{n}"));
    for n in 0..MAX_FETCHES {
        running.store.prefetch(&name(n));
    }
    while running.source.calls().len() < MAX_FETCHES {
        tokio::task::yield_now().await;
    }
    // All places are taken; now more come, and for one of them somebody waits.
    for n in MAX_FETCHES..20 {
        running.store.prefetch(&name(n));
    }
    let (store, urgent) = (running.store.clone(), name(15));
    let waiter = tokio::spawn(async move { store.get(&urgent).await });
    tokio::task::yield_now().await;
    assert_eq!(running.source.calls().len(), MAX_FETCHES);
    running.source.gate.add_permits(1);
    Told::until(&running.told.issued, 1).await;
    while running.source.calls().len() < MAX_FETCHES + 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.source.calls()[MAX_FETCHES], name(15));
    running.source.gate.add_permits(100);
    waiter.await.unwrap().unwrap();
    Told::until(&running.told.issued, 20).await;
    assert_eq!(running.source.most.load(SeqCst), MAX_FETCHES);
    assert_eq!(running.source.calls().len(), 20);
}

#[tokio::test]
async fn a_failure_is_told_at_once_and_retried_alone() {
    let running = day(Source::open());
    running.source.broken.store(true, SeqCst);
    let error = running.store.get(&sleep()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the certificate authority refused a certificate for \
         spiffe://cluster.local/ns/default/sa/sleep: broken on purpose"
    );
    // While the back-off lasts, the answer is there without another call.
    let calls = running.source.calls().len();
    assert_eq!(running.store.get(&sleep()).await.unwrap_err(), error);
    assert_eq!(running.source.calls().len(), calls);
    let dump = running.store.dump();
    assert_eq!(dump[0].phase, Phase::Unavailable);
    assert!(dump[0].error.as_ref().unwrap().contains("on purpose"));

    running.source.broken.store(false, SeqCst);
    Told::until(&running.told.issued, 1).await;
    assert!(running.store.get(&sleep()).await.is_ok());
    assert_eq!(running.store.dump()[0].failures, 0);
}

#[tokio::test]
async fn a_control_plane_that_is_back_ends_the_back_off() {
    let running = day(Source::open());
    running.source.broken.store(true, SeqCst);
    running.store.prefetch(&sleep());
    Told::until(&running.told.failed, 3).await;
    running.source.broken.store(false, SeqCst);
    let begun = Instant::now();
    running.store.retry_now();
    Told::until(&running.told.issued, 1).await;
    // The next attempt was due 1.5 s or more after the third failure.
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn certificates_are_renewed_at_half_of_their_life() {
    let running = start(Source::open(), Duration::from_secs(6));
    let begun = Instant::now();
    let first = running.store.get(&sleep()).await.unwrap();
    Told::until(&running.told.issued, 2).await;
    let passed = begun.elapsed();
    assert!(passed > Duration::from_secs(1), "not before: {passed:?}");
    assert!(
        passed < Duration::from_secs(5),
        "well before the end: {passed:?}"
    );
    let second = running.store.try_get(&sleep()).unwrap();
    assert_ne!(first.serial, second.serial);
}

#[tokio::test]
async fn a_failed_renewal_keeps_what_is_valid_and_an_expired_one_is_not_used() {
    let running = start(Source::open(), Duration::from_secs(3));
    let first = running.store.get(&sleep()).await.unwrap();
    running.source.broken.store(true, SeqCst);
    Told::until(&running.told.failed, 1).await;
    assert_eq!(running.told.kept.load(SeqCst), 1);
    assert_eq!(
        running.store.try_get(&sleep()).unwrap().serial,
        first.serial
    );
    assert_eq!(
        running.store.get(&sleep()).await.unwrap().serial,
        first.serial
    );
    // Until it ends.
    let rest = first.remaining(SystemTime::now());
    tokio::time::sleep(rest + Duration::from_millis(20)).await;
    assert!(running.store.try_get(&sleep()).is_none());
    let dump = running.store.dump();
    assert_eq!(dump[0].phase, Phase::Unavailable);
    assert!(running.store.get(&sleep()).await.is_err());
}

#[tokio::test]
async fn new_roots_come_with_the_next_certificate() {
    let running = day(Source::open());
    let old = running.store.get(&sleep()).await.unwrap();
    let new = Authority::new_self_signed("cluster.local").unwrap();
    running.source.authority.store(Arc::new(new));
    running.store.renew_all();
    Told::until(&running.told.issued, 2).await;
    let new = running.store.get(&sleep()).await.unwrap();
    assert_ne!(old.credentials.roots_pem(), new.credentials.roots_pem());
    assert_eq!(
        new.credentials.roots_pem(),
        running.source.authority.load().root_pem()
    );
}

#[tokio::test]
async fn a_forgotten_identity_leaves_nothing_and_its_waiters_are_told() {
    let running = day(Source::gated(0));
    let store = running.store.clone();
    let waiter = tokio::spawn(async move { store.get(&sleep()).await });
    while running.source.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    running.store.forget(&sleep());
    let error = timeout(PATIENCE, waiter)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(error, GetError::Forgotten { identity: sleep() });
    assert_eq!(*running.told.forgotten.borrow(), 1);
    // The fetch that was under way does not bring it back.
    running.source.gate.add_permits(1);
    while running.source.running.load(SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    running.source.gate.add_permits(1);
    running.store.get(&WEB.parse().unwrap()).await.unwrap();
    assert!(running.store.try_get(&sleep()).is_none());
    assert_eq!(running.store.dump().len(), 1);
    running.store.forget(&sleep());
    assert_eq!(*running.told.forgotten.borrow(), 1, "told once");
}

#[tokio::test]
async fn what_the_keeper_held_is_used_without_a_fetch() {
    let before = day(Source::open());
    let epoch = before.store.get(&sleep()).await.unwrap();
    let blob = epoch.credentials.to_bytes();
    let after = day(Source::gated(0));
    let refused = after
        .store
        .restore(vec![Credentials::from_bytes(&blob).unwrap()]);
    assert!(refused.is_empty(), "{refused:?}");
    let restored = after.store.get(&sleep()).await.unwrap();
    assert_eq!(restored.serial, epoch.serial);
    assert!(after.source.calls().is_empty());
    // It is renewed at half of its life, as it would have been.
    let renew_at = after.store.dump()[0].renew_at.unwrap();
    let life = epoch.not_after.duration_since(epoch.not_before).unwrap();
    assert_eq!(renew_at, epoch.not_before + life / 2);
}

#[tokio::test]
async fn an_expired_blob_is_not_taken_back() {
    let before = start(Source::open(), Duration::from_secs(1));
    let epoch = before.store.get(&sleep()).await.unwrap();
    let stored = epoch.credentials.clone();
    tokio::time::sleep(epoch.remaining(SystemTime::now()) + Duration::from_millis(20)).await;
    let after = day(Source::open());
    assert_eq!(
        after.store.restore(vec![stored]),
        vec![RestoreError::Expired(sleep())]
    );
    assert!(after.store.try_get(&sleep()).is_none());
}

#[tokio::test]
async fn the_dump_shows_chains_and_roots_and_no_key() {
    let running = day(Source::open());
    let epoch = running.store.get(&sleep()).await.unwrap();
    let dump = running.store.dump();
    assert_eq!(dump[0].phase, Phase::Available);
    assert_eq!(dump[0].chain[0].serial, super::dump::decimal(&epoch.serial));
    assert_eq!(dump[0].roots.len(), 1);
    assert_eq!(dump[0].chain[0].pem, epoch.credentials.chain_pem());
    assert!(!format!("{dump:?}").contains("PRIVATE"));
}

#[test]
fn back_off_doubles_between_its_bounds() {
    use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};
    for failures in 0..100 {
        let pause = renewal::backoff(failures);
        assert!(pause >= BACKOFF_MIN.mul_f64(0.75) && pause <= BACKOFF_MAX);
    }
    assert!(renewal::backoff(1) > renewal::backoff(0).mul_f64(1.4));
    assert!(renewal::backoff(20) >= BACKOFF_MAX.mul_f64(0.75));
}

#[test]
fn serials_are_dumped_in_decimal() {
    for (hex, expected) in [
        ("", "0"),
        ("00", "0"),
        ("0a", "10"),
        ("ff", "255"),
        (
            "7c40c2d54469869a3a748f63233af259",
            "165160530160510074691694622259256423001",
        ),
    ] {
        assert_eq!(super::dump::decimal(hex), expected, "{hex}");
    }
}
