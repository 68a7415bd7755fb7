//! Rate limits.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use tulle_model::Identity;
use tulle_policy::Target;

use super::*;
use crate::rate::{Gcra, Key, Keys, Limits, RateDecision, Subject};

fn per(requests: u32, seconds: u64) -> Rate {
    Rate {
        requests,
        per: Duration::from_secs(seconds),
    }
}

fn limit(key: Vec<KeyPart>, rate: Rate) -> Limit {
    Limit {
        name: None,
        key,
        rate,
        burst: None,
        scope: LimitScope::Local,
        keys: None,
    }
}

fn policy(name: &str, limits: Vec<Limit>) -> RateLimit {
    RateLimit {
        object: ObjectKey::new("RateLimitPolicy", "infra", name),
        targets: vec![Target::Waypoints],
        routes: vec![],
        matches: vec![],
        limits,
        status: None,
        dry_run: false,
    }
}

fn limits(policies: impl IntoIterator<Item = RateLimit>) -> Limits {
    let mut limits = Limits::default();
    for policy in policies {
        limits.insert(policy).unwrap();
    }
    limits
}

fn millis(now: u64) -> Duration {
    Duration::from_millis(now)
}

fn ask(limits: &Limits, request: &Request, now: u64) -> RateDecision {
    let head = request.head();
    let subject = Subject {
        request: &head,
        identity: None,
        address: IpAddr::from([10, 0, 0, 1]),
    };
    limits.check(
        &[Target::Waypoints],
        Some(&key("route")),
        &subject,
        millis(now),
    )
}

fn passes(limits: &Limits, request: &Request, now: u64) -> bool {
    ask(limits, request, now).limited.is_none()
}

#[test]
fn a_burst_then_the_rate() {
    let limits = limits([policy(
        "p",
        vec![Limit {
            burst: Some(3),
            ..limit(vec![], per(10, 1))
        }],
    )]);
    let request = get("h", "/");
    let at_once: Vec<bool> = (0..5).map(|_| passes(&limits, &request, 1000)).collect();
    assert_eq!(at_once, [true, true, true, false, false]);
    let refused = ask(&limits, &request, 1000).limited.unwrap();
    assert_eq!(
        (refused.status, refused.retry_after),
        (429, Some(millis(100)))
    );
    assert_eq!(refused.policy.name(), "p");
    assert!(!passes(&limits, &request, 1099));
    assert!(passes(&limits, &request, 1100));
    assert!(!passes(&limits, &request, 1199));
    // Idle time is not saved beyond the burst.
    let later: Vec<bool> = (0..4).map(|_| passes(&limits, &request, 99_000)).collect();
    assert_eq!(later, [true, true, true, false]);
}

#[test]
fn what_is_left_is_told() {
    let limits = limits([policy(
        "p",
        vec![limit(vec![], per(10, 1)), limit(vec![], per(3, 60))],
    )]);
    let room = ask(&limits, &get("h", "/"), 0).tightest.unwrap();
    assert_eq!(
        (room.limit, room.remaining, room.reset),
        (3, 2, Duration::from_secs(20))
    );
}

#[test]
fn none_at_all() {
    let limits = limits([policy("p", vec![limit(vec![], per(0, 1))])]);
    let refused = ask(&limits, &get("h", "/"), 5).limited.unwrap();
    assert_eq!(refused.retry_after, None);
}

#[test]
fn keys_are_counted_apart() {
    let parts = |part: KeyPart| limits([policy("p", vec![limit(vec![part], per(1, 60))])]);
    let apart = |part: KeyPart, a: Request, b: Request| {
        let limits = parts(part.clone());
        assert!(passes(&limits, &a, 0), "{part:?}");
        assert!(!passes(&limits, &a, 1), "{part:?}");
        assert!(passes(&limits, &b, 2), "{part:?}");
    };
    apart(
        KeyPart::Header("x".into()),
        get("h", "/").with("x", "1"),
        get("h", "/").with("x", "2"),
    );
    // Leaving the header out is one key, too.
    apart(
        KeyPart::Header("x".into()),
        get("h", "/"),
        get("h", "/").with("x", "2"),
    );
    apart(
        KeyPart::Query("q".into()),
        get("h", "/?q=1"),
        get("h", "/?q=2"),
    );
    apart(KeyPart::Path, get("h", "/a"), get("h", "/b"));
    apart(KeyPart::Host, get("a", "/"), get("b", "/"));
    apart(KeyPart::Method, get("h", "/"), get("h", "/").method("POST"));
}

