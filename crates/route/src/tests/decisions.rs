//! Split, fault, header edits, retries, timeouts.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::decide::{
    Again, Attempted, Deadlines, Failure, deadlines, default_retry, grpc_timeout, mirrors, retry,
    split,
};

#[test]
fn http_route_weight() {
    // The suite's shares.
    let backends = [backend("v1", 70), backend("v2", 30), backend("v3", 0)];
    let mut counts = [0; 3];
    for dice in 0..1000 {
        counts[split(&backends, dice).unwrap()] += 1;
    }
    assert_eq!(counts, [700, 300, 0]);
}

#[test]
fn nothing_to_split_is_no_backend() {
    assert_eq!(split(&[], 7), None);
    assert_eq!(split(&[backend("a", 0), backend("b", 0)], 7), None);
    assert_eq!(
        split(&[backend("a", 0), backend("b", u32::MAX)], u64::MAX),
        Some(1)
    );
}

proptest! {
    #[test]
    fn shares_follow_weights(weights in proptest::collection::vec(0u32..6, 1..6)) {
        let backends: Vec<_> = weights.iter().map(|w| backend("x", *w)).collect();
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let mut counts = vec![0; weights.len()];
        for dice in 0..total {
            counts[split(&backends, dice).unwrap()] += 1;
        }
        prop_assert_eq!(counts, weights);
    }

    #[test]
    fn fractions_hit_their_share(numerator in 0u32..120, denominator in 1u32..120) {
        let fraction = Fraction { numerator, denominator };
        let hits = (0..u64::from(denominator)).filter(|dice| fraction.hits(*dice)).count();
        prop_assert_eq!(hits as u32, numerator.min(denominator));
    }
}

/// HTTPRouteRequestMirror, HTTPRouteRequestMultipleMirrors and HTTPRouteRequestPercentageMirror.
#[test]
fn http_route_request_mirrors() {
    let mirror = |name: &str, percent| Mirror {
        target: backend(name, 1).target,
        fraction: Fraction {
            numerator: percent,
            denominator: 100,
        },
    };
    let all = [
        mirror("all", 100),
        mirror("fifth", 20),
        mirror("half", 50),
        mirror("none", 0),
    ];
    let mut counts = [0u32; 4];
    let mut both = 0;
    for dice in 0..4000 {
        let hit: Vec<bool> = all
            .iter()
            .map(|one| mirrors(&all, dice).any(|m| m == one))
            .collect();
        for (count, hit) in counts.iter_mut().zip(&hit) {
            *count += u32::from(*hit);
        }
        both += u32::from(hit[1] && hit[2]);
    }
    let [all, fifth, half, none] = counts;
    assert_eq!((all, none), (4000, 0));
    assert!(
        (700..900).contains(&fifth) && (1850..2150).contains(&half),
        "{counts:?}"
    );
    assert!((300..500).contains(&both), "drawn on their own: {both}");
}

#[test]
fn faults_are_drawn_independently() {
    let half = Fraction {
        numerator: 50,
        denominator: 100,
    };
    let fault = Fault {
        delay: Some(Delay {
            fixed: Duration::from_secs(2),
            fraction: half,
        }),
        abort: Some(Abort {
            status: 400,
            grpc: None,
            fraction: half,
        }),
    };
    let both = fault.decide(49, 49);
    assert_eq!(both.delay, Some(Duration::from_secs(2)));
    assert_eq!(both.abort.map(|abort| abort.status), Some(400));
    assert_eq!(fault.decide(50, 49).delay, None);
    assert!(fault.decide(50, 49).abort.is_some());
    assert_eq!(
        fault.decide(50, 50),
        crate::decide::FaultDecision::default()
    );
}

#[test]
fn a_share_of_nothing_is_refused() {
    let filter = Filter::Mirror(Mirror {
        target: backend("m", 1).target,
        fraction: Fraction {
            numerator: 1,
            denominator: 0,
        },
    });
    let with_filter = Rule {
        filters: vec![filter],
        ..rule("mirror", vec![])
    };
    let error = Table::default()
        .insert_http(route("r", &[], vec![rule("fine", vec![]), with_filter]))
        .unwrap_err();
    assert_eq!((error.rule, error.fault), (1, crate::RuleFault::Fraction));
}

