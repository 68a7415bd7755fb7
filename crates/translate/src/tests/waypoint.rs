//! Which waypoint an object gets, and what its users are told.

use serde_json::{Value, json};
use tulle_model::{GatewayDestination, ServiceKey};
use tulle_route::resource::Role;

use super::world::{World, object, only, told};
use crate::{Class, ObjectKind};

fn waypoint(labels: Value, from: &str) -> Value {
    json!({
        "metadata": {"labels": labels, "uid": "u1", "generation": 2},
        "spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{
                "name": "mesh", "port": 15008, "protocol": "HBONE",
                "allowedRoutes": {"namespaces": {"from": from, "selector": {"matchLabels": {"team": "x"}}}},
            }],
        },
    })
}

fn labelled(labels: Value) -> Value {
    json!({
        "metadata": {"labels": labels, "generation": 4},
        "spec": {"clusterIP": "10.1.0.1", "ports": [{"name": "http", "port": 80}]},
    })
}

fn pod(labels: Value) -> Value {
    json!({
        "metadata": {"labels": labels},
        "spec": {"containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.9"}]},
    })
}

/// A ready waypoint `a/w` for services, and Service `a/s` that asks for it.
fn world() -> World {
    let mut world = World::new();
    world.set("Namespace", "a", json!({}));
    world.set(
        "Namespace",
        "b",
        json!({"metadata": {"labels": {"team": "x"}}}),
    );
    world.set("Gateway", "a/w", waypoint(json!({}), "Same"));
    world.deployed("a/w", "a/w", &[15021, 15008]);
    world.set(
        "Service",
        "a/s",
        labelled(json!({"istio.io/use-waypoint": "w"})),
    );
    world
}

fn of_service(world: &World, key: &str) -> Option<String> {
    let service = world.services.get(&ServiceKey::parse(key)?)?;
    service
        .waypoint
        .as_ref()
        .map(|waypoint| match &waypoint.destination {
            GatewayDestination::Service(service) => format!("{service}:{}", waypoint.hbone_port),
            GatewayDestination::Address(address) => {
                format!("{}:{}", address.range, waypoint.hbone_port)
            }
        })
}

const S: &str = "a/s.a.svc.cluster.local";
const W: &str = "a/w.a.svc.cluster.local:15008";

#[test]
fn a_service_is_bound_when_the_waypoint_is_ready_and_stays_bound() {
    let mut world = World::new();
    world.set("Namespace", "a", json!({}));
    world.set(
        "Service",
        "a/s",
        labelled(json!({"istio.io/use-waypoint": "w"})),
    );
    let condition = world.bound(ObjectKind::Service, "a/s").unwrap();
    assert_eq!(condition.reason, "WaypointIsNotReady");
    assert_eq!(condition.message, "waypoint \"a/w\" is not ready");
    assert_eq!(condition.observed_generation, Some(4));
    assert_eq!(of_service(&world, S), None);

    world.set("Gateway", "a/w", waypoint(json!({}), "Same"));
    assert_eq!(of_service(&world, S), None, "nobody answers there yet");
    world.deployed("a/w", "a/w", &[15021, 15008]);
    assert_eq!(of_service(&world, S).as_deref(), Some(W));
    let condition = world.bound(ObjectKind::Service, "a/s").unwrap();
    assert!(condition.status);
    assert_eq!(condition.reason, "WaypointAccepted");
    assert_eq!(condition.message, "Successfully attached to waypoint a/w");

    // Its status says that it was ready once: it stays one without pods.
    let mut ready = waypoint(json!({}), "Same");
    ready["status"] =
        json!({"addresses": [{"type": "Hostname", "value": "w.a.svc.cluster.local"}]});
    world.set("Gateway", "a/w", ready);
    world.delete("Pod", "a/w-pod");
    assert_eq!(of_service(&world, S).as_deref(), Some(W));

    world.delete("Gateway", "a/w");
    assert_eq!(of_service(&world, S), None);
    assert_eq!(
        world.bound(ObjectKind::Service, "a/s").unwrap().reason,
        "WaypointIsNotReady"
    );
}

