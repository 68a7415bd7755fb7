use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tulle_model::Identity;

use super::*;
use crate::edits::{MetricSet, TagEdits};
use crate::fixtures::{service, workload};
use crate::limits::SERIES_PER_SHARD;
use crate::registry::{Format, Registry};

fn metrics() -> (Registry, ConnectionMetrics) {
    let registry = Registry::new();
    let metrics = ConnectionMetrics::new(&registry);
    (registry, metrics)
}

fn lines(registry: &Registry, name: &str) -> Vec<String> {
    let text = registry.encode(Format::Prometheus);
    let start = format!("{name}{{");
    text.lines()
        .filter(|l| l.starts_with(&start))
        .map(str::to_owned)
        .collect()
}

#[test]
fn labels_in_the_contracts_order() {
    let (registry, metrics) = metrics();
    let shard = metrics.shard();
    let (client, server, service) = (workload("sleep"), workload("reviews"), service("reviews"));
    let principal = client.identity();
    let series = shard.series(&ConnectionEnds {
        reporter: Reporter::Destination,
        source: Some(&client),
        source_principal: Some(&principal),
        destination: Some(&server),
        service: Some(&service),
        security: SecurityPolicy::MutualTls,
    });
    series.open();
    series.bytes(7, 11);
    series.fail(ResponseFlags::Denied);
    let labels = |flags: &str| {
        format!(
            "{{reporter=\"destination\",source_workload=\"sleep-v1\",source_canonical_service=\"sleep\",\
source_canonical_revision=\"v1\",source_workload_namespace=\"default\",\
source_principal=\"spiffe://cluster.local/ns/default/sa/sleep\",source_app=\"sleep\",source_version=\"v1\",\
source_cluster=\"Kubernetes\",destination_service=\"reviews.default.svc.cluster.local\",\
destination_service_namespace=\"default\",destination_service_name=\"reviews\",destination_workload=\"reviews-v1\",\
destination_canonical_service=\"reviews\",destination_canonical_revision=\"v1\",\
destination_workload_namespace=\"default\",\
destination_principal=\"spiffe://cluster.local/ns/default/sa/reviews\",destination_app=\"reviews\",\
destination_version=\"v1\",destination_cluster=\"Kubernetes\",request_protocol=\"tcp\",response_flags=\"{flags}\",\
connection_security_policy=\"mutual_tls\",source_region=\"r1\",source_zone=\"unknown\",destination_region=\"r1\",\
destination_zone=\"unknown\"}}"
        )
    };
    let line = |name: &str, flags: &str, value: u64| format!("{name}{} {value}", labels(flags));
    let family = |name: &str| lines(&registry, name);
    let opened = "istio_tcp_connections_opened_total";
    assert_eq!(family(opened), [line(opened, "-", 1)]);
    let closed = "istio_tcp_connections_closed_total";
    assert_eq!(
        family(closed),
        [line(closed, "-", 0), line(closed, "DENY", 1)]
    );
    let failed = "istio_tcp_connections_failed_total";
    assert_eq!(family(failed), [line(failed, "DENY", 1)]);
    let received = "istio_tcp_received_bytes_total";
    assert_eq!(family(received), [line(received, "-", 7)]);
    let sent = "istio_tcp_sent_bytes_total";
    assert_eq!(family(sent), [line(sent, "-", 11)]);
}

#[test]
fn nothing_known_is_unknown_and_has_no_locality() {
    let (registry, metrics) = metrics();
    let shard = metrics.shard();
    shard.series(&unknown(Reporter::Source)).open();
    let line = &lines(&registry, "istio_tcp_connections_opened_total")[0];
    assert!(line.starts_with(
        "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"unknown\","
    ));
    assert!(line.ends_with(
        ",request_protocol=\"tcp\",response_flags=\"-\",connection_security_policy=\"unknown\"} 1"
    ));
}

#[test]
fn users_change_labels_and_leave_metrics_out() {
    let (registry, metrics) = metrics();
    let shard = metrics.shard();
    let edits = Arc::new(TagEdits {
        metrics: MetricSet::TCP_OPENED.with(MetricSet::TCP_CLOSED),
        upsert: vec![("port".into(), "6379".into())],
        remove: vec!["source_workload".into(), "source_principal".into()],
    });
    for name in ["one", "two"] {
        let client = workload(name);
        let principal = client.identity();
        let mut ends = unknown(Reporter::Waypoint);
        (ends.source, ends.source_principal) = (Some(&client), Some(&principal));
        // All that tells the two apart is taken away.
        let mut edits = TagEdits::clone(&edits);
        edits.remove.extend(
            [
                "source_canonical_service",
                "source_app",
                "source_canonical_revision",
            ]
            .map(Arc::from),
        );
        let series = shard.edited_series(&ends, &Arc::new(edits));
        series.open();
        series.bytes(1, 1);
        series.fail(ResponseFlags::Denied);
    }
    let opened = lines(&registry, "istio_tcp_connections_opened_total");
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert!(opened[0].contains("port=\"6379\"") && opened[0].ends_with(" 2"));
    let failed = lines(&registry, "istio_tcp_connections_failed_total");
    assert!(failed.len() == 1 && failed[0].ends_with(" 2"), "{failed:?}");
    for gone in [
        "istio_tcp_sent_bytes_total",
        "istio_tcp_received_bytes_total",
    ] {
        assert!(lines(&registry, gone).is_empty(), "{gone}");
    }
}

