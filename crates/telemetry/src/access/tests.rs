use std::time::UNIX_EPOCH;

use super::*;
use crate::fixtures::{service, workload};

fn complete() -> AccessRecord {
    let (client, server) = (workload("sleep"), workload("productpage"));
    AccessRecord {
        time: UNIX_EPOCH + Duration::from_micros(1_767_225_599_000_042),
        event: Event::Complete,
        source: Peer {
            address: "10.244.1.5:56000".parse().unwrap(),
            identity: Some(client.identity()),
            workload: Some(client),
        },
        destination: Peer {
            address: "10.244.2.7:15008".parse().unwrap(),
            identity: Some(server.identity()),
            workload: Some(server),
        },
        hbone: Some("10.244.2.7:9080".into()),
        service: Some(service("productpage")),
        reporter: Reporter::Source,
        bytes_sent: 84,
        bytes_received: 175,
        duration: Duration::from_millis(12),
        error: None,
    }
}

fn text(record: &AccessRecord) -> String {
    let mut out = String::new();
    record.write_text(&mut out).unwrap();
    out
}

#[test]
fn a_complete_connection_as_kiali_reads_it() {
    let expected = "2025-12-31T23:59:59.000042Z\tinfo\taccess\tconnection complete\t\
        src.addr=10.244.1.5:56000 src.workload=\"sleep-abc\" src.namespace=\"default\" \
        src.identity=\"spiffe://cluster.local/ns/default/sa/sleep\" src.cluster=\"Kubernetes\" \
        dst.addr=10.244.2.7:15008 dst.hbone_addr=10.244.2.7:9080 \
        dst.service=\"productpage.default.svc.cluster.local\" dst.workload=\"productpage-abc\" \
        dst.namespace=\"default\" dst.identity=\"spiffe://cluster.local/ns/default/sa/productpage\" \
        dst.cluster=\"Kubernetes\" direction=\"outbound\" bytes_sent=84 bytes_recv=175 duration=\"12ms\"\n";
    assert_eq!(text(&complete()), expected);
}

#[test]
fn the_same_in_json() {
    let mut out = String::new();
    complete().write_json(&mut out).unwrap();
    let expected = "{\"level\":\"info\",\"time\":\"2025-12-31T23:59:59.000042Z\",\"scope\":\"access\",\
        \"message\":\"connection complete\",\"src.addr\":\"10.244.1.5:56000\",\"src.workload\":\"sleep-abc\",\
        \"src.namespace\":\"default\",\"src.identity\":\"spiffe://cluster.local/ns/default/sa/sleep\",\
        \"src.cluster\":\"Kubernetes\",\"dst.addr\":\"10.244.2.7:15008\",\"dst.hbone_addr\":\"10.244.2.7:9080\",\
        \"dst.service\":\"productpage.default.svc.cluster.local\",\"dst.workload\":\"productpage-abc\",\
        \"dst.namespace\":\"default\",\"dst.identity\":\"spiffe://cluster.local/ns/default/sa/productpage\",\
        \"dst.cluster\":\"Kubernetes\",\"direction\":\"outbound\",\"bytes_sent\":84,\"bytes_recv\":175,\
        \"duration\":\"12ms\"}\n";
    assert_eq!(out, expected);
}

#[test]
fn a_denial_is_an_error_with_its_reason() {
    let mut record = complete();
    record.reporter = Reporter::Destination;
    record.error = Some("policy rejection: denied by policy default/p rule 0".into());
    let line = text(&record);
    assert!(
        line.contains("\terror\taccess\tconnection complete\t"),
        "{line}"
    );
    assert!(
        line.ends_with("direction=\"inbound\" bytes_sent=84 bytes_recv=175 duration=\"12ms\" error=\"policy rejection: denied by policy default/p rule 0\"\n"),
        "{line}"
    );
}

#[test]
fn without_tls_there_are_no_identities_and_no_tunnel() {
    let mut record = complete();
    record.source.identity = None;
    record.destination = Peer::at("192.0.2.1:80".parse().unwrap());
    record.hbone = None;
    record.service = None;
    assert_eq!(
        text(&record),
        "2025-12-31T23:59:59.000042Z\tinfo\taccess\tconnection complete\tsrc.addr=10.244.1.5:56000 \
         src.workload=\"sleep-abc\" src.namespace=\"default\" src.cluster=\"Kubernetes\" dst.addr=192.0.2.1:80 \
         direction=\"outbound\" bytes_sent=84 bytes_recv=175 duration=\"12ms\"\n"
    );
}

#[test]
fn an_early_failure_is_brief() {
    let mut record = complete();
    record.event = Event::Failed;
    record.error = Some("no \"such\" pod".into());
    assert_eq!(
        text(&record),
        "2025-12-31T23:59:59.000042Z\twarn\taccess\tconnection failed\tsrc.addr=10.244.1.5:56000 \
         dst.addr=10.244.2.7:15008 direction=\"outbound\" error=\"no \\\"such\\\" pod\"\n"
    );
}

#[test]
fn an_opened_connection_has_no_bytes_yet() {
    let mut record = complete();
    record.event = Event::Opened;
    let line = text(&record);
    assert!(
        line.contains("\tdebug\taccess\tconnection opened\t"),
        "{line}"
    );
    assert!(line.ends_with("direction=\"outbound\"\n"), "{line}");
}

#[test]
fn a_line_feed_from_outside_cannot_begin_a_line() {
    let mut record = complete();
    record.error = Some("a\nb".into());
    assert_eq!(text(&record).lines().count(), 1);
}
