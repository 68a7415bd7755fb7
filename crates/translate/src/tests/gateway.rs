//! Gateways, listeners and certificates. Named after the cases of the Gateway API's conformance suite where there
//! is one.

use serde_json::{Value, json};
use tulle_route::resource::{ClientValidation, Protocol, Role};

use super::gateway_objects::{CERTIFICATE, secret_of};
use super::world::{World, only, told};
use crate::{Class, ObjectKind, Resource, Status};

pub(super) fn gateway(listeners: Value) -> Value {
    json!({
        "metadata": {"uid": "u", "generation": 1},
        "spec": {"gatewayClassName": "istio", "listeners": listeners},
    })
}

fn https(refs: Value) -> Value {
    json!([{"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": refs}}])
}

fn grant(from: &str, kind: &str, to: Value) -> Value {
    let from = json!({"group": "gateway.networking.k8s.io", "kind": kind, "namespace": from});
    json!({"spec": {"from": [from], "to": [to]}})
}

pub(super) fn route(parent: Value) -> Value {
    json!({"spec": {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]}})
}

fn conditions(world: &World, listener: &str) -> [String; 4] {
    let all = &world.listener("infra/g", listener).conditions;
    ["Accepted", "Programmed", "ResolvedRefs", "Conflicted"].map(|kind| told(all, kind))
}

const FINE: [&str; 4] = [
    "True Accepted",
    "True Programmed",
    "True ResolvedRefs",
    "False NoConflicts",
];

#[test]
fn gateway_invalid_tls_configuration() {
    let mut world = World::new();
    world.set(
        "Secret",
        "infra/good",
        secret_of("infra", "good", CERTIFICATE),
    );
    world.set(
        "Secret",
        "infra/malformed",
        secret_of("infra", "malformed", "Hello world"),
    );
    for (refs, expected) in [
        (json!([{"name": "good"}]), "True ResolvedRefs"),
        (json!([{"name": "missing"}]), "False InvalidCertificateRef"),
        (
            json!([{"name": "malformed"}]),
            "False InvalidCertificateRef",
        ),
        (
            json!([{"name": "good", "group": "wrong.group.company.io"}]),
            "False InvalidCertificateRef",
        ),
        (
            json!([{"name": "good", "kind": "WrongKind"}]),
            "False InvalidCertificateRef",
        ),
        (
            json!([{"name": "good"}, {"name": "missing"}]),
            "False InvalidCertificateRef",
        ),
    ] {
        world.set("Gateway", "infra/g", gateway(https(refs.clone())));
        let listener = world.listener("infra/g", "https");
        assert_eq!(
            told(&listener.conditions, "ResolvedRefs"),
            expected,
            "{refs}"
        );
        let serves = world.gateway("infra/g").unwrap().listeners.len();
        let usable = refs[0] == json!({"name": "good"});
        assert_eq!(serves, usize::from(usable), "{refs}");
        let programmed = if usable {
            "True Programmed"
        } else {
            "False Invalid"
        };
        assert_eq!(
            told(&listener.conditions, "Programmed"),
            programmed,
            "{refs}"
        );
        // A port of the Service does not come and go with a Secret.
        assert_eq!(
            world.gateways[&("infra".into(), "g".into())].ports[0].port,
            443
        );
    }
}

#[test]
fn gateway_secret_reference_grants() {
    let mut world = World::new();
    world.set("Secret", "web/c", secret_of("web", "c", CERTIFICATE));
    world.set(
        "Gateway",
        "infra/g",
        gateway(https(json!([{"name": "c", "namespace": "web"}]))),
    );
    let resolved = |world: &World| {
        let sent = world.resources.keys().any(|key| &*key.name == "web/c");
        (
            told(
                &world.listener("infra/g", "https").conditions,
                "ResolvedRefs",
            ),
            sent,
        )
    };
    let refused = ("False RefNotPermitted".to_owned(), false);
    let fine = ("True ResolvedRefs".to_owned(), true);
    assert_eq!(
        resolved(&world),
        refused,
        "GatewaySecretMissingReferenceGrant"
    );
    for (to, from, kind, expected) in [
        (
            json!({"kind": "Secret", "name": "other"}),
            "infra",
            "Gateway",
            &refused,
        ),
        (
            json!({"kind": "Secret", "name": "c"}),
            "elsewhere",
            "Gateway",
            &refused,
        ),
        (
            json!({"kind": "Secret", "name": "c"}),
            "infra",
            "HTTPRoute",
            &refused,
        ),
        (
            json!({"kind": "Service", "name": "c"}),
            "infra",
            "Gateway",
            &refused,
        ),
        (
            json!({"kind": "Secret", "name": "c"}),
            "infra",
            "Gateway",
            &fine,
        ),
        (json!({"kind": "Secret"}), "infra", "Gateway", &fine),
    ] {
        world.set("ReferenceGrant", "web/grant", grant(from, kind, to.clone()));
        assert_eq!(resolved(&world), *expected, "{to} from {kind} of {from}");
    }
    world.delete("ReferenceGrant", "web/grant");
    assert_eq!(resolved(&world), refused);
}