#[test]
fn own_label_before_the_namespaces_and_none_opts_out() {
    let mut world = world();
    world.set(
        "Namespace",
        "a",
        json!({"metadata": {"labels": {"istio.io/use-waypoint": "w"}}}),
    );
    world.service("a/plain", &[80]);
    assert_eq!(
        of_service(&world, "a/plain.a.svc.cluster.local").as_deref(),
        Some(W)
    );
    assert!(world.bound(ObjectKind::Service, "a/plain").unwrap().status);

    world.set(
        "Service",
        "a/s",
        labelled(json!({"istio.io/use-waypoint": "none"})),
    );
    assert_eq!(of_service(&world, S), None);
    assert_eq!(world.bound(ObjectKind::Service, "a/s"), None);

    // A bogus label is not made good by the namespace's.
    world.set(
        "Service",
        "a/s",
        labelled(json!({"istio.io/use-waypoint": "bogus"})),
    );
    assert_eq!(of_service(&world, S), None);
    assert_eq!(
        world.bound(ObjectKind::Service, "a/s").unwrap().reason,
        "WaypointIsNotReady"
    );

    // Waypoints' own services never have one; those of gateways may.
    assert_eq!(
        of_service(&world, "a/w.a.svc.cluster.local").as_deref(),
        Some(W),
        "not labelled as one"
    );
    world.set(
        "Service",
        "a/w",
        labelled(json!({"gateway.istio.io/managed": "istio.io-mesh-controller"})),
    );
    assert_eq!(of_service(&world, "a/w.a.svc.cluster.local"), None);
    world.set("Namespace", "a", json!({}));
    assert_eq!(of_service(&world, "a/plain.a.svc.cluster.local"), None);
}

#[test]
fn other_namespaces_need_allowed_routes() {
    let mut world = world();
    let label = json!({"istio.io/use-waypoint": "w", "istio.io/use-waypoint-namespace": "a"});
    world.set("Service", "b/s", labelled(label));
    let denied = |world: &World| {
        let condition = world.bound(ObjectKind::Service, "b/s").unwrap();
        (
            condition.reason,
            of_service(world, "b/s.b.svc.cluster.local").is_some(),
        )
    };
    assert_eq!(denied(&world), ("AttachmentDenied", false));
    let message = &world.bound(ObjectKind::Service, "b/s").unwrap().message;
    assert_eq!(
        message,
        "we are not permitted to attach to waypoint \"a/w\" (missing allowedRoutes?)"
    );
    world.set("Gateway", "a/w", waypoint(json!({}), "All"));
    assert_eq!(denied(&world), ("WaypointAccepted", true));
    world.set("Gateway", "a/w", waypoint(json!({}), "Selector"));
    assert_eq!(denied(&world), ("WaypointAccepted", true));
    world.set(
        "Namespace",
        "b",
        json!({"metadata": {"labels": {"team": "y"}}}),
    );
    assert_eq!(denied(&world), ("AttachmentDenied", false));
}

