//! Near endpoints first, shares of localities.

use std::time::Duration;

use tulle_model::{LoadBalancing, Locality, Mode, Scope as Nearness};

use super::balance_pick::{draw, member, near, shares};
use super::*;
use crate::balance::{Balancer, Cursor, Member, Outcome, Place};

fn place(text: &str) -> Place {
    let mut parts = text.split('/').map(Arc::from);
    let mut next = || parts.next().unwrap_or_default();
    Place {
        locality: Locality {
            region: next(),
            zone: next(),
            subzone: next(),
        },
        ..Place::default()
    }
}

fn at(text: &str) -> Member {
    Member {
        place: place(text),
        ..member(text, 1)
    }
}

fn policy(locality: Option<LocalityBalancing>, detects: bool) -> TrafficPolicy {
    TrafficPolicy {
        locality,
        outliers: detects.then(|| OutlierDetection {
            consecutive_5xx_errors: Some(1),
            max_ejection_percent: Some(100),
            base_ejection_time: Some(Duration::from_secs(60)),
            ..OutlierDetection::default()
        }),
        ..TrafficPolicy::default()
    }
}

fn locality() -> LocalityBalancing {
    LocalityBalancing {
        enabled: true,
        distribute: vec![],
        failover: vec![],
        priority: vec![],
    }
}

fn balancer(policy: &TrafficPolicy, client: &Place, members: Vec<Member>) -> Balancer {
    Balancer::new(policy, &LoadBalancing::default(), client, members)
}

/// Which endpoints are used at all while those in `down` are ejected.
fn used(balancer: &Balancer, down: &[usize]) -> Vec<usize> {
    for index in down {
        balancer.report(*index, Outcome::Status(500), Duration::from_secs(1));
    }
    let mut cursor = Cursor::default();
    let mut used: Vec<usize> = (0..400)
        .filter_map(|n| balancer.choose(&draw(2, n), &mut cursor))
        .collect();
    used.sort_unstable();
    used.dedup();
    used
}

fn everywhere() -> Vec<Member> {
    ["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2/z1/s1", "r3/z1/s1"]
        .map(at)
        .into()
}

#[test]
fn failover_goes_outward() {
    let client = place("r1/z1/s1");
    let all = || balancer(&policy(Some(locality()), true), &client, everywhere());
    assert_eq!(used(&all(), &[]), [0]);
    assert_eq!(used(&all(), &[0]), [1]);
    assert_eq!(used(&all(), &[0, 1]), [2]);
    assert_eq!(used(&all(), &[0, 1, 2]), [3, 4]);
    assert_eq!(used(&all(), &[0, 1, 2, 3, 4]), [0; 0]);
    // The same without a setting: Istio's default is on, together with outlier detection only.
    assert_eq!(
        used(&balancer(&policy(None, true), &client, everywhere()), &[0]),
        [1]
    );
    assert_eq!(
        used(&balancer(&policy(None, false), &client, everywhere()), &[]),
        [0, 1, 2, 3, 4]
    );
    let off = LocalityBalancing {
        enabled: false,
        ..locality()
    };
    assert_eq!(
        used(
            &balancer(&policy(Some(off), true), &client, everywhere()),
            &[]
        ),
        [0, 1, 2, 3, 4]
    );
}

#[test]
fn regions_fail_over_to_the_named_one() {
    let setting = LocalityBalancing {
        failover: vec![("r1".into(), "r3".into())],
        ..locality()
    };
    let all = || {
        balancer(
            &policy(Some(setting.clone()), true),
            &place("r1/z1/s1"),
            everywhere(),
        )
    };
    assert_eq!(used(&all(), &[0, 1, 2]), [4]);
    assert_eq!(used(&all(), &[0, 1, 2, 4]), [3]);
}

#[test]
fn labels_give_priorities() {
    let labelled = |id: &str, version: &str, network: &str| Member {
        place: Place {
            network: network.into(),
            labels: [("version".into(), version.into())].into(),
            ..place("r1/z1")
        },
        ..member(id, 1)
    };
    let client = labelled("client", "v1", "n1").place;
    let members = || {
        vec![
            labelled("a", "v1", "n1"),
            labelled("b", "v2", "n1"),
            labelled("c", "v1", "n2"),
            labelled("d", "v2", "n2"),
        ]
    };
    let by = |labels: &[&str]| LocalityBalancing {
        priority: labels.iter().map(|l| (*l).into()).collect(),
        ..locality()
    };
    let all = |labels: &[&str]| balancer(&policy(Some(by(labels)), true), &client, members());
    assert_eq!(used(&all(&["version"]), &[]), [0, 2]);
    assert_eq!(used(&all(&["version"]), &[0, 2]), [1, 3]);
    assert_eq!(used(&all(&["version=v2"]), &[]), [1, 3]);
    // A network that comes first: everything in the own one before anything in another.
    let network = ["topology.istio.io/network", "version"];
    assert_eq!(used(&all(&network), &[]), [0]);
    assert_eq!(used(&all(&network), &[0]), [1]);
    assert_eq!(used(&all(&network), &[0, 1]), [2]);
    assert_eq!(used(&all(&network), &[0, 1, 2]), [3]);
}

