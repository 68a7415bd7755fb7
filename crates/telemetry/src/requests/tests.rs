use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::connections::Reporter;
use crate::edits::{MetricSet, TagEdits};
use crate::fixtures::{service, workload};
use crate::registry::{Format, Registry};

fn scrape(registry: &Registry) -> String {
    registry.encode(Format::Prometheus)
}

#[test]
fn a_request_through_a_waypoint_has_istio_s_labels() {
    let registry = Registry::new();
    let shard = RequestMetrics::new(&registry).shard();
    let (client, server, web) = (workload("sleep"), workload("reviews"), service("reviews"));
    let (from, to) = (client.identity(), server.identity());
    let ends = RequestEnds {
        reporter: Reporter::Waypoint,
        source: Some(&client),
        source_principal: Some(&from),
        destination: Some(&server),
        destination_principal: Some(&to),
        service: Some(&web),
        special: None,
        protocol: RequestProtocol::Http,
        security: RequestSecurity::MutualTls,
        edits: None,
    };
    let outcome = Outcome {
        code: 200,
        ..Outcome::default()
    };
    for _ in 0..2 {
        shard
            .series(&ends, outcome)
            .request(Duration::from_millis(7), 120, 900);
    }
    let text = scrape(&registry);
    let expected = "istio_requests_total{reporter=\"waypoint\",source_workload=\"sleep-v1\",\
        source_canonical_service=\"sleep\",source_canonical_revision=\"v1\",source_workload_namespace=\"default\",\
        source_principal=\"spiffe://cluster.local/ns/default/sa/sleep\",source_app=\"sleep\",source_version=\"v1\",\
        source_cluster=\"Kubernetes\",destination_workload=\"reviews-v1\",destination_canonical_service=\"reviews\",\
        destination_canonical_revision=\"v1\",destination_workload_namespace=\"default\",\
        destination_principal=\"spiffe://cluster.local/ns/default/sa/reviews\",destination_app=\"reviews\",\
        destination_version=\"v1\",destination_cluster=\"Kubernetes\",\
        destination_service=\"reviews.default.svc.cluster.local\",destination_service_name=\"reviews\",\
        destination_service_namespace=\"default\",request_protocol=\"http\",response_code=\"200\",\
        grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"} 2\n";
    assert!(text.contains(expected), "{text}");
    let buckets: Vec<&str> = text
        .lines()
        .filter(|l| l.starts_with("istio_request_duration_milliseconds_bucket"))
        .collect();
    assert_eq!(buckets.len(), 20);
    assert!(buckets[2].contains("le=\"5\"") && buckets[2].ends_with(" 0"));
    assert!(buckets[3].contains("le=\"10\"") && buckets[3].ends_with(" 2"));
    assert!(buckets[19].contains("le=\"+Inf\"") && buckets[19].ends_with(" 2"));
    let sum = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(sum("istio_request_duration_milliseconds_sum"), 14.0);
    assert_eq!(sum("istio_request_bytes_sum"), 240.0);
    assert_eq!(sum("istio_response_bytes_sum"), 1800.0);
    assert!(!text.contains("istio_request_messages"), "{text}");
}

fn nobody(protocol: RequestProtocol) -> RequestEnds<'static> {
    RequestEnds {
        reporter: Reporter::Source,
        source: None,
        source_principal: None,
        destination: None,
        destination_principal: None,
        service: None,
        special: None,
        protocol,
        security: RequestSecurity::Unknown,
        edits: None,
    }
}

#[test]
fn grpc_has_its_status_and_messages_and_unknown_is_said() {
    let registry = Registry::new();
    let shard = RequestMetrics::new(&registry).shard();
    let mut flags = Flags::from(Flag::RetryLimit);
    flags.set(Flag::UpstreamConnectFailure);
    let outcome = Outcome {
        code: 200,
        grpc_status: Some(14),
        flags,
    };
    let series = shard.series(&nobody(RequestProtocol::Grpc), outcome);
    series.messages(3, 4);
    series.request(Duration::ZERO, 0, 0);
    let text = scrape(&registry);
    for part in [
        "request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"14\",response_flags=\"UF,URX\"",
        "source_workload=\"unknown\"",
        "destination_canonical_revision=\"latest\"",
        "destination_service=\"unknown\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let value = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(value("istio_request_messages_total"), "3");
    assert_eq!(value("istio_response_messages_total"), "4");
}

/// Edits for some metrics.
fn edits(metrics: MetricSet, upsert: &[(&str, &str)], remove: &[&str]) -> Arc<TagEdits> {
    let pair = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
    Arc::new(TagEdits {
        metrics,
        upsert: upsert.iter().map(pair).collect(),
        remove: remove.iter().map(|name| (*name).into()).collect(),
    })
}

/// Lines of a family.
fn lines<'t>(text: &'t str, family: &str) -> Vec<&'t str> {
    let lines = text.lines();
    lines
        .filter(|l| l.starts_with(&format!("{family}{{")))
        .collect()
}