/// HTTPRouteRequestHeaderModifier.
#[test]
fn http_route_request_header_modifier() {
    let pairs = |list: &[(&str, &str)]| -> Vec<(Arc<str>, Arc<str>)> {
        list.iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect()
    };
    let edits = HeaderEdits {
        set: pairs(&[("x-header-set", "set-overwrites-values")]),
        add: pairs(&[
            ("x-header-add", "header-val-1"),
            ("x-header-add-append", "header-val-2"),
        ]),
        remove: vec!["x-header-remove".into()],
    };
    let rule = Rule {
        filters: vec![
            Filter::RequestHeaders(edits.clone()),
            Filter::ResponseHeaders(edits),
        ],
        ..rule("edits", vec![])
    };
    let table = table([route("r", &[], vec![rule])]);
    let mut request = get("h", "/")
        .with("X-Header-Set", "a")
        .with("X-Header-Set", "b")
        .with("X-Header-Add-Append", "append-val-1")
        .with("X-Header-Remove", "1")
        .with("X-Header-Remove", "2")
        .with("other", "kept");
    let routed = table
        .http(SCOPE, &request.head())
        .routed()
        .unwrap()
        .rule
        .clone();
    assert_eq!(routed.filters().response_headers.len(), 1);
    for edits in &routed.filters().request_headers {
        edits.apply(&mut request.headers);
    }
    let all = |name: &str| -> Vec<&str> {
        let values = request.headers.get_all(name).iter();
        values.map(|v| v.to_str().unwrap()).collect()
    };
    assert_eq!(all("x-header-set"), ["set-overwrites-values"]);
    assert_eq!(all("x-header-add"), ["header-val-1"]);
    assert_eq!(all("x-header-add-append"), ["append-val-1", "header-val-2"]);
    assert_eq!(all("x-header-remove"), [""; 0]);
    assert_eq!(all("other"), ["kept"]);
}

#[test]
fn headers_that_cannot_be_sent_are_refused() {
    for (name, value) in [(":authority", "x"), ("a b", "x"), ("a", "x\r\ny: z")] {
        let edits = HeaderEdits {
            set: vec![(name.into(), value.into())],
            ..HeaderEdits::default()
        };
        let rule = Rule {
            filters: vec![Filter::RequestHeaders(edits)],
            ..rule("edits", vec![])
        };
        let error = Table::default()
            .insert_http(route("r", &[], vec![rule]))
            .unwrap_err();
        assert!(
            matches!(error.fault, crate::RuleFault::Header { .. }),
            "{name}"
        );
    }
}

fn after(failure: Failure, attempts: u32) -> Attempted {
    Attempted {
        failure,
        attempts,
        replayable: true,
        dice: 0,
    }
}

#[test]
fn the_default_repeats_only_what_had_no_effect() {
    let policy = default_retry();
    let again = |failure| retry(policy, after(failure, 1)).is_some();
    for failure in [
        Failure::Connect,
        Failure::Refused,
        Failure::ResetBeforeRequest,
        Failure::Grpc(1),
        Failure::Grpc(14),
    ] {
        assert!(again(failure), "{failure:?}");
    }
    for failure in [
        Failure::Status(500),
        Failure::Status(503),
        Failure::Reset,
        Failure::Timeout,
        Failure::Grpc(0),
        Failure::Grpc(13),
    ] {
        assert!(!again(failure), "{failure:?}");
    }
    // Three attempts in all, each on another endpoint.
    let second = retry(policy, after(Failure::Connect, 2));
    assert_eq!(second.map(|again| again.avoid_tried), Some(true));
    assert_eq!(retry(policy, after(Failure::Connect, 3)), None);
}

#[test]
fn what_cannot_be_sent_again_is_not() {
    let attempted = Attempted {
        replayable: false,
        ..after(Failure::Connect, 1)
    };
    assert_eq!(retry(default_retry(), attempted), None);
}