#[test]
fn what_a_waypoint_is_for() {
    let mut world = world();
    world.set("Pod", "a/p", pod(json!({"istio.io/use-waypoint": "w"})));
    let has = |world: &World| {
        let workload = &world.workloads["Kubernetes//Pod/a/p"];
        (of_service(world, S).is_some(), workload.waypoint.is_some())
    };
    for (label, expected) in [
        (json!({}), (true, false)),
        (json!({"istio.io/waypoint-for": "workload"}), (false, true)),
        (json!({"istio.io/waypoint-for": "all"}), (true, true)),
        (json!({"istio.io/waypoint-for": "none"}), (false, false)),
    ] {
        world.set("Gateway", "a/w", waypoint(label.clone(), "Same"));
        assert_eq!(has(&world), expected, "{label}");
    }
    let condition = world.bound(ObjectKind::Service, "a/s").unwrap();
    assert_eq!(condition.reason, "UnsupportedTrafficType");
    // The class's label counts when the Gateway has none.
    world.set("Gateway", "a/w", waypoint(json!({}), "Same"));
    let class = json!({
        "metadata": {"labels": {"istio.io/waypoint-for": "all"}},
        "spec": {"controllerName": "istio.io/mesh-controller"},
    });
    world.set("GatewayClass", "istio-waypoint", class);
    assert_eq!(has(&world), (true, true));
    let role = world.gateway("a/w").unwrap().role;
    assert_eq!(
        role,
        Role::Waypoint {
            services: true,
            workloads: true
        }
    );
    // The waypoint's own pods have none, even if their namespace asks for one.
    world.set(
        "Namespace",
        "a",
        json!({"metadata": {"labels": {"istio.io/use-waypoint": "w"}}}),
    );
    assert!(
        world.workloads["Kubernetes//Pod/a/w-pod"]
            .waypoint
            .is_none()
    );
}

#[test]
fn a_pod_that_inherits_a_waypoint_for_services_is_fine() {
    let mut world = world();
    world.set(
        "Namespace",
        "a",
        json!({"metadata": {"labels": {"istio.io/use-waypoint": "w"}}}),
    );
    world.set("Pod", "a/p", pod(json!({})));
    assert!(world.workloads["Kubernetes//Pod/a/p"].waypoint.is_none());
    let entry = json!({"spec": {"address": "192.0.2.7"}});
    world.set("WorkloadEntry", "a/e", entry.clone());
    assert_eq!(world.bound(ObjectKind::WorkloadEntry, "a/e"), None);
    let mut labelled = entry;
    labelled["metadata"] = json!({"labels": {"istio.io/use-waypoint": "w"}});
    world.set("WorkloadEntry", "a/e", labelled);
    let condition = world.bound(ObjectKind::WorkloadEntry, "a/e").unwrap();
    assert_eq!(condition.reason, "UnsupportedTrafficType");
    assert_eq!(
        condition.message,
        "attempting to bind to traffic type \"workload\" which the waypoint \"a/w\" does not support"
    );
}

#[test]
fn service_entries_are_bound_and_wildcards_need_it() {
    let mut world = world();
    let entry = |labels: Value| {
        json!({
            "metadata": {"labels": labels},
            "spec": {
                "hosts": ["*.example.com"], "location": "MESH_EXTERNAL", "resolution": "DYNAMIC_DNS",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            },
        })
    };
    world.set("ServiceEntry", "a/se", entry(json!({})));
    let missing = |world: &World| {
        let all = world
            .conditions
            .get(&object(ObjectKind::ServiceEntry, "a/se"));
        told(all.map_or(&[], |all| all), "istio.io/WaypointMissing")
    };
    assert_eq!(missing(&world), "True NoWaypointForWildcardService");
    // Nobody resolves its names to an address that leads nowhere.
    let addresses = |world: &World| {
        world.services[&ServiceKey::new("a", "*.example.com")]
            .addresses
            .len()
    };
    assert_eq!(addresses(&world), 0);
    let mut racing = entry(json!({}));
    racing["spec"]["hosts"] = json!(["example.com"]);
    racing["metadata"]["annotations"] =
        json!({"istio.io/connect-strategy": "RACE_FIRST_TCP_CONNECT"});
    world.set("ServiceEntry", "a/se", racing);
    assert_eq!(missing(&world), "True NoWaypointForRacingConnectStrategy");
    world.set(
        "ServiceEntry",
        "a/se",
        entry(json!({"istio.io/use-waypoint": "w"})),
    );
    assert_eq!(missing(&world), "none");
    assert!(
        world
            .bound(ObjectKind::ServiceEntry, "a/se")
            .unwrap()
            .status
    );
    assert_eq!(of_service(&world, "a/*.example.com").as_deref(), Some(W));
    assert_eq!(addresses(&world), 2);
}