#[test]
fn clients_are_told_apart() {
    let identity = |namespace: &str, account: &str| Identity {
        trust_domain: "cluster.local".into(),
        namespace: namespace.into(),
        service_account: account.into(),
    };
    let request = get("h", "/");
    let head = request.head();
    let key = |part: KeyPart, identity: Option<&Identity>, address: &str| {
        let address = address.parse().unwrap();
        let subject = Subject {
            request: &head,
            identity,
            address,
        };
        subject.key(&[part])
    };
    let (a, b) = (identity("n", "a"), identity("n", "b"));
    assert_ne!(
        key(KeyPart::Identity, Some(&a), "::1"),
        key(KeyPart::Identity, Some(&b), "::1")
    );
    assert_ne!(
        key(KeyPart::Identity, Some(&a), "::1"),
        key(KeyPart::Identity, None, "::1")
    );
    assert_eq!(
        key(KeyPart::Namespace, Some(&a), "::1"),
        key(KeyPart::Namespace, Some(&b), "::1")
    );
    assert_ne!(
        key(KeyPart::Address, None, "10.0.0.1"),
        key(KeyPart::Address, None, "10.0.0.2")
    );
    assert_eq!(
        key(KeyPart::Address, None, "10.0.0.1"),
        key(KeyPart::Address, None, "::ffff:10.0.0.1")
    );
}

#[test]
fn parts_of_keys_do_not_run_together() {
    let of = |path: &str, host: &str| {
        let request = get(host, path);
        let head = request.head();
        let subject = Subject {
            request: &head,
            identity: None,
            address: IpAddr::from([0; 4]),
        };
        subject.key(&[KeyPart::Path, KeyPart::Host])
    };
    assert_ne!(of("/a", "bc"), of("/ab", "c"));
}

#[test]
fn policies_apply_to_their_targets_routes_and_matches() {
    let only = |change: fn(&mut RateLimit)| {
        let mut policy = policy("p", vec![limit(vec![], per(0, 1))]);
        change(&mut policy);
        limits([policy])
    };
    let refused = |limits: &Limits| !passes(limits, &get("h", "/a"), 0);
    assert!(refused(&only(|_| ())));
    assert!(refused(&only(|p| p.routes = vec![key("route")])));
    assert!(!refused(&only(|p| p.routes = vec![key("other")])));
    assert!(refused(&only(
        |p| p.matches = vec![exact("/b"), exact("/a")]
    )));
    assert!(!refused(&only(|p| p.matches = vec![exact("/b")])));
    assert!(!refused(&only(
        |p| p.targets = vec![Target::Gateway("n/g".into())]
    )));
    assert!(refused(&only(
        |p| p.targets = vec![Target::Gateway("n/g".into()), Target::Waypoints]
    )));
    let watching = only(|p| p.dry_run = true);
    let decision = ask(&watching, &get("h", "/a"), 0);
    assert_eq!((decision.limited, decision.dry_run.len()), (None, 1));
    let teapot = only(|p| p.status = Some(418));
    assert_eq!(
        ask(&teapot, &get("h", "/a"), 0).limited.map(|l| l.status),
        Some(418)
    );
}

/// A policy that is reached by two targets of a request counts it once.
#[test]
fn several_targets_count_once() {
    let mut two = policy("p", vec![limit(vec![], per(2, 60))]);
    two.targets.push(Target::Gateway("n/g".into()));
    let limits = limits([two]);
    let request = get("h", "/");
    let head = request.head();
    let subject = Subject {
        request: &head,
        identity: None,
        address: IpAddr::from([0; 4]),
    };
    let targets = [Target::Gateway("n/g".into()), Target::Waypoints];
    let passed = (0..5).filter(|_| {
        limits
            .check(&targets, None, &subject, millis(1))
            .limited
            .is_none()
    });
    assert_eq!(passed.count(), 2);
}

