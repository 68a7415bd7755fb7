//! Algorithms.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::balance::{
    Balancer, Breaker, Cursor, Draw, Hashed, Member, Place, Refused, State, Use, hash_key,
};

pub(super) fn member(id: &str, weight: u32) -> Member {
    Member {
        id: id.into(),
        weight,
        place: Place::default(),
        since: Duration::ZERO,
        state: Arc::new(State::default()),
    }
}

pub(super) fn balancer(policy: &TrafficPolicy, members: Vec<Member>) -> Balancer {
    Balancer::new(
        policy,
        &tulle_model::LoadBalancing::default(),
        &Place::default(),
        members,
    )
}

pub(super) fn with(balancing: Balancing) -> TrafficPolicy {
    TrafficPolicy {
        balancing: Some(balancing),
        ..TrafficPolicy::default()
    }
}

pub(super) fn draw(now: u64, dice: u64) -> Draw<'static> {
    Draw {
        now: Duration::from_secs(now),
        dice: dice.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        hash: None,
        tried: &[],
    }
}

/// Shares of many choices at one moment.
pub(super) fn shares(balancer: &Balancer, now: u64) -> Vec<f64> {
    let mut cursor = Cursor::default();
    let mut counts = vec![0u32; balancer.members().len()];
    for dice in 0..6000 {
        if let Some(index) = balancer.choose(&draw(now, dice), &mut cursor) {
            counts[index] += 1;
        }
    }
    counts.into_iter().map(|c| f64::from(c) / 6000.0).collect()
}

pub(super) fn near(found: &[f64], wanted: &[f64]) {
    let close = found.iter().zip(wanted).all(|(f, w)| (f - w).abs() < 0.03);
    assert!(
        close && found.len() == wanted.len(),
        "{found:?}, not {wanted:?}"
    );
}

fn members(weights: &[u32]) -> Vec<Member> {
    let one = |(n, weight): (usize, &u32)| member(&format!("m{n}"), *weight);
    weights.iter().enumerate().map(one).collect()
}

fn order(balancer: &Balancer, count: usize) -> Vec<usize> {
    let mut cursor = Cursor::default();
    (0..count)
        .map(|n| balancer.choose(&draw(0, n as u64), &mut cursor).unwrap())
        .collect()
}

