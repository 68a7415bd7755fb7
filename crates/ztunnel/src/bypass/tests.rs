//! Who comes through the waypoint, and who around it.

use std::sync::Arc;

use tulle_model::{GatewayDestination, Port, ServiceKey};
use tulle_telemetry::Format;

use super::*;
use crate::fixtures::{endpoint, port, service, workload};

fn gateway(name: &str) -> GatewayAddress {
    GatewayAddress {
        destination: GatewayDestination::Service(ServiceKey::new(
            "default",
            &format!("{name}.default.svc.cluster.local"),
        )),
        hbone_port: 15008,
    }
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "default", account)
}

/// A mesh with a waypoint `wp`.
fn mesh() -> Mesh {
    let hbone: Port = port(15008, 15008);
    let mut mesh = Mesh::default();
    let mut own = service("wp", "10.96.0.50");
    own.ports = vec![hbone];
    let mut pod = workload("wp", "10.0.0.50");
    pod.services = [(own.key(), vec![hbone])].into();
    mesh.insert_service(own);
    mesh.insert_workload(pod);
    mesh
}

/// `web`, behind the waypoint, with its pod.
fn web(mesh: &mut Mesh, enforced: bool) -> (Service, Workload) {
    let mut web = service("web", "10.96.0.1");
    web.waypoint = Some(Box::new(gateway("wp")));
    web.waypoint_use.enforced = enforced;
    let server = endpoint(workload("server", "10.0.0.2"), &web);
    mesh.insert_service(web.clone());
    mesh.insert_workload(server.clone());
    (web, server)
}

fn ask(
    mesh: &Mesh,
    workload: &Workload,
    port: u16,
    peer: Option<&str>,
    addressed: Option<&Service>,
) -> Option<bool> {
    let peer = peer.map(identity);
    let arrived = Arrived {
        workload,
        port,
        peer: peer.as_ref(),
        addressed,
    };
    around(mesh, arrived).map(|around| around.enforced)
}

#[test]
fn only_the_waypoints_certificate_proves_the_way() {
    for enforced in [false, true] {
        let mut mesh = mesh();
        let (web, server) = web(&mut mesh, enforced);
        let ask = |port, peer| ask(&mesh, &server, port, peer, Some(&web));
        assert_eq!(ask(8080, Some("wp")), None);
        assert_eq!(ask(8080, Some("client")), Some(enforced));
        assert_eq!(ask(8080, None), Some(enforced), "plain text proves nothing");
        assert_eq!(ask(9090, Some("client")), None, "no service leads there");
    }
}

#[test]
fn a_waypoint_that_is_gone_vouches_for_nobody() {
    let mut mesh = mesh();
    let (_, server) = web(&mut mesh, true);
    mesh.remove_workload("Kubernetes//Pod/default/wp");
    assert_eq!(ask(&mesh, &server, 8080, Some("wp"), None), Some(true));
}

#[test]
fn a_workloads_own_waypoint_guards_every_port_but_not_traffic_to_services() {
    let mut mesh = mesh();
    let plain = service("plain", "10.96.0.2");
    let mut server = endpoint(workload("server", "10.0.0.2"), &plain);
    server.waypoint = Some(Box::new(gateway("wp")));
    mesh.insert_service(plain.clone());
    mesh.insert_workload(server.clone());
    for port in [8080, 9090] {
        assert_eq!(ask(&mesh, &server, port, Some("client"), None), Some(false));
        assert_eq!(ask(&mesh, &server, port, Some("wp"), None), None);
    }
    assert_eq!(
        ask(&mesh, &server, 8080, Some("client"), Some(&plain)),
        None
    );
    // Enforced, a client's word is not enough.
    server.waypoint_enforced = true;
    let enforced = ask(&mesh, &server, 8080, Some("client"), Some(&plain));
    assert_eq!(enforced, Some(true));
}

#[test]
fn whichever_waypoint_of_the_services_of_a_port_is_right() {
    let mut mesh = mesh();
    let (_, mut server) = web(&mut mesh, true);
    let mut other = service("other", "10.96.0.3");
    other.waypoint = Some(Box::new(gateway("wp2")));
    let further = [(other.key(), vec![port(81, 8080)])];
    server.services = server.services.iter().cloned().chain(further).collect();
    mesh.insert_service(other);
    let mut own = service("wp2", "10.96.0.60");
    own.ports = vec![port(15008, 15008)];
    let mut pod = workload("wp2", "10.0.0.60");
    pod.services = [(own.key(), vec![port(15008, 15008)])].into();
    mesh.insert_service(own);
    mesh.insert_workload(pod);
    assert_eq!(ask(&mesh, &server, 8080, Some("wp2"), None), None);
    assert_eq!(ask(&mesh, &server, 8080, Some("wp"), None), None);
    assert_eq!(ask(&mesh, &server, 8080, Some("wp3"), None), Some(true));
}

#[test]
fn every_bypass_is_counted_and_refused_only_where_that_is_asked_for() {
    let registry = Registry::new();
    let metric = BypassMetric::new(&registry);
    for enforced in [false, true] {
        let mut mesh = mesh();
        let (web, server) = web(&mut mesh, enforced);
        let peer = identity("client");
        let arrived = Arrived {
            workload: &server,
            port: 8080,
            peer: Some(&peer),
            addressed: Some(&web),
        };
        let judged = metric.judge(&mesh, arrived);
        assert_eq!(judged.is_err(), enforced);
        if let Err(failure) = judged {
            let waypoint: Arc<str> = "default/wp.default.svc.cluster.local".into();
            assert_eq!(failure.to_string(), Failure::Bypassed(waypoint).to_string());
        }
    }
    let text = registry.encode(Format::Prometheus);
    for refused in ["true", "false"] {
        let line = format!(
            "tulle_waypoint_bypassed_total{{destination_workload=\"server-v1\",destination_workload_namespace=\"default\",\
             waypoint=\"default/wp.default.svc.cluster.local\",refused=\"{refused}\"}} 1"
        );
        assert!(text.lines().any(|l| l == line), "no {line} in {text}");
    }
}
