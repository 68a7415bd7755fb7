//! Outlier detection.

use std::time::Duration;

use super::balance_pick::{balancer, member, near, shares};
use super::*;
use crate::balance::{Balancer, Detector, Ejection, Outcome, State, Symptom};

const NOW: Duration = Duration::from_secs(100);

fn detector(settings: OutlierDetection) -> Detector {
    Detector::new(OutlierDetection {
        max_ejection_percent: Some(100),
        ..settings
    })
}

/// After how many of these an endpoint goes, and why.
fn after(detector: &Detector, outcomes: &[Outcome]) -> Option<(usize, Symptom)> {
    let state = State::default();
    let report = |outcome: &Outcome| detector.report(&state, *outcome, NOW, 1, || 0);
    outcomes
        .iter()
        .enumerate()
        .find_map(|(n, outcome)| report(outcome).map(|e| (n + 1, e.symptom)))
}

#[test]
fn five_errors_in_a_row_are_enough_by_default() {
    let default = detector(OutlierDetection::default());
    let errors = [Outcome::Status(500); 10];
    assert_eq!(after(&default, &errors), Some((5, Symptom::ServerErrors)));
    let mut interrupted = errors;
    interrupted[4] = Outcome::Status(404);
    assert_eq!(
        after(&default, &interrupted),
        Some((10, Symptom::ServerErrors))
    );
    assert_eq!(after(&default, &interrupted[..9]), None);
    assert_eq!(after(&default, &[Outcome::Status(404); 20]), None);
    let off = detector(OutlierDetection {
        consecutive_5xx_errors: Some(0),
        ..OutlierDetection::default()
    });
    assert_eq!(after(&off, &[Outcome::Status(500); 20]), None);
}

#[test]
fn gateway_errors_have_a_limit_of_their_own() {
    let settings = detector(OutlierDetection {
        consecutive_gateway_errors: Some(2),
        ..OutlierDetection::default()
    });
    let status =
        |codes: &[u16]| -> Vec<Outcome> { codes.iter().map(|c| Outcome::Status(*c)).collect() };
    assert_eq!(
        after(&settings, &status(&[502, 503])),
        Some((2, Symptom::GatewayErrors))
    );
    assert_eq!(
        after(&settings, &status(&[504, 500, 502, 500, 503])),
        Some((5, Symptom::ServerErrors))
    );
    assert_eq!(
        after(&settings, &[Outcome::LocalFailure; 3]),
        Some((2, Symptom::GatewayErrors))
    );
}

#[test]
fn local_failures_count_as_errors_unless_they_are_split() {
    let failures = [Outcome::LocalFailure; 9];
    let joined = detector(OutlierDetection::default());
    assert_eq!(after(&joined, &failures), Some((5, Symptom::ServerErrors)));
    let split = |limit| {
        detector(OutlierDetection {
            split_external_local_origin_errors: true,
            consecutive_local_origin_failures: limit,
            ..OutlierDetection::default()
        })
    };
    assert_eq!(
        after(&split(Some(3)), &failures),
        Some((3, Symptom::LocalFailures))
    );
    assert_eq!(
        after(&split(None), &failures),
        Some((5, Symptom::LocalFailures))
    );
    assert_eq!(after(&split(Some(0)), &failures), None);
    // An answer, whatever it says, shows that the endpoint can be reached.
    let mut answered = failures;
    answered[2] = Outcome::Status(500);
    assert_eq!(
        after(&split(Some(3)), &answered),
        Some((6, Symptom::LocalFailures))
    );
}