#[test]
fn part_of_the_traffic_spills_over() {
    let client = place("r1/z1/s1");
    let members: Vec<_> = ["r1/z1/s1"; 4]
        .into_iter()
        .chain(["r2/z1/s1"; 4])
        .map(at)
        .collect();
    let all = balancer(&policy(Some(locality()), true), &client, members);
    let now = Duration::from_secs(1);
    all.report(0, Outcome::Status(500), now);
    // 3 of 4 times 1.4 is still everything.
    near(
        &shares(&all, 2),
        &[0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0, 0.0, 0.0, 0.0],
    );
    all.report(1, Outcome::Status(500), now);
    // 2 of 4 times 1.4 is 70 %.
    near(
        &shares(&all, 2),
        &[0.0, 0.0, 0.35, 0.35, 0.075, 0.075, 0.075, 0.075],
    );
}

#[test]
fn shares_are_distributed() {
    let to = |pairs: &[(&str, u32)]| pairs.iter().map(|(l, p)| ((*l).into(), *p)).collect();
    let setting = LocalityBalancing {
        distribute: vec![
            LocalityShare {
                from: "r9/*".into(),
                to: to(&[("r3/*", 100)]),
            },
            LocalityShare {
                from: "r1/z1/*".into(),
                to: to(&[("r1/z1/*", 70), ("r1/z2/*", 20), ("r2/*", 10)]),
            },
        ],
        ..locality()
    };
    let policy = policy(Some(setting), true);
    let all = balancer(&policy, &place("r1/z1/s1"), everywhere());
    near(&shares(&all, 0), &[0.35, 0.35, 0.2, 0.1, 0.0]);
    // Whoever is not named has no preference.
    let elsewhere = balancer(&policy, &place("r5/z1"), everywhere());
    near(&shares(&elsewhere, 0), &[0.2; 5]);
    // The share of a locality without healthy endpoints goes to the others.
    all.report(2, Outcome::Status(500), Duration::from_secs(1));
    near(&shares(&all, 2), &[0.4375, 0.4375, 0.0, 0.125, 0.0]);
}

#[test]
fn preferences_of_the_service_count_without_a_rule() {
    let service = |mode| LoadBalancing {
        preference: vec![Nearness::Region, Nearness::Zone],
        mode,
        ..LoadBalancing::default()
    };
    let client = place("r1/z2/s9");
    let of =
        |mode, policy: &TrafficPolicy| Balancer::new(policy, &service(mode), &client, everywhere());
    let default = TrafficPolicy::default();
    assert_eq!(used(&of(Mode::Failover, &default), &[]), [2]);
    assert_eq!(used(&of(Mode::Standard, &default), &[]), [0, 1, 2, 3, 4]);
    let strict = Balancer::new(
        &default,
        &service(Mode::Strict),
        &place("r7/z1"),
        everywhere(),
    );
    assert_eq!(used(&strict, &[]), [0; 0]);
    let off = LocalityBalancing {
        enabled: false,
        ..locality()
    };
    assert_eq!(
        used(&of(Mode::Failover, &policy(Some(off), false)), &[]),
        [0, 1, 2, 3, 4]
    );
}

#[test]
fn panic_uses_everybody() {
    let mut policy = policy(Some(locality()), true);
    let settings = policy.outliers.as_mut().unwrap();
    settings.min_health_percent = Some(50);
    let all = balancer(&policy, &place("r1/z1/s1"), ["r1/z1/s1"; 4].map(at).into());
    let now = Duration::from_secs(1);
    for index in 0..2 {
        all.report(index, Outcome::Status(500), now);
    }
    near(&shares(&all, 2), &[0.0, 0.0, 0.5, 0.5]);
    all.report(2, Outcome::Status(500), now);
    near(&shares(&all, 2), &[0.25; 4]);
    all.report(3, Outcome::Status(500), now);
    near(&shares(&all, 2), &[0.25; 4]);
}