#[test]
fn flags_as_istio_writes_them() {
    let flags = ResponseFlags::ALL.map(ResponseFlags::as_str);
    let contract = [
        "DENY",
        "CONNECT",
        "TLS_FAILURE",
        "H2_HANDSHAKE_FAILURE",
        "NETWORK_POLICY",
        "IDENTITY_ERROR",
        "CERT_REVOKED",
    ];
    assert_eq!(flags, contract);
    for (index, flag) in ResponseFlags::ALL.into_iter().enumerate() {
        assert_eq!(flag as usize, index);
    }
}

fn unknown(reporter: Reporter) -> ConnectionEnds<'static> {
    ConnectionEnds {
        reporter,
        source: None,
        source_principal: None,
        destination: None,
        service: None,
        security: SecurityPolicy::Unknown,
    }
}

#[test]
fn shards_are_added_up() {
    let (registry, metrics) = metrics();
    let (a, b) = (metrics.shard(), metrics.shard());
    for shard in [&a, &b, &b] {
        let series = shard.series(&unknown(Reporter::Source));
        series.open();
        series.close();
        shard.sockets(Reporter::Source, 1);
    }
    b.sockets(Reporter::Source, -1);
    let opened = lines(&registry, "istio_tcp_connections_opened_total");
    assert!(opened.len() == 1 && opened[0].ends_with(" 3"), "{opened:?}");
    let sockets = lines(&registry, "istio_tcp_sockets_open");
    assert_eq!(sockets[0], "istio_tcp_sockets_open{reporter=\"source\"} 2");
}

#[test]
fn the_same_values_in_new_objects_are_the_same_series() {
    let (registry, metrics) = metrics();
    let shard = metrics.shard();
    for _ in 0..3 {
        let renewed = workload("sleep");
        let ends = ConnectionEnds {
            source: Some(&renewed),
            ..unknown(Reporter::Source)
        };
        shard.series(&ends).open();
    }
    let opened = lines(&registry, "istio_tcp_connections_opened_total");
    assert!(opened.len() == 1 && opened[0].ends_with(" 3"), "{opened:?}");
}

#[test]
fn an_idle_series_leaves_its_shard_but_the_sum_never_shrinks() {
    let (registry, metrics) = metrics();
    let shard = metrics.shard();
    let series = shard.series(&unknown(Reporter::Source));
    series.open();
    series.close();
    drop(series);
    shard.sweep_idle(Duration::ZERO);
    shard.series(&unknown(Reporter::Source)).open();
    let opened = lines(&registry, "istio_tcp_connections_opened_total");
    assert!(opened.len() == 1 && opened[0].ends_with(" 2"), "{opened:?}");
}

#[test]
fn a_live_connection_keeps_its_series() {
    let (registry, metrics) = metrics();
    let shard = metrics.shard();
    let series = shard.series(&unknown(Reporter::Source));
    series.open();
    shard.sweep_idle(Duration::ZERO);
    series.bytes(5, 0);
    let received = lines(&registry, "istio_tcp_received_bytes_total");
    assert!(received[0].ends_with(" 5"), "{received:?}");
}

#[test]
fn too_many_series_share_one() {
    let (registry, metrics) = metrics();
    let shard = metrics.shard();
    for n in 0..SERIES_PER_SHARD + 7 {
        let principal = Identity::new("td", "ns", n.to_string());
        let ends = ConnectionEnds {
            source_principal: Some(&principal),
            ..unknown(Reporter::Destination)
        };
        shard.series(&ends).open();
    }
    let opened = lines(&registry, "istio_tcp_connections_opened_total");
    assert_eq!(opened.len(), SERIES_PER_SHARD + 1);
    assert!(
        opened
            .iter()
            .any(|l| l.contains("source_principal=\"unknown\"") && l.ends_with(" 7"))
    );
    let text = registry.encode(Format::Prometheus);
    assert!(text.contains("\ntulle_connection_series_overflowed_total 7\n"));
}

proptest! {
    /// However connections are spread over shards and whenever they are swept, the sum is what happened.
    #[test]
    fn sums_are_exact(steps in proptest::collection::vec((0usize..3, 0usize..4, any::<bool>()), 1..60)) {
        let (registry, metrics) = metrics();
        let shards = [metrics.shard(), metrics.shard(), metrics.shard()];
        let names = ["a", "b", "c", "d"].map(workload);
        let mut expected = [0u64; 4];
        for (shard, name, sweep) in steps {
            let ends = ConnectionEnds { source: Some(&names[name]), ..unknown(Reporter::Source) };
            let series = shards[shard].series(&ends);
            series.open();
            series.close();
            drop(series);
            expected[name] += 1;
            if sweep {
                shards[shard].sweep_idle(Duration::ZERO);
            }
        }
        let opened = lines(&registry, "istio_tcp_connections_opened_total");
        for (name, count) in ["a", "b", "c", "d"].iter().zip(expected) {
            let of = opened.iter().find(|l| l.contains(&format!("source_app=\"{name}\"")));
            let value = of.map_or(0, |l| l.rsplit(' ').next().unwrap().parse().unwrap());
            prop_assert_eq!(value, count);
        }
    }
}