#[test]
fn ejections_grow_and_are_forgiven() {
    let settings = detector(OutlierDetection {
        consecutive_5xx_errors: Some(1),
        base_ejection_time: Some(Duration::from_secs(30)),
        interval: Some(Duration::from_secs(10)),
        ..OutlierDetection::default()
    });
    let state = State::default();
    let eject = |at: u64| {
        let found = settings.report(
            &state,
            Outcome::Status(500),
            Duration::from_secs(at),
            1,
            || 0,
        );
        found.map(|Ejection { duration, .. }| duration.as_secs())
    };
    assert_eq!(eject(100), Some(30));
    // Late answers of an endpoint that is already out change nothing.
    assert_eq!(eject(110), None);
    assert!(state.is_ejected(Duration::from_secs(129)));
    assert!(!state.is_ejected(Duration::from_secs(130)));
    assert_eq!(eject(131), Some(60));
    assert_eq!(eject(191), Some(90));
    // 21 quiet seconds: two intervals are forgiven.
    assert_eq!(eject(281 + 21), Some(60));
}

#[test]
fn ejections_end_after_five_minutes_at_most() {
    let settings = detector(OutlierDetection {
        consecutive_5xx_errors: Some(1),
        interval: Some(Duration::from_secs(3600)),
        ..OutlierDetection::default()
    });
    let state = State::default();
    let mut now = NOW;
    let mut durations = Vec::new();
    for _ in 0..12 {
        let report = settings.report(&state, Outcome::Status(500), now, 1, || 0);
        let duration = report.unwrap().duration;
        now += duration;
        durations.push(duration.as_secs());
    }
    assert_eq!(
        durations,
        [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    );
}

fn policy(settings: OutlierDetection) -> TrafficPolicy {
    TrafficPolicy {
        outliers: Some(OutlierDetection {
            consecutive_5xx_errors: Some(1),
            ..settings
        }),
        ..TrafficPolicy::default()
    }
}

fn of(count: usize, settings: OutlierDetection) -> Balancer {
    balancer(
        &policy(settings),
        (0..count).map(|n| member(&format!("m{n}"), 1)).collect(),
    )
}

fn ejected(balancer: &Balancer) -> usize {
    let report = |index| balancer.report(index, Outcome::Status(503), NOW);
    (0..balancer.members().len()).filter_map(report).count()
}

#[test]
fn only_so_many_are_ejected() {
    let percent = |max| OutlierDetection {
        max_ejection_percent: max,
        ..OutlierDetection::default()
    };
    for (count, max, wanted) in [
        (10, Some(30), 3),
        (10, Some(35), 3),
        (10, Some(100), 10),
        (10, Some(0), 0),
        (3, Some(10), 0),
        (2, Some(50), 1),
        // Istio's default is 10 %; one of several may always go.
        (30, None, 3),
        (3, None, 1),
        (1, None, 0),
    ] {
        assert_eq!(ejected(&of(count, percent(max))), wanted, "{count} {max:?}");
    }
}

#[test]
fn ejected_endpoints_get_nothing_until_they_return() {
    let balancer = of(
        4,
        OutlierDetection {
            max_ejection_percent: Some(50),
            base_ejection_time: Some(Duration::from_secs(30)),
            ..OutlierDetection::default()
        },
    );
    near(&shares(&balancer, 100), &[0.25; 4]);
    let ejection = balancer.report(1, Outcome::LocalFailure, NOW).unwrap();
    assert_eq!(ejection.duration, Duration::from_secs(30));
    near(
        &shares(&balancer, 129),
        &[1.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0],
    );
    near(&shares(&balancer, 130), &[0.25; 4]);
}

#[test]
fn states_outlive_a_new_balancer() {
    let old = of(
        4,
        OutlierDetection {
            max_ejection_percent: Some(50),
            ..OutlierDetection::default()
        },
    );
    old.report(0, Outcome::Status(500), NOW);
    let new = balancer(&policy(OutlierDetection::default()), old.members().to_vec());
    near(&shares(&new, 101), &[0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]);
    // Without outlier detection nobody is left out.
    let plain = balancer(&TrafficPolicy::default(), old.members().to_vec());
    assert!(plain.report(1, Outcome::Status(500), NOW).is_none());
}