#[test]
fn refused_requests_use_up_nothing() {
    // The first policy would allow ten, the second refuses after two.
    let limits = limits([
        policy("a", vec![limit(vec![], per(10, 60))]),
        policy("b", vec![limit(vec![KeyPart::Path], per(2, 60))]),
    ]);
    for _ in 0..50 {
        passes(&limits, &get("h", "/x"), 1000);
    }
    let passed = (0..50)
        .filter(|n| passes(&limits, &get("h", &format!("/{n}")), 1000))
        .count();
    assert_eq!(passed, 8);
}

#[test]
fn updates_keep_counts_unless_the_limit_changes() {
    let with_rate = |requests| policy("p", vec![limit(vec![], per(requests, 60))]);
    let mut limits = limits([with_rate(1)]);
    let request = get("h", "/");
    assert!(passes(&limits, &request, 0));
    limits
        .insert(RateLimit {
            dry_run: false,
            status: Some(420),
            ..with_rate(1)
        })
        .unwrap();
    assert!(!passes(&limits, &request, 1));
    let other = limits.clone();
    limits.insert(with_rate(2)).unwrap();
    assert!(passes(&limits, &request, 2));
    assert!(!passes(&other, &request, 2), "a clone keeps what it had");
    assert!(limits.remove("RateLimitPolicy/infra/p"));
    assert!(!limits.remove("RateLimitPolicy/infra/p"));
    assert!(limits.is_empty());
    assert!(passes(&limits, &request, 3));
}

#[test]
fn replicas_share() {
    let shared = || {
        let limit = Limit {
            scope: LimitScope::Shared,
            ..limit(vec![KeyPart::Path], per(10, 60))
        };
        limits([policy("p", vec![limit])])
    };
    let replicas = [shared(), shared()];
    let request = get("h", "/");
    let passed = |limits: &Limits, n: usize| (0..n).filter(|_| passes(limits, &request, 1)).count();
    assert_eq!(passed(&replicas[0], 6), 6);
    let spent = replicas[0].spent();
    assert_eq!(spent.iter().map(|s| s.requests).collect::<Vec<_>>(), [6]);
    assert!(replicas[0].spent().is_empty(), "told once");
    replicas[1].charge(&spent, millis(1));
    assert_eq!(passed(&replicas[1], 20), 4);
    assert!(passes(&replicas[1], &get("h", "/other"), 1));
    // What was charged is not told again.
    assert_eq!(
        replicas[1].spent().iter().map(|s| s.requests).sum::<u32>(),
        5
    );
    let json = serde_json::to_string(&spent).unwrap();
    assert_eq!(
        serde_json::from_str::<Vec<crate::rate::Spent>>(&json).unwrap(),
        spent
    );
    // Local limits tell nothing; unknown ones are not listened to.
    let local = limits([policy("p", vec![limit(vec![], per(10, 60))])]);
    passes(&local, &request, 1);
    assert!(local.spent().is_empty());
    limits([]).charge(&spent, millis(1));
}

#[test]
fn a_flood_of_reports_does_not_lock_a_key_for_ever() {
    let shared = Limit {
        scope: LimitScope::Shared,
        ..limit(vec![], per(10, 10))
    };
    let limits = limits([policy("p", vec![shared])]);
    let request = get("h", "/");
    assert!(passes(&limits, &request, 0));
    let mut spent = limits.spent();
    spent[0].requests = u32::MAX;
    limits.charge(&spent, millis(0));
    assert!(!passes(&limits, &request, 1));
    assert!(!passes(&limits, &request, 10_999));
    assert!(passes(&limits, &request, 11_001));
}

