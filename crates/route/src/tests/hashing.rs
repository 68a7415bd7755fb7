//! Ring and Maglev: shares, and how few keys move.

use proptest::prelude::*;

use crate::balance::{Dice, Maglev, Ring, stable_hash};

const KEYS: u64 = 20_000;

fn keys() -> impl Iterator<Item = u64> {
    let mut dice = Dice::new(7);
    (0..KEYS).map(move |_| dice.roll())
}

fn ids(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("cluster//Pod/ns/app-{n}"))
        .collect()
}

fn weighted(ids: &[String], weight: impl Fn(usize) -> u32) -> Vec<(&str, u32)> {
    ids.iter()
        .enumerate()
        .map(|(n, id)| (id.as_str(), weight(n)))
        .collect()
}

/// Share of each endpoint, for either algorithm.
fn shares(choose: impl Fn(u64) -> usize, count: usize) -> Vec<f64> {
    let mut counts = vec![0u32; count];
    for key in keys() {
        counts[choose(key)] += 1;
    }
    counts
        .into_iter()
        .map(|c| f64::from(c) / KEYS as f64)
        .collect()
}

#[test]
fn the_hash_never_changes() {
    // Pinned: replicas of two versions must agree.
    assert_eq!(stable_hash(b""), 17_665_956_581_633_026_203);
    assert_ne!(stable_hash(b"a"), stable_hash(b"b"));
}

#[test]
fn maglev_shares_evenly() {
    let ids = ids(10);
    let table = Maglev::new(&weighted(&ids, |_| 1), None);
    assert_eq!(table.len(), 65_537);
    let shares = shares(|key| table.from(key).next().unwrap(), 10);
    assert!(
        shares.iter().all(|s| (0.09..0.11).contains(s)),
        "{shares:?}"
    );
}

#[test]
fn maglev_shares_by_weight() {
    let ids = ids(4);
    let table = Maglev::new(&weighted(&ids, |n| [1, 2, 3, 0][n]), Some(10_007));
    let shares = shares(|key| table.from(key).next().unwrap(), 4);
    for (share, wanted) in shares.iter().zip([1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0, 0.0]) {
        assert!((share - wanted).abs() < 0.02, "{shares:?}");
    }
}

#[test]
fn maglev_moves_few_keys() {
    let ids = ids(20);
    let all = Maglev::new(&weighted(&ids, |_| 1), None);
    let without = Maglev::new(&weighted(&ids[..19], |_| 1), None);
    let moved = keys()
        .filter(|key| {
            let before = all.from(*key).next().unwrap();
            before != 19 && before != without.from(*key).next().unwrap()
        })
        .count();
    // Of the 95 % that need not move; Maglev trades a little disruption for evenness.
    assert!(moved < KEYS as usize / 20, "{moved} of {KEYS}");
}

#[test]
fn maglev_does_not_depend_on_the_order_of_endpoints() {
    let ids = ids(7);
    let table = Maglev::new(&weighted(&ids, |n| n as u32 + 1), Some(1009));
    let mut backwards: Vec<_> = weighted(&ids, |n| n as u32 + 1);
    backwards.reverse();
    let other = Maglev::new(&backwards, Some(1009));
    for key in keys().take(2000) {
        assert_eq!(
            table.from(key).next().unwrap(),
            6 - other.from(key).next().unwrap()
        );
    }
}

#[test]
fn sizes_of_maglev_are_prime() {
    let ids = ids(2);
    for (wanted, length) in [(1, 2), (100, 101), (1000, 1009), (65_537, 65_537)] {
        assert_eq!(
            Maglev::new(&weighted(&ids, |_| 1), Some(wanted)).len(),
            length
        );
    }
    assert!(Maglev::new(&[], None).is_empty());
    assert!(Maglev::new(&weighted(&ids, |_| 0), None).is_empty());
    assert_eq!(Maglev::new(&[], None).from(7).next(), None);
}

#[test]
fn rings_share_by_weight() {
    let ids = ids(4);
    let ring = Ring::new(&weighted(&ids, |n| [1, 2, 4, 0][n]), Some(8192));
    let shares = shares(|key| ring.from(key).next().unwrap(), 4);
    for (share, wanted) in shares.iter().zip([1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0, 0.0]) {
        assert!((share - wanted).abs() < 0.05, "{shares:?}");
    }
}

#[test]
fn rings_move_only_the_keys_of_who_left() {
    let ids = ids(20);
    let all = Ring::new(&weighted(&ids, |_| 1), Some(2000));
    // The same number of points for each that stays.
    let without = Ring::new(&weighted(&ids[..19], |_| 1), Some(1900));
    for key in keys().take(5000) {
        let before = all.from(key).next().unwrap();
        let after = without.from(key).next().unwrap();
        if before != 19 {
            assert_eq!(before, after);
        } else {
            // They go to the next one on the ring.
            assert_eq!(Some(after), all.from(key).find(|index| *index != 19));
        }
    }
}

#[test]
fn rings_have_a_point_for_everybody() {
    let ids = ids(50);
    let ring = Ring::new(&weighted(&ids, |_| 1), Some(1));
    assert_eq!(ring.len(), 50);
    assert!(Ring::new(&[], None).is_empty());
    assert_eq!(Ring::new(&[], None).from(1).next(), None);
    // An endless weight does not make an endless ring.
    let heavy = Ring::new(&weighted(&ids[..2], |n| [1, u32::MAX][n]), None);
    assert!(heavy.len() <= 1 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// The order that the table was filled in against the paper's: an entry belongs to whoever likes it best among those that had their
    /// turn; here as: every endpoint owns its share to within one round.
    #[test]
    fn maglev_entries_follow_weights(weights in prop::collection::vec(1u32..5, 1..9)) {
        let ids = ids(weights.len());
        let table = Maglev::new(&weighted(&ids, |n| weights[n]), Some(1009));
        let mut counts = vec![0f64; weights.len()];
        // A step through every entry from any start meets each exactly once.
        for index in table.from(3) {
            counts[index] += 1.0;
        }
        prop_assert_eq!(counts.iter().sum::<f64>(), 1009.0);
        let total: u32 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let wanted = 1009.0 * f64::from(*weight) / f64::from(total);
            prop_assert!((count - wanted).abs() <= 5.0, "{:?} {:?}", counts, weights);
        }
    }

    #[test]
    fn rings_agree_with_a_walk(hash in any::<u64>()) {
        let ids = ids(5);
        let ring = Ring::new(&weighted(&ids, |_| 1), Some(64));
        let all: Vec<usize> = ring.from(0).collect();
        let rotated: Vec<usize> = ring.from(hash).collect();
        prop_assert_eq!(rotated.len(), all.len());
        let start = (0..all.len()).find(|n| all.iter().cycle().skip(*n).take(all.len()).eq(rotated.iter()));
        prop_assert!(start.is_some());
    }
}
