use std::net::SocketAddr;

use super::authority::{Target, forwarded_host, target};
use crate::fixtures::{endpoint, service, workload};
use crate::state::Snapshot;

const LOCAL: &str = "10.0.0.2:15008";

fn local() -> SocketAddr {
    LOCAL.parse().unwrap()
}

/// The status of a refusal, or where it leads.
fn ask(authority: &str, host: Option<&str>) -> Result<Target, u16> {
    let mut snapshot = Snapshot::default();
    let web = service("web", "10.96.0.1");
    let own = endpoint(workload("server", "10.0.0.2"), &web);
    snapshot.mesh.insert_service(web);
    snapshot.mesh.insert_service(service("other", "10.96.0.2"));
    snapshot.mesh.insert_workload(own.clone());
    target(&snapshot, &own, local(), authority, host).map_err(|(status, _)| status)
}

#[test]
fn the_pods_own_address_is_delivered() {
    let found = ask("10.0.0.2:9000", None).unwrap();
    assert_eq!(found.destination, "10.0.0.2:9000".parse().unwrap());
    assert_eq!(found.service, None);
}

#[test]
fn the_service_is_told_by_the_client_or_by_the_port() {
    let name = |found: Target| found.service.map(|s| s.name.to_string());
    let host = "web.default.svc.cluster.local";
    assert_eq!(
        name(ask("10.0.0.2:9000", Some(host)).unwrap()).as_deref(),
        Some("web")
    );
    assert_eq!(
        name(ask("10.0.0.2:8080", None).unwrap()).as_deref(),
        Some("web")
    );
    assert!(ask("10.0.0.2:9000", Some(host)).unwrap().addressed);
    assert!(!ask("10.0.0.2:8080", None).unwrap().addressed, "a guess");
    assert!(ask(&format!("{host}:80"), None).unwrap().addressed);
    // One that the pod does not serve is not believed.
    assert_eq!(
        name(ask("10.0.0.2:9000", Some("other.default.svc.cluster.local")).unwrap()),
        None
    );
}

#[test]
fn a_host_name_must_be_a_service_of_this_pod() {
    let found = ask("web.default.svc.cluster.local:80", None).unwrap();
    assert_eq!(found.destination, "10.0.0.2:8080".parse().unwrap());
    assert_eq!(
        ask("web.default.svc.cluster.local:81", None).unwrap_err(),
        503
    );
    assert_eq!(
        ask("other.default.svc.cluster.local:80", None).unwrap_err(),
        503
    );
    assert_eq!(ask("nowhere:80", None).unwrap_err(), 503);
}

#[test]
fn somebody_elses_address_is_refused() {
    for authority in [
        "10.0.0.3:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
        "169.254.169.254:80",
        "0.0.0.0:80",
        "[::ffff:10.0.0.3]:80",
    ] {
        assert_eq!(ask(authority, None).unwrap_err(), 400, "{authority}");
    }
}

#[test]
fn malformed_authorities_are_refused() {
    for authority in [
        "",
        ":",
        "10.0.0.2",
        "10.0.0.2:0",
        "10.0.0.2:70000",
        "10.0.0.2:-1",
        "user@10.0.0.2:80",
        "10.0.0.2:80/x",
        "[fe80::1%eth0]:80",
        "web.default.svc.cluster.local",
        "web\0:80",
        "web\r\n:80",
        "a b:80",
        ":80",
    ] {
        assert_eq!(ask(authority, None).unwrap_err(), 400, "{authority:?}");
    }
}

#[test]
fn the_proxys_own_ports_are_refused() {
    for port in [15001, 15006, 15008, 15053] {
        assert_eq!(ask(&format!("10.0.0.2:{port}"), None).unwrap_err(), 503);
    }
}

#[test]
fn only_the_host_of_a_forwarded_header_counts() {
    assert_eq!(
        forwarded_host(Some("for=\"10.0.0.1:5\";host=web.default")),
        Some("web.default")
    );
    assert_eq!(forwarded_host(Some("Host=\"web\"; for=x")), Some("web"));
    for header in ["", ";;;", "for=\"x\"", "host", "=host"] {
        assert_eq!(forwarded_host(Some(header)), None, "{header:?}");
    }
    assert_eq!(forwarded_host(None), None);
    let long = format!("host={}", "x".repeat(crate::limits::PEER_HEADER));
    assert_eq!(forwarded_host(Some(&long)), None);
}