#[test]
fn what_is_private_to_its_namespace_is_not_shown_to_foreign_waypoints() {
    let mut world = world();
    world.set("Gateway", "a/w", waypoint(json!({}), "All"));
    let entry = |export: Value| {
        json!({
            "metadata": {"labels": {"istio.io/use-waypoint": "w", "istio.io/use-waypoint-namespace": "a"}},
            "spec": {
                "hosts": ["ext.test"], "exportTo": export,
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            },
        })
    };
    world.set("ServiceEntry", "b/se", entry(json!(["."])));
    let reason = |world: &World| {
        world
            .bound(ObjectKind::ServiceEntry, "b/se")
            .unwrap()
            .reason
    };
    assert_eq!(reason(&world), "CrossNamespaceWaypointForbidden");
    assert_eq!(of_service(&world, "b/ext.test"), None);
    world.set("ServiceEntry", "b/se", entry(json!(["*"])));
    assert_eq!(reason(&world), "WaypointAccepted");
    assert_eq!(of_service(&world, "b/ext.test").as_deref(), Some(W));
}

#[test]
fn ingress_uses_the_waypoint_when_told() {
    let mut world = world();
    let ingress = |world: &World| {
        let service = &world.services[&ServiceKey::parse(S).unwrap()];
        (
            service.waypoint_use.ingress,
            world
                .bound(ObjectKind::Service, "a/s")
                .unwrap()
                .message
                .clone(),
        )
    };
    assert!(!ingress(&world).0);
    world.set(
        "Namespace",
        "a",
        json!({"metadata": {"labels": {"istio.io/ingress-use-waypoint": "true"}}}),
    );
    let (used, message) = ingress(&world);
    assert!(used);
    assert_eq!(
        message,
        "Successfully attached to waypoint a/w. Ingress traffic will traverse the waypoint"
    );
    let labels = json!({"istio.io/use-waypoint": "w", "istio.io/ingress-use-waypoint": "false"});
    world.set("Service", "a/s", labelled(labels));
    let (used, message) = ingress(&world);
    assert!(!used);
    assert!(
        message.contains("Ingress traffic is not using the waypoint"),
        "{message}"
    );
}

#[test]
fn a_canary_gets_its_share() {
    let mut world = world();
    let set = |world: &mut World, canary: &str, weight: &str| {
        let mut service =
            labelled(json!({"istio.io/use-waypoint": "w", "istio.io/use-waypoint-canary": canary}));
        service["metadata"]["annotations"] = json!({"istio.io/use-waypoint-canary-weight": weight});
        world.set("Service", "a/s", service);
        let of_service = &world.services[&ServiceKey::parse(S).unwrap()]
            .waypoint_use
            .weighted;
        let weights: Vec<u32> = of_service.iter().map(|share| share.weight).collect();
        let condition = world.bound(ObjectKind::Service, "a/s").unwrap();
        assert!(
            condition.status,
            "the primary is bound, whatever becomes of the canary"
        );
        (weights, condition.message.clone())
    };
    let (weights, message) = set(&mut world, "v", "30");
    assert!(weights.is_empty());
    assert!(
        message.ends_with("Canary waypoint not attached: waypoint \"a/v\" is not ready"),
        "{message}"
    );
    world.set("Gateway", "a/v", waypoint(json!({}), "Same"));
    world.deployed("a/v", "a/v", &[15008]);
    assert_eq!(set(&mut world, "v", "30").0, [70, 30]);
    assert!(
        set(&mut world, "v", "101")
            .1
            .contains("must be an integer in [0,100]")
    );
    assert!(
        set(&mut world, "w", "30")
            .1
            .contains("must differ from the primary waypoint")
    );
    assert_eq!(set(&mut world, "v", "100").0, [0, 100]);
    // Both must know what routes to the service say.
    let route = json!({"spec": {
        "parentRefs": [{"group": "", "kind": "Service", "name": "s"}],
        "rules": [{"backendRefs": [{"name": "s", "port": 80}]}],
    }});
    world.set("HTTPRoute", "a/r", route);
    assert_eq!(
        *world.http_route("HTTPRoute/a/r").unwrap().0,
        only(&["a/v", "a/w"])
    );
}