#[test]
fn certificates_go_to_those_who_name_them_and_follow_the_secret() {
    let mut world = World::new();
    world.set("Secret", "infra/c", secret_of("infra", "c", CERTIFICATE));
    let sent = |world: &World| {
        let found = world
            .resources
            .iter()
            .find(|(key, _)| &*key.name == "infra/c");
        found.map(|(_, (audience, _))| audience.clone())
    };
    assert_eq!(sent(&world), None, "nobody names it");
    world.set("Gateway", "infra/g", gateway(https(json!([{"name": "c"}]))));
    world.set("Gateway", "infra/h", gateway(https(json!([{"name": "c"}]))));
    world.set(
        "Gateway",
        "infra/i",
        gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}])),
    );
    assert_eq!(sent(&world), Some(only(&["infra/g", "infra/h"])));
    let mut changed = secret_of("infra", "c", CERTIFICATE);
    changed["data"]["ca.crt"] = changed["data"]["tls.crt"].clone();
    world.set("Secret", "infra/c", changed);
    let (_, resource) = world
        .resources
        .iter()
        .find(|(key, _)| &*key.name == "infra/c")
        .unwrap()
        .1;
    let Resource::Certificate(certificate) = resource else {
        panic!("{resource:?}")
    };
    assert!(certificate.roots.is_some());
    world.delete("Gateway", "infra/g");
    assert_eq!(sent(&world), Some(only(&["infra/h"])));
    world.delete("Secret", "infra/c");
    assert_eq!(sent(&world), None);
}