#[test]
fn labels_are_edited_as_users_ask() {
    let registry = Registry::new();
    let shard = RequestMetrics::new(&registry).shard();
    let wanted = [("path", "/a"), ("source_app", "me")];
    let edits = edits(MetricSet::ALL, &wanted, &["response_flags"]);
    let mut ends = nobody(RequestProtocol::Http);
    ends.edits = Some(&edits);
    shard
        .series(&ends, Outcome::default())
        .request(Duration::ZERO, 0, 0);
    let text = scrape(&registry);
    let line = lines(&text, "istio_requests_total")[0];
    assert!(line.contains("path=\"/a\"") && line.contains("source_app=\"me\""));
    assert!(!line.contains("response_flags"));
}

#[test]
fn each_metric_has_its_own_labels_or_is_not_shown() {
    let registry = Registry::new();
    let shard = RequestMetrics::new(&registry).shard();
    let count = edits(MetricSet::REQUEST_COUNT, &[("port", "80")], &[]);
    // Neither durations nor sizes of requests are wanted.
    let rest = edits(MetricSet::RESPONSE_SIZE, &[], &[]);
    for edits in [&count, &rest] {
        let mut ends = nobody(RequestProtocol::Http);
        ends.edits = Some(edits);
        shard
            .series(&ends, Outcome::default())
            .request(Duration::ZERO, 1, 1);
    }
    let text = scrape(&registry);
    let counted = lines(&text, "istio_requests_total");
    assert!(
        counted.len() == 1 && counted[0].contains("port=\"80\""),
        "{text}"
    );
    let sizes = lines(&text, "istio_response_bytes_count");
    assert!(sizes.len() == 1 && !sizes[0].contains("port="), "{text}");
    assert!(!text.contains("istio_request_duration") && !text.contains("istio_request_bytes"));
}

#[test]
fn series_that_differ_only_in_a_label_that_is_gone_are_one() {
    let registry = Registry::new();
    let shard = RequestMetrics::new(&registry).shard();
    let edits = edits(MetricSet::ALL, &[], &["response_code"]);
    for code in [200, 404, 404] {
        let mut ends = nobody(RequestProtocol::Http);
        ends.edits = Some(&edits);
        let outcome = Outcome {
            code,
            ..Outcome::default()
        };
        let series = shard.series(&ends, outcome);
        series.request(Duration::from_millis(7), 10, 10);
    }
    let text = scrape(&registry);
    let counted = lines(&text, "istio_requests_total");
    assert!(counted.len() == 1 && counted[0].ends_with(" 3"), "{text}");
    let durations = lines(&text, "istio_request_duration_milliseconds_sum");
    assert!(
        durations.len() == 1 && durations[0].ends_with(" 21"),
        "{text}"
    );
}

#[test]
fn sums_do_not_shrink_when_a_shard_forgets() {
    let registry = Registry::new();
    let metrics = RequestMetrics::new(&registry);
    let (one, two) = (metrics.shard(), metrics.shard());
    let ends = nobody(RequestProtocol::Http);
    for shard in [&one, &two] {
        shard
            .series(&ends, Outcome::default())
            .request(Duration::from_millis(1), 1, 1);
    }
    one.sweep_idle(Duration::ZERO);
    let count = |text: &str| {
        let line = text
            .lines()
            .find(|l| l.starts_with("istio_requests_total"))
            .unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(count(&scrape(&registry)), "2");
    one.series(&ends, Outcome::default())
        .request(Duration::from_millis(1), 1, 1);
    assert_eq!(count(&scrape(&registry)), "3");
}

#[test]
fn flags_are_written_in_one_order() {
    let mut flags = Flags::default();
    assert_eq!(flags.to_string(), "-");
    flags.set(Flag::RetryLimit);
    flags.set(Flag::NoHealthyUpstream);
    assert_eq!(flags.to_string(), "UH,URX");
    flags.clear(Flag::NoHealthyUpstream);
    assert_eq!(flags.to_string(), "URX");
    assert!(flags.has(Flag::RetryLimit) && !flags.has(Flag::NoHealthyUpstream));
}