#[test]
fn conditions_cover_what_envoy_says_they_cover() {
    let failures = [
        Failure::Connect,
        Failure::Refused,
        Failure::ResetBeforeRequest,
        Failure::Reset,
        Failure::Timeout,
        Failure::Status(500),
        Failure::Status(503),
        Failure::Status(409),
        Failure::Status(404),
    ];
    let covered = |on: RetryOn| failures.map(|failure| on.covers(failure));
    let none = RetryOn::default();
    let (t, f) = (true, false);
    assert_eq!(covered(none.clone()), [false; 9]);
    assert_eq!(
        covered(RetryOn {
            server_errors: true,
            ..none.clone()
        }),
        [t, t, t, t, t, t, t, f, f]
    );
    assert_eq!(
        covered(RetryOn {
            gateway_errors: true,
            ..none.clone()
        }),
        [t, t, t, t, t, f, t, f, f]
    );
    assert_eq!(
        covered(RetryOn {
            reset: true,
            ..none.clone()
        }),
        [t, t, t, t, t, f, f, f, f]
    );
    assert_eq!(
        covered(RetryOn {
            reset_before_request: true,
            ..none.clone()
        }),
        [f, f, t, f, f, f, f, f, f]
    );
    assert_eq!(
        covered(RetryOn {
            connect_failure: true,
            ..none.clone()
        }),
        [t, f, f, f, f, f, f, f, f]
    );
    assert_eq!(
        covered(RetryOn {
            refused_stream: true,
            ..none.clone()
        }),
        [f, t, f, f, f, f, f, f, f]
    );
    assert_eq!(
        covered(RetryOn {
            timeout: true,
            ..none.clone()
        }),
        [f, f, f, f, t, f, f, f, f]
    );
    assert_eq!(
        covered(RetryOn {
            conflict: true,
            ..none.clone()
        }),
        [f, f, f, f, f, f, f, t, f]
    );
    assert_eq!(
        covered(RetryOn {
            statuses: vec![404],
            ..none
        }),
        [f, f, f, f, f, f, f, f, t]
    );
}

#[test]
fn pauses_double_up_to_ten_times_the_first() {
    let policy = Retry {
        attempts: 10,
        backoff: Some(Duration::from_millis(100)),
        ..default_retry().clone()
    };
    let longest = |attempts| {
        (0..2000)
            .map(|n| Attempted {
                dice: n * 1_000_003,
                ..after(Failure::Connect, attempts)
            })
            .filter_map(|attempted| retry(&policy, attempted))
            .map(|Again { pause, .. }| pause.as_millis())
            .max()
            .unwrap()
    };
    for (attempts, most) in [(1, 200), (2, 400), (3, 800), (4, 1000), (9, 1000)] {
        let longest = longest(attempts);
        assert!(
            longest < most && longest > most * 8 / 10,
            "{attempts}: {longest} of {most}"
        );
    }
}

#[test]
fn an_endless_number_of_attempts_ends() {
    let policy = Retry {
        attempts: u32::MAX,
        ..default_retry().clone()
    };
    assert!(retry(&policy, after(Failure::Connect, 10)).is_some());
    assert_eq!(retry(&policy, after(Failure::Connect, 11)), None);
}

#[test]
fn the_shortest_limit_counts() {
    let s = |seconds| Some(Duration::from_secs(seconds));
    let timeouts = |request, backend| Timeouts { request, backend };
    let policy = Retry {
        per_try: s(2),
        ..default_retry().clone()
    };
    let of = |request, attempt| Deadlines { request, attempt };
    assert_eq!(deadlines(&timeouts(None, None), None, None), of(None, None));
    assert_eq!(
        deadlines(&timeouts(s(10), s(3)), None, None),
        of(s(10), s(3))
    );
    assert_eq!(
        deadlines(&timeouts(s(10), s(3)), Some(&policy), None),
        of(s(10), s(2))
    );
    // 0s switches a limit off.
    assert_eq!(deadlines(&timeouts(s(0), s(0)), None, None), of(None, None));
    // The client's own limit, where it is shorter; an attempt never outlives the request.
    assert_eq!(
        deadlines(&timeouts(s(10), s(3)), None, s(1)),
        of(s(1), None)
    );
    assert_eq!(
        deadlines(&timeouts(s(10), None), None, s(20)),
        of(s(10), None)
    );
    assert_eq!(deadlines(&timeouts(None, None), None, s(5)), of(s(5), None));
}

#[test]
fn grpc_timeouts_are_parsed() {
    for (text, wanted) in [
        ("1H", Some(Duration::from_secs(3600))),
        ("2M", Some(Duration::from_secs(120))),
        ("3S", Some(Duration::from_secs(3))),
        ("100m", Some(Duration::from_millis(100))),
        ("5u", Some(Duration::from_micros(5))),
        ("99999999n", Some(Duration::from_nanos(99_999_999))),
        ("0S", Some(Duration::ZERO)),
        ("123456789S", None),
        ("S", None),
        ("", None),
        ("1", None),
        ("-1S", None),
        ("1.5S", None),
        ("1s", None),
        ("1é", None),
    ] {
        assert_eq!(grpc_timeout(text), wanted, "{text}");
    }
}