#[test]
fn gateway_invalid_route_kind() {
    let mut world = World::new();
    let with = |kinds: Value| {
        gateway(
            json!([{"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"kinds": kinds}}]),
        )
    };
    for (kinds, resolved, supported) in [
        (
            json!([{"kind": "InvalidRoute"}]),
            "False InvalidRouteKinds",
            vec![],
        ),
        (
            json!([{"kind": "InvalidRoute"}, {"kind": "HTTPRoute"}]),
            "False InvalidRouteKinds",
            vec!["HTTPRoute"],
        ),
        (
            json!([{"kind": "GRPCRoute"}]),
            "True ResolvedRefs",
            vec!["GRPCRoute"],
        ),
        (
            json!([]),
            "True ResolvedRefs",
            vec!["HTTPRoute", "GRPCRoute"],
        ),
    ] {
        world.set("Gateway", "infra/g", with(kinds.clone()));
        let listener = world.listener("infra/g", "http");
        assert_eq!(
            told(&listener.conditions, "ResolvedRefs"),
            resolved,
            "{kinds}"
        );
        let names: Vec<&str> = listener
            .supported_kinds
            .iter()
            .map(|(_, kind)| *kind)
            .collect();
        assert_eq!(names, supported, "{kinds}");
    }
}

#[test]
fn gateway_listener_unsupported_protocol() {
    let mut world = World::new();
    world.set(
        "Gateway",
        "infra/g",
        gateway(json!([
            {"name": "udp", "port": 53, "protocol": "UDP"},
            {"name": "http", "port": 80, "protocol": "HTTP"},
        ])),
    );
    assert_eq!(conditions(&world, "udp")[0], "False UnsupportedProtocol");
    assert_eq!(conditions(&world, "http"), FINE);
    assert_eq!(
        told(&world.gateway_status("infra/g").conditions, "Accepted"),
        "True ListenersNotValid"
    );
    world.set(
        "Gateway",
        "infra/g",
        gateway(json!([{"name": "udp", "port": 53, "protocol": "UDP"}])),
    );
    assert_eq!(
        told(&world.gateway_status("infra/g").conditions, "Accepted"),
        "False ListenersNotValid"
    );
    world.set(
        "Gateway",
        "infra/g",
        gateway(json!([{"name": "http", "port": 15021, "protocol": "HTTP"}])),
    );
    assert_eq!(conditions(&world, "http")[0], "False PortUnavailable");
}

#[test]
fn listeners_that_cannot_be_told_apart() {
    let mut world = World::new();
    let listener = |name: &str, port: u16, protocol: &str, hostname: &str| {
        json!({"name": name, "port": port, "protocol": protocol, "hostname": hostname,
            "tls": {"mode": "Passthrough"}})
    };
    for (first, second, conflict) in [
        (
            listener("a", 80, "HTTP", "a.test"),
            listener("b", 80, "HTTP", "b.test"),
            "False NoConflicts",
        ),
        (
            listener("a", 80, "HTTP", "a.test"),
            listener("b", 80, "HTTP", "a.test"),
            "True HostnameConflict",
        ),
        (
            listener("a", 80, "HTTP", ""),
            listener("b", 80, "HTTP", ""),
            "True HostnameConflict",
        ),
        (
            listener("a", 80, "HTTP", ""),
            listener("b", 80, "TCP", ""),
            "True ProtocolConflict",
        ),
        (
            listener("a", 80, "HTTP", "a.test"),
            listener("b", 80, "TLS", "b.test"),
            "True ProtocolConflict",
        ),
        (
            listener("a", 80, "HTTP", ""),
            listener("b", 81, "TCP", ""),
            "False NoConflicts",
        ),
        (
            listener("a", 443, "TLS", "a.test"),
            listener("b", 443, "TLS", "b.test"),
            "False NoConflicts",
        ),
    ] {
        world.set("Gateway", "infra/g", gateway(json!([first, second])));
        assert_eq!(conditions(&world, "a")[3], conflict, "{first} {second}");
        assert_eq!(conditions(&world, "b")[3], conflict, "{first} {second}");
    }
}

#[test]
fn gateway_invalid_parameters_ref() {
    let mut world = World::new();
    let with = |kind: &str| {
        let mut gateway = gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
        let group = if kind == "ConfigMap" {
            ""
        } else {
            "example.com"
        };
        gateway["spec"]["infrastructure"] = json!({"parametersRef": {"group": group, "kind": kind, "name": "p"}, "labels": {"l": "1"}});
        gateway
    };
    for kind in ["ConfigMap", "NotExistent"] {
        world.set("Gateway", "infra/g", with(kind));
        let status = world.gateway_status("infra/g");
        assert_eq!(
            told(&status.conditions, "Accepted"),
            "False InvalidParameters"
        );
        assert!(world.gateways.is_empty(), "nothing is deployed");
    }
    world.set("Gateway", "infra/g", with("ConfigMap"));
    world.set(
        "ConfigMap",
        "infra/p",
        json!({"data": {"deployment": "spec: {}"}}),
    );
    assert_eq!(
        told(&world.gateway_status("infra/g").conditions, "Accepted"),
        "True Accepted"
    );
    let deployable = &world.gateways[&("infra".into(), "g".into())];
    assert_eq!(deployable.parameters.as_deref(), Some("p"));
    assert_eq!(
        deployable.labels.get("l").map(|l| &**l),
        Some("1"),
        "GatewayInfrastructure"
    );
}

#[test]
fn gateway_name_maximum_length_and_names() {
    let mut world = World::new();
    let plain = || gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
    let name = "g".repeat(63);
    world.set("Gateway", &format!("infra/{name}"), plain());
    let long = &world.gateways[&("infra".into(), name.as_str().into())].workload_name;
    assert!(long.len() <= 63, "{long}");
    world.set("Gateway", "infra/g", plain());
    let deployable = &world.gateways[&("infra".into(), "g".into())];
    assert_eq!(
        (&*deployable.workload_name, deployable.class),
        ("g-istio", Class::Gateway)
    );
    let mut renamed = plain();
    renamed["metadata"]["annotations"] = json!({
        "gateway.istio.io/name-override": "front", "gateway.istio.io/service-account": "own",
        "networking.istio.io/service-type": "ClusterIP", "kubectl.kubernetes.io/x": "y", "kept": "1",
    });
    world.set("Gateway", "infra/g", renamed);
    let deployable = &world.gateways[&("infra".into(), "g".into())];
    assert_eq!(
        (&*deployable.workload_name, &*deployable.service_account),
        ("front", "own")
    );
    assert_eq!(deployable.service_type.as_deref(), Some("ClusterIP"));
    assert_eq!(
        deployable
            .annotations
            .keys()
            .map(|k| &**k)
            .collect::<Vec<_>>(),
        ["kept"]
    );
}

#[test]
fn gateway_observed_generation_bump() {
    let mut world = World::new();
    let mut object = gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
    world.set("Gateway", "infra/g", object.clone());
    object["metadata"]["generation"] = json!(2);
    world.set("Gateway", "infra/g", object);
    let status = world.gateway_status("infra/g");
    let all = status
        .conditions
        .iter()
        .chain(&status.listeners[0].conditions);
    assert!(all.clone().count() > 4);
    assert!(
        all.into_iter()
            .all(|condition| condition.observed_generation == Some(2))
    );
    world.set("GatewayClass", "istio", json!({
        "metadata": {"generation": 7}, "spec": {"controllerName": "istio.io/gateway-controller"},
    }));
    let Some(Status::GatewayClass(class)) = world.status(ObjectKind::GatewayClass, "istio") else {
        panic!()
    };
    assert_eq!(
        class.conditions[0].observed_generation,
        Some(7),
        "GatewayClassObservedGenerationBump"
    );
    assert_eq!(told(&class.conditions, "Accepted"), "True Accepted");
    assert!(class.supported_features.is_sorted());
}

#[test]
fn addresses_and_programmed() {
    let mut world = World::new();
    world.set(
        "Gateway",
        "infra/g",
        gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}])),
    );
    let programmed = |world: &World| {
        let status = world.gateway_status("infra/g");
        let addresses: Vec<String> = status
            .addresses
            .iter()
            .map(|a| a.value.to_string())
            .collect();
        (told(&status.conditions, "Programmed"), addresses.join(","))
    };
    let pending = ("False AddressNotAssigned".to_owned(), String::new());
    assert_eq!(programmed(&world), pending);
    world.deployed("infra/g", "infra/g-istio", &[80]);
    assert_eq!(
        programmed(&world).0,
        "True Programmed",
        "a ClusterIP is known by its name"
    );
    let balanced = |ingress: Value| {
        json!({
            "spec": {"type": "LoadBalancer", "clusterIP": "10.1.0.2", "ports": [{"name": "http", "port": 80}]},
            "status": {"loadBalancer": {"ingress": ingress}},
        })
    };
    world.set("Service", "infra/g-istio", balanced(json!([])));
    assert_eq!(programmed(&world), pending);
    world.set(
        "Service",
        "infra/g-istio",
        balanced(json!([{"ip": "192.0.2.1"}])),
    );
    assert_eq!(
        programmed(&world),
        ("True Programmed".to_owned(), "192.0.2.1".to_owned())
    );
    // GatewayStaticAddresses
    let with = |addresses: Value| {
        let mut object = gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
        object["spec"]["addresses"] = addresses;
        object
    };
    let odd = json!([{"type": "test/fake-invalid-type", "value": "x"}, {"type": "IPAddress", "value": "192.0.2.1"}]);
    world.set("Gateway", "infra/g", with(odd));
    assert_eq!(
        told(&world.gateway_status("infra/g").conditions, "Accepted"),
        "False UnsupportedAddress"
    );
    let unusable = json!([{"type": "IPAddress", "value": "192.0.2.1"}, {"type": "IPAddress", "value": "198.51.100.1"}]);
    world.set("Gateway", "infra/g", with(unusable));
    assert_eq!(programmed(&world).0, "False AddressNotUsable");
    // The load balancer has nothing to give for the first; the second is not even asked for.
    world.set("Service", "infra/g-istio", balanced(json!([])));
    assert_eq!(programmed(&world).0, "False AddressNotUsable");
    world.set(
        "Service",
        "infra/g-istio",
        balanced(json!([{"ip": "192.0.2.1"}])),
    );
    world.set(
        "Gateway",
        "infra/g",
        with(json!([{"type": "IPAddress", "value": "192.0.2.1"}])),
    );
    assert_eq!(
        programmed(&world),
        ("True Programmed".to_owned(), "192.0.2.1".to_owned())
    );
    assert_eq!(
        &*world.gateways[&("infra".into(), "g".into())].addresses[0],
        "192.0.2.1"
    );
    // GatewayOptionalAddressValue
    world.set("Gateway", "infra/g", with(json!([{"type": "IPAddress"}])));
    assert_eq!(programmed(&world).0, "True Programmed");
}