#[test]
fn round_robin_takes_turns() {
    let balancer = balancer(&with(Balancing::RoundRobin), members(&[1, 1, 1]));
    assert_eq!(order(&balancer, 7), [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn weighted_round_robin_is_smooth() {
    let balancer = balancer(&with(Balancing::RoundRobin), members(&[5, 1, 1]));
    // The heavy one is never chosen five times in a row.
    assert_eq!(order(&balancer, 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(order(&balancer, 14)[7..], order(&balancer, 7));
}

#[test]
fn every_algorithm_follows_weights() {
    let ring = |maglev| {
        Balancing::Consistent(ConsistentHash {
            key: HashKey::SourceAddress,
            maglev,
            minimum_ring: None,
        })
    };
    for algorithm in [
        Balancing::Random,
        Balancing::LeastRequest,
        Balancing::RoundRobin,
        Balancing::Passthrough,
        ring(None),
        ring(Some(1009)),
    ] {
        let balancer = balancer(&with(algorithm.clone()), members(&[1, 2, 3, 0]));
        // Without a hash, consistent hashing is random.
        near(
            &shares(&balancer, 0),
            &[1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0, 0.0],
        );
    }
    near(
        &shares(&balancer(&TrafficPolicy::default(), members(&[1, 1])), 0),
        &[0.5, 0.5],
    );
}

#[test]
fn least_request_avoids_the_busy_one() {
    let balancer = balancer(&TrafficPolicy::default(), members(&[1, 1, 1, 1]));
    let busy: Vec<_> = (0..5)
        .map(|_| balancer.members()[0].state.begin())
        .collect();
    assert_eq!(balancer.members()[0].state.active(), 5);
    // Only when both draws fall on it.
    near(
        &shares(&balancer, 0),
        &[1.0 / 16.0, 5.0 / 16.0, 5.0 / 16.0, 5.0 / 16.0],
    );
    drop(busy);
    near(&shares(&balancer, 0), &[0.25; 4]);
}

#[test]
fn nobody_there() {
    for weights in [&[][..], &[0, 0]] {
        let balancer = balancer(&TrafficPolicy::default(), members(weights));
        assert_eq!(balancer.choose(&draw(0, 1), &mut Cursor::default()), None);
    }
}

#[test]
fn tried_endpoints_are_avoided_while_there_are_others() {
    for algorithm in [
        Balancing::Random,
        Balancing::LeastRequest,
        Balancing::RoundRobin,
    ] {
        let balancer = balancer(&with(algorithm), members(&[1, 1, 100]));
        let mut cursor = Cursor::default();
        for dice in 0..200 {
            let first = Draw {
                tried: &[2],
                ..draw(0, dice)
            };
            assert_ne!(balancer.choose(&first, &mut cursor), Some(2));
            let second = Draw {
                tried: &[0, 2],
                ..draw(0, dice)
            };
            assert_eq!(balancer.choose(&second, &mut cursor), Some(1));
            let all = Draw {
                tried: &[0, 1, 2],
                ..draw(0, dice)
            };
            assert!(balancer.choose(&all, &mut cursor).is_some());
        }
    }
}

#[test]
fn new_endpoints_warm_up() {
    let policy = |balancing| TrafficPolicy {
        warm_up: Some(Duration::from_secs(100)),
        ..with(balancing)
    };
    for balancing in [Balancing::RoundRobin, Balancing::Random] {
        let mut all = members(&[1, 1]);
        all[1].since = Duration::from_secs(1000);
        let balancer = balancer(&policy(balancing), all);
        // A tenth of the other's share at first, half of it half-way, and all of it in the end.
        near(&shares(&balancer, 1000), &[1.0 / 1.1, 0.1 / 1.1]);
        near(&shares(&balancer, 1050), &[1.0 / 1.5, 0.5 / 1.5]);
        near(&shares(&balancer, 1100), &[0.5, 0.5]);
    }
    // When all are new, nobody is.
    let balancer = balancer(&policy(Balancing::Random), members(&[1, 1, 1]));
    near(&shares(&balancer, 0), &[1.0 / 3.0; 3]);
}

#[test]
fn the_same_key_goes_to_the_same_endpoint() {
    for maglev in [None, Some(1009)] {
        let algorithm = Balancing::Consistent(ConsistentHash {
            key: HashKey::SourceAddress,
            maglev,
            minimum_ring: None,
        });
        let balancer = balancer(&with(algorithm), members(&[1; 8]));
        let mut seen = BTreeSet::new();
        for key in 0..200u64 {
            let chosen = |dice, tried: &[usize]| {
                let hash = Some(crate::balance::stable_hash(&key.to_le_bytes()));
                let draw = Draw {
                    hash,
                    tried,
                    ..draw(0, dice)
                };
                balancer.choose(&draw, &mut Cursor::default()).unwrap()
            };
            let own = chosen(1, &[]);
            assert!((2..20).all(|dice| chosen(dice, &[]) == own));
            // The next one is always the same, too.
            let next = chosen(1, &[own]);
            assert_ne!(next, own);
            assert_eq!(chosen(2, &[own]), next);
            seen.insert(own);
        }
        assert_eq!(seen.len(), 8);
    }
}

#[test]
fn keys_of_requests() {
    let ip = "10.0.0.1".parse().unwrap();
    let hashed = |key: &HashKey, request: &Request| hash_key(key, &request.head(), ip, 5);
    let header = HashKey::Header("x-user".into());
    let (a, b) = (
        get("h", "/").with("x-user", "a"),
        get("h", "/").with("x-user", "b"),
    );
    assert_ne!(hashed(&header, &a), hashed(&header, &b));
    assert_eq!(
        hashed(&header, &a),
        hashed(&header, &a.clone().with("other", "1"))
    );
    assert_eq!(hashed(&header, &get("h", "/")), Hashed::default());
    let query = HashKey::Query("q".into());
    assert_ne!(
        hashed(&query, &get("h", "/?q=1")),
        hashed(&query, &get("h", "/?q=2"))
    );
    assert_eq!(hashed(&query, &get("h", "/")).hash, None);
    let mapped = hash_key(
        &HashKey::SourceAddress,
        &a.head(),
        "::ffff:10.0.0.1".parse().unwrap(),
        9,
    );
    assert_eq!(hashed(&HashKey::SourceAddress, &b), mapped);
}

#[test]
fn cookies_are_made_once() {
    let ip = "10.0.0.1".parse().unwrap();
    let key = |ttl: Option<u64>| HashKey::Cookie {
        name: "session".into(),
        path: Some("/shop".into()),
        ttl: ttl.map(Duration::from_secs),
    };
    let without = get("h", "/").with("cookie", "other=1; sessions=2");
    assert_eq!(
        hash_key(&key(None), &without.head(), ip, 1),
        Hashed::default()
    );
    let made = hash_key(&key(Some(60)), &without.head(), ip, 1);
    let cookie = made.cookie.as_ref().unwrap().to_string();
    assert!(cookie.starts_with("session=\""), "{cookie}");
    assert!(
        cookie.ends_with("; Max-Age=60; Path=/shop; HttpOnly"),
        "{cookie}"
    );
    assert!(
        !hash_key(&key(Some(0)), &without.head(), ip, 1)
            .cookie
            .unwrap()
            .to_string()
            .contains("Max-Age")
    );
    // The client brings it back: the same hash, and no new cookie.
    let pair = cookie.split(';').next().unwrap();
    let back = get("h", "/")
        .with("cookie", "a=b")
        .with("cookie", &format!("c=d; {pair}"));
    let again = hash_key(&key(Some(60)), &back.head(), ip, 2);
    assert_eq!((again.hash, again.cookie), (made.hash, None));
}

#[test]
fn breakers_count_and_refuse() {
    let breaker = Breaker::new(CircuitBreaker {
        max_requests: Some(2),
        ..CircuitBreaker::default()
    });
    let first = breaker.enter(Use::Request).unwrap();
    let _second = breaker.enter(Use::Request).unwrap();
    let refused = breaker.enter(Use::Request).unwrap_err();
    assert_eq!(
        refused,
        Refused {
            kind: Use::Request,
            limit: 2
        }
    );
    assert!(
        refused.to_string().contains("limit of 2 requests"),
        "{refused}"
    );
    drop(first);
    assert_eq!(breaker.count(Use::Request), 1);
    breaker.enter(Use::Request).unwrap();
    // What has no limit is counted, too.
    let pending: Vec<_> = (0..100)
        .map(|_| breaker.enter(Use::Pending).unwrap())
        .collect();
    assert_eq!(breaker.count(Use::Pending), 100);
    drop(pending);
    assert_eq!(breaker.count(Use::Pending), 0);
}

#[test]
fn retry_budgets_grow_with_the_load() {
    let breaker = Breaker::new(CircuitBreaker {
        max_retries: Some(0),
        retry_budget_percent: Some(20),
        retry_budget_minimum: Some(2),
        ..CircuitBreaker::default()
    });
    let retries = |breaker: &Arc<Breaker>| {
        let permits: Vec<_> = std::iter::from_fn(|| breaker.enter(Use::Retry).ok())
            .take(1000)
            .collect();
        permits.len()
    };
    // The budget counts instead of the fixed number.
    assert_eq!(retries(&breaker), 2);
    let _active: Vec<_> = (0..50)
        .map(|_| breaker.enter(Use::Request).unwrap())
        .collect();
    assert_eq!(retries(&breaker), 10);
    let fixed = Breaker::new(CircuitBreaker {
        max_retries: Some(4),
        ..CircuitBreaker::default()
    });
    assert_eq!(retries(&fixed), 4);
}