#[test]
fn enforced_waypoints_are_told_to_the_node_proxies() {
    let mut world = world();
    let labels = json!({"tulle.mesh/waypoint-enforced": "true", "istio.io/waypoint-for": "all"});
    world.set("Gateway", "a/w", waypoint(labels, "Same"));
    world.set("Pod", "a/p", pod(json!({"istio.io/use-waypoint": "w"})));
    assert!(
        world.services[&ServiceKey::parse(S).unwrap()]
            .waypoint_use
            .enforced
    );
    assert!(world.workloads["Kubernetes//Pod/a/p"].waypoint_enforced);
}

#[test]
fn what_is_deployed_for_a_waypoint() {
    let world = world();
    let deployable = &world.gateways[&("a".into(), "w".into())];
    assert_eq!(deployable.class, Class::Waypoint);
    assert_eq!(&*deployable.workload_name, "w");
    assert_eq!(&*deployable.service_account, "w");
    assert_eq!(&*deployable.uid, "u1");
    let ports: Vec<u16> = deployable.ports.iter().map(|port| port.port).collect();
    assert_eq!(ports, [15008]);
    let status = world.gateway_status("a/w");
    assert_eq!(told(&status.conditions, "Accepted"), "True Accepted");
    assert_eq!(told(&status.conditions, "Programmed"), "True Programmed");
    let addresses: Vec<&str> = status
        .addresses
        .iter()
        .map(|address| &*address.value)
        .collect();
    assert_eq!(addresses, ["w.a.svc.cluster.local", "10.1.0.1"]);
}

#[test]
fn a_waypoint_has_one_listener() {
    let mut world = world();
    let mut gateway = waypoint(json!({}), "Same");
    gateway["spec"]["listeners"][0]["port"] = json!(80);
    world.set("Gateway", "a/w", gateway);
    let listener = world.listener("a/w", "mesh");
    assert_eq!(
        told(&listener.conditions, "Accepted"),
        "False UnsupportedProtocol"
    );
    // It listens where waypoints do all the same.
    let ports: Vec<u16> = world
        .gateway("a/w")
        .unwrap()
        .listeners
        .iter()
        .map(|l| l.port)
        .collect();
    assert_eq!(ports, [15008]);
}

#[test]
fn classes_of_others_are_left_alone() {
    let mut world = world();
    let foreign = json!({"spec": {"controllerName": "example.com/other"}});
    world.set("GatewayClass", "other", foreign);
    let mut gateway = waypoint(json!({}), "Same");
    gateway["spec"]["gatewayClassName"] = json!("other");
    gateway["status"] = json!({"addresses": [{"type": "IPAddress", "value": "192.0.2.1"}]});
    world.set("Gateway", "a/w", gateway);
    assert!(world.status(ObjectKind::Gateway, "a/w").is_none());
    assert!(world.gateways.is_empty());
    assert!(world.gateway("a/w").is_none());
    assert_eq!(
        of_service(&world, S).as_deref(),
        Some("192.0.2.1/32:15008"),
        "somebody else's waypoint"
    );
    // Routes of such services are that controller's.
    let route = json!({"spec": {
        "parentRefs": [{"group": "", "kind": "Service", "name": "s"}],
        "rules": [{"backendRefs": [{"name": "s", "port": 80}]}],
    }});
    world.set("HTTPRoute", "a/r", route);
    assert!(world.parents(ObjectKind::HttpRoute, "a/r").is_empty());
    assert!(world.http_route("HTTPRoute/a/r").is_none());
}