#[test]
fn unmanaged_gateways_use_the_users_service() {
    let mut world = World::new();
    let mut object = gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
    object["spec"]["addresses"] = json!([{"type": "Hostname", "value": "front"}]);
    world.set("Gateway", "infra/g", object);
    assert!(world.gateways.is_empty(), "nothing is deployed");
    world.set(
        "Service",
        "infra/front",
        json!({"spec": {
            "clusterIP": "10.1.0.2", "selector": {"app": "front"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        }}),
    );
    let gateway = world.gateway("infra/g").unwrap();
    assert_eq!(gateway.role, Role::Gateway);
    assert_eq!(
        (gateway.listeners[0].port, gateway.listeners[0].service_port),
        (8080, 80)
    );
    assert_eq!(
        told(&world.gateway_status("infra/g").conditions, "Programmed"),
        "True Programmed"
    );
    world.set(
        "Pod",
        "infra/p",
        json!({"metadata": {"labels": {"app": "front"}}, "spec": {"containers": []}}),
    );
    let gateways = world.cluster.gateways_of("infra", "p");
    assert_eq!(gateways.into_iter().collect::<Vec<_>>(), ["infra/g".into()]);
}

#[test]
fn client_certificates() {
    let mut world = World::new();
    world.set("Secret", "infra/c", secret_of("infra", "c", CERTIFICATE));
    let with = |frontend: Value| {
        let mut object = gateway(https(json!([{"name": "c"}])));
        object["spec"]["tls"] = json!({"frontend": frontend});
        object
    };
    let config = |kind: &str, name: &str, mode: &str| json!({"validation": {"caCertificateRefs": [{"group": "", "kind": kind, "name": name}], "mode": mode}});
    let client = |world: &World| match &world
        .gateway("infra/g")
        .unwrap()
        .listeners
        .first()?
        .protocol
    {
        Protocol::Https(end) => Some(end.client.clone()),
        other => panic!("{other:?}"),
    };
    // GatewayFrontendInvalidDefaultClientCertificateValidation
    for (kind, reason) in [
        ("ConfigMap", "InvalidCACertificateRef"),
        ("Elsewhere", "InvalidCACertificateKind"),
    ] {
        world.set(
            "Gateway",
            "infra/g",
            with(json!({"default": config(kind, "roots", "AllowValidOnly")})),
        );
        let [accepted, programmed, resolved, _] = conditions(&world, "https");
        assert_eq!(
            (accepted.as_str(), programmed.as_str()),
            ("False NoValidCACertificate", "False Invalid")
        );
        assert_eq!(resolved, format!("False {reason}"));
    }
    world.set(
        "ConfigMap",
        "infra/roots",
        json!({"data": {"ca.crt": CERTIFICATE}}),
    );
    world.set(
        "Gateway",
        "infra/g",
        with(json!({"default": config("ConfigMap", "roots", "AllowValidOnly")})),
    );
    assert_eq!(conditions(&world, "https"), FINE);
    assert!(matches!(
        client(&world),
        Some(ClientValidation::Required { .. })
    ));
    world.set(
        "Gateway",
        "infra/g",
        with(json!({"default": config("ConfigMap", "roots", "AllowInsecureFallback")})),
    );
    assert_eq!(client(&world), Some(ClientValidation::Unverified));
    let status = world.gateway_status("infra/g");
    assert_eq!(
        told(&status.conditions, "InsecureFrontendValidationMode"),
        "True ConfigurationChanged"
    );
    let per_port = json!({
        "default": config("ConfigMap", "roots", "AllowValidOnly"), "perPort": [{"port": 443, "tls": {}}],
    });
    world.set("Gateway", "infra/g", with(per_port));
    assert_eq!(client(&world), Some(ClientValidation::None));
}

#[test]
fn gateway_tls_backend_client_certificate() {
    let mut world = World::new();
    world.set("Secret", "infra/c", secret_of("infra", "c", CERTIFICATE));
    let with = |name: &str, namespace: &str| {
        let mut object = gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
        let reference = json!({"kind": "Secret", "name": name, "namespace": namespace});
        object["spec"]["tls"] = json!({"backend": {"clientCertificateRef": reference}});
        object
    };
    for (name, namespace, expected, used) in [
        ("c", "infra", "True ResolvedRefs", true),
        (
            "missing",
            "infra",
            "False InvalidClientCertificateRef",
            false,
        ),
        ("c", "web", "False RefNotPermitted", false),
    ] {
        world.set("Gateway", "infra/g", with(name, namespace));
        assert_eq!(
            told(&world.gateway_status("infra/g").conditions, "ResolvedRefs"),
            expected
        );
        let certificate = world
            .gateway("infra/g")
            .unwrap()
            .backend_certificate
            .clone();
        assert_eq!(certificate.is_some(), used);
        assert_eq!(
            world.resources.keys().any(|key| &*key.name == "infra/c"),
            used
        );
    }
}

#[test]
fn gateway_with_attached_routes() {
    let mut world = World::new();
    world.service("infra/s", &[80]);
    world.set("Gateway", "infra/g", gateway(json!([
        {"name": "http", "port": 80, "protocol": "HTTP"},
        {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "missing"}]}},
        {"name": "host", "port": 81, "protocol": "HTTP", "hostname": "x.test"},
    ])));
    world.set("HTTPRoute", "infra/a", route(json!({"name": "g"})));
    world.set(
        "HTTPRoute",
        "infra/b",
        route(json!({"name": "g", "sectionName": "http"})),
    );
    let mut unresolved = route(json!({"name": "g", "sectionName": "http"}));
    unresolved["spec"]["rules"][0]["backendRefs"][0]["name"] = json!("nothing");
    world.set("HTTPRoute", "infra/c", unresolved);
    world.set(
        "HTTPRoute",
        "other/d",
        route(json!({"name": "g", "namespace": "infra"})),
    );
    let counts = |world: &World| {
        ["http", "https", "host"].map(|l| world.listener("infra/g", l).attached_routes)
    };
    assert_eq!(
        counts(&world),
        [3, 1, 1],
        "also while a certificate is missing, also without backend"
    );
    world.delete("HTTPRoute", "infra/a");
    assert_eq!(counts(&world), [2, 0, 0]);
}

#[test]
fn what_became_of_a_gateways_objects_is_in_its_conditions() {
    use crate::NotDeployed::{Parameters, Refused};
    let mut world = World::new();
    let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    world.set("Gateway", "infra/g", gateway(listeners));
    let all = |world: &World| {
        let conditions = &world.gateway_status("infra/g").conditions;
        ["Accepted", "Programmed"].map(|kind| told(conditions, kind))
    };
    let before = all(&world);
    world.undeployed("infra/g", Some(Parameters("why".to_owned())));
    assert_eq!(all(&world), ["False InvalidParameters", &before[1]]);
    // Also in place of what follows from it: there are no addresses.
    world.undeployed("infra/g", Some(Refused("why".to_owned())));
    assert_eq!(all(&world), [&before[0], "False Invalid"]);
    let shown = &world.gateway_status("infra/g").conditions;
    assert!(shown.iter().any(|c| c.message == "why"), "{shown:?}");
    world.undeployed("infra/g", None);
    assert_eq!(all(&world), before);
    // Of a Gateway that is gone, nobody wants to know.
    world.undeployed("infra/nobody", Some(Refused("why".to_owned())));
    assert_eq!(all(&world), before);
}