#[test]
fn tables_are_bounded() {
    let keys = Keys::new(1000);
    let gcra = Gcra::new(per(1, 60), None);
    let mut dice = crate::balance::Dice::new(1);
    let mut fresh = || Key([dice.roll(), dice.roll()]);
    let first = fresh();
    assert!(keys.take(first, &gcra, millis(1)).is_ok());
    for _ in 0..200 {
        assert!(keys.take(fresh(), &gcra, millis(1)).is_ok());
    }
    // Far from full: nothing is forgotten.
    assert!(keys.take(first, &gcra, millis(2)).is_err());
    for _ in 0..100_000 {
        keys.take(fresh(), &gcra, millis(3)).unwrap();
    }
    let live = keys.len(millis(3));
    assert!((900..=2048).contains(&live), "{live}");
    // Once paid for, they make room.
    assert_eq!(keys.len(Duration::from_secs(61)), 0);
}

#[test]
fn expressions_of_policies_are_checked() {
    let mut limits = limits([policy("p", vec![limit(vec![], per(0, 1))])]);
    let broken = RateLimit {
        matches: vec![regex("(")],
        ..policy("p", vec![])
    };
    assert!(limits.insert(broken).is_err());
    assert!(
        !passes(&limits, &get("h", "/"), 0),
        "the last good one stays"
    );
}

/// The token bucket that everybody knows, in exact arithmetic: tokens times the rate's nanoseconds.
struct Bucket {
    requests: u128,
    per: u128,
    burst: u128,
    filled: u128,
    at: u128,
}

impl Bucket {
    fn take(&mut self, now: u128) -> bool {
        let full = self.burst * self.per;
        self.filled = (self.filled + (now - self.at) * self.requests).min(full);
        self.at = now;
        let enough = self.filled >= self.per;
        if enough {
            self.filled -= self.per;
        }
        enough
    }
}

proptest! {
    /// With a rate that divides its time, both agree on every request.
    #[test]
    fn the_algorithm_agrees_with_a_token_bucket(
        requests in prop::sample::select(vec![1u32, 2, 4, 5, 8, 10, 20, 50, 100]),
        burst in 1u32..20,
        steps in prop::collection::vec(0u64..400, 1..200),
    ) {
        let gcra = Gcra::new(per(requests, 1), Some(burst));
        let per = 1_000_000_000u128;
        let mut bucket = Bucket {
            requests: requests.into(),
            per,
            burst: burst.into(),
            filled: u128::from(burst) * per,
            at: 0,
        };
        let (mut now, mut paid) = (0u64, 0);
        for step in steps {
            now += step * 1_000_000;
            let taken = gcra.take(paid, now);
            prop_assert_eq!(taken.is_ok(), bucket.take(now.into()));
            match taken {
                Ok((after, room)) => {
                    prop_assert_eq!(u128::from(room.remaining), bucket.filled / per);
                    paid = after;
                }
                Err(wait) => {
                    // Exactly then, and not a moment before.
                    let then = now + u64::try_from(wait.unwrap().as_nanos()).unwrap();
                    prop_assert!(gcra.take(paid, then).is_ok());
                    prop_assert!(gcra.take(paid, then - 1).is_err());
                }
            }
        }
    }

    /// However requests come, no window sees more than burst and rate allow.
    #[test]
    fn no_window_sees_too_many(
        requests in 1u32..50,
        burst in 1u32..20,
        steps in prop::collection::vec(0u64..200, 1..300),
        window in 1u64..5000,
    ) {
        let gcra = Gcra::new(per(requests, 1), Some(burst));
        let (mut now, mut paid, mut passed) = (0u64, 0, Vec::new());
        for step in steps {
            now += step * 1_000_000;
            if let Ok((after, _)) = gcra.take(paid, now) {
                paid = after;
                passed.push(now);
            }
        }
        for start in &passed {
            let end = start + window * 1_000_000;
            let inside = passed.iter().filter(|t| (*start..end).contains(*t)).count() as u64;
            // The cost of a request is rounded down to whole nanoseconds: at most one more in such a window.
            let allowed = u64::from(burst) + window * u64::from(requests) / 1000 + 1;
            prop_assert!(inside <= allowed, "{} in {} ms, {} allowed", inside, window, allowed);
        }
    }
}
