use tulle_policy::expression::{Expression, Value};
use tulle_policy::observe::MetricOverride;

use super::*;

struct Nothing;

impl Attributes for Nothing {
    fn get(&self, path: &[&str]) -> Option<Value> {
        (path == ["destination", "port"]).then_some(Value::Int(80))
    }
}

fn change(disabled: bool, tags: &[(&str, Option<&str>)]) -> MetricOverride {
    MetricOverride {
        disabled,
        tags: tags
            .iter()
            .map(|(name, value)| ((*name).into(), value.map(Arc::from)))
            .collect(),
    }
}

fn counted(overrides: &[(Metric, MetricOverride)], of: &[(Metric, MetricSet)]) -> Counting {
    let metrics = Metrics {
        overrides: overrides.iter().cloned().collect(),
        ..Metrics::default()
    };
    let mut snapshot = Snapshot::default();
    for text in ["string(destination.port)", "request.none"] {
        let parsed = Expression::parse(text).unwrap();
        snapshot.expressions.insert(text.into(), Arc::new(parsed));
    }
    counting(&metrics, of, &snapshot, &Nothing)
}

#[test]
fn what_concerns_other_metrics_changes_nothing() {
    assert_eq!(counted(&[], &REQUESTS), Counting::Plain);
    let tcp = [(Metric::TcpSentBytes, change(true, &[]))];
    assert_eq!(counted(&tcp, &REQUESTS), Counting::Plain);
}

#[test]
fn metrics_with_the_same_changes_share_a_series() {
    let port = [("port", Some("string(destination.port)"))];
    let overrides = [
        (Metric::RequestCount, change(false, &port)),
        (Metric::RequestSize, change(false, &port)),
        (Metric::RequestDuration, change(true, &port)),
        (
            Metric::ResponseSize,
            change(false, &[("x", Some("request.none")), ("source_app", None)]),
        ),
    ];
    let Counting::Edited(edits) = counted(&overrides, &REQUESTS) else {
        panic!("they are changed");
    };
    let expected = [
        TagEdits {
            metrics: MetricSet::REQUEST_COUNT.with(MetricSet::REQUEST_SIZE),
            upsert: vec![("port".into(), "80".into())],
            remove: Vec::new(),
        },
        TagEdits {
            metrics: MetricSet::RESPONSE_SIZE,
            upsert: vec![("x".into(), "unknown".into())],
            remove: vec!["source_app".into()],
        },
        TagEdits {
            metrics: MetricSet::GRPC_REQUESTS.with(MetricSet::GRPC_RESPONSES),
            ..TagEdits::default()
        },
    ];
    assert_eq!(edits, expected.map(Arc::new));
}

#[test]
fn all_of_them_off_is_none() {
    let off = CONNECTIONS.map(|(metric, _)| (metric, change(true, &[])));
    assert_eq!(counted(&off, &CONNECTIONS), Counting::Edited(Vec::new()));
}
