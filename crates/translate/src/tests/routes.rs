//! Routes: attachment, references, rules, and what users are told. Named after the cases of the Gateway API's conformance suite
//! where there is one.

use serde_json::{Value, json};
use tulle_route::resource::{BackendTarget, Parent, RuleAction};

use super::world::{World, only, told};
use crate::ObjectKind;
use crate::gateway::intersect;

/// Gateway `infra/g` with listeners for everything, services `infra/s` and `web/s` with port 80.
fn world() -> World {
    let mut world = World::new();
    for namespace in ["infra", "web"] {
        world.set(
            "Namespace",
            namespace,
            json!({"metadata": {"labels": {"name": namespace}}}),
        );
        world.service(&format!("{namespace}/s"), &[80]);
    }
    world.set("Gateway", "infra/g", json!({
        "metadata": {"uid": "u"},
        "spec": {"gatewayClassName": "istio", "listeners": [
            {"name": "http", "port": 80, "protocol": "HTTP"},
            {"name": "host", "port": 8080, "protocol": "HTTP", "hostname": "*.example.com",
                "allowedRoutes": {"namespaces": {"from": "All"}}},
            {"name": "tls", "port": 443, "protocol": "TLS", "hostname": "*.tls.test", "tls": {"mode": "Passthrough"}},
            {"name": "tcp", "port": 9000, "protocol": "TCP"},
        ]},
    }));
    world
}

fn http(parents: Value, rules: Value) -> Value {
    json!({"metadata": {"generation": 5}, "spec": {"parentRefs": parents, "rules": rules}})
}

fn to(backends: Value) -> Value {
    json!([{"backendRefs": backends}])
}

fn simple(parent: Value) -> Value {
    http(json!([parent]), to(json!([{"name": "s", "port": 80}])))
}

fn accepted(world: &World, kind: ObjectKind, name: &str) -> String {
    told(&world.parents(kind, name)[0].conditions, "Accepted")
}

fn resolved(world: &World, name: &str) -> String {
    told(
        &world.parents(ObjectKind::HttpRoute, name)[0].conditions,
        "ResolvedRefs",
    )
}

/// The rules of a route as JSON.
fn rules(world: &World, name: &str) -> Value {
    serde_json::to_value(&world.http_route(name).unwrap().1.rules).unwrap()
}

#[test]
fn parents_that_take_no_route() {
    let mut world = world();
    for (case, parent, expected) in [
        (
            "HTTPRouteSimpleSameNamespace",
            json!({"name": "g", "sectionName": "http"}),
            "True Accepted",
        ),
        (
            "HTTPRouteListenerPortMatching",
            json!({"name": "g", "port": 80}),
            "True Accepted",
        ),
        (
            "HTTPRouteInvalidParentRefNotMatchingSectionName",
            json!({"name": "g", "sectionName": "x"}),
            "False NoMatchingParent",
        ),
        (
            "HTTPRouteInvalidParentRefNotMatchingListenerPort",
            json!({"name": "g", "port": 81}),
            "False NoMatchingParent",
        ),
        (
            "HTTPRouteInvalidParentRefSectionNameNotMatchingPort",
            json!({"name": "g", "sectionName": "http", "port": 8080}),
            "False NoMatchingParent",
        ),
        (
            "a listener for other kinds",
            json!({"name": "g", "sectionName": "tcp"}),
            "False NotAllowedByListeners",
        ),
    ] {
        world.set("HTTPRoute", "infra/r", simple(parent));
        assert_eq!(
            accepted(&world, ObjectKind::HttpRoute, "infra/r"),
            expected,
            "{case}"
        );
        let generation =
            world.parents(ObjectKind::HttpRoute, "infra/r")[0].conditions[0].observed_generation;
        assert_eq!(generation, Some(5), "HTTPRouteObservedGenerationBump");
        assert_eq!(
            world.http_route("HTTPRoute/infra/r").is_some(),
            expected.starts_with("True"),
            "{case}"
        );
    }
    // Parents that are not there, or not ours, are nobody's to report.
    for parent in [
        json!({"name": "missing"}),
        json!({"kind": "Elsewhere", "name": "g"}),
    ] {
        world.set("HTTPRoute", "infra/r", simple(parent));
        assert!(world.parents(ObjectKind::HttpRoute, "infra/r").is_empty());
    }
}

#[test]
fn http_route_cross_namespace() {
    let mut world = world();
    let parent = json!({"name": "g", "namespace": "infra", "sectionName": "host"});
    world.set("HTTPRoute", "web/r", simple(parent));
    assert_eq!(
        accepted(&world, ObjectKind::HttpRoute, "web/r"),
        "True Accepted"
    );
    let parent = json!({"name": "g", "namespace": "infra", "sectionName": "http"});
    world.set("HTTPRoute", "web/r", simple(parent));
    let expected = "False NotAllowedByListeners";
    assert_eq!(
        accepted(&world, ObjectKind::HttpRoute, "web/r"),
        expected,
        "HTTPRouteInvalidCrossNamespaceParentRef"
    );
}

#[test]
fn http_route_hostname_intersection() {
    for (listener, route, expected) in [
        (
            "very.specific.com",
            "very.specific.com",
            Some("very.specific.com"),
        ),
        (
            "very.specific.com",
            "*.specific.com",
            Some("very.specific.com"),
        ),
        ("very.specific.com", "specific.com", None),
        ("*.wildcard.io", "a.wildcard.io", Some("a.wildcard.io")),
        ("*.wildcard.io", "a.b.wildcard.io", Some("a.b.wildcard.io")),
        ("*.wildcard.io", "wildcard.io", None),
        ("*.wildcard.io", "*.wildcard.io", Some("*.wildcard.io")),
        (
            "*.anotherwildcard.io",
            "*.very.anotherwildcard.io",
            Some("*.very.anotherwildcard.io"),
        ),
        (
            "*.very.anotherwildcard.io",
            "*.anotherwildcard.io",
            Some("*.very.anotherwildcard.io"),
        ),
        ("*.wildcard.io", "*.wildcardio", None),
        ("*", "a.test", Some("a.test")),
    ] {
        assert_eq!(
            intersect(listener, route).as_deref(),
            expected,
            "{listener} and {route}"
        );
    }
    let mut world = world();
    let mut route = simple(json!({"name": "g", "namespace": "infra", "sectionName": "host"}));
    route["spec"]["hostnames"] = json!(["a.example.com", "B.Example.com", "other.test"]);
    world.set("HTTPRoute", "web/r", route.clone());
    let parents = &world.http_route("HTTPRoute/web/r").unwrap().1.parents;
    let Parent::Listener { hostnames, .. } = &parents[0] else {
        panic!()
    };
    let hostnames: Vec<&str> = hostnames.iter().map(|host| &*host.0).collect();
    assert_eq!(hostnames, ["a.example.com", "b.example.com"]);
    route["spec"]["hostnames"] = json!(["other.test"]);
    world.set("HTTPRoute", "web/r", route);
    assert_eq!(
        accepted(&world, ObjectKind::HttpRoute, "web/r"),
        "False NoMatchingListenerHostname"
    );
    assert!(world.http_route("HTTPRoute/web/r").is_none());
}

#[test]
fn backend_references() {
    let mut world = world();
    let parent = json!([{"name": "g", "sectionName": "http"}]);
    let entry = json!({"spec": {
        "hosts": ["api.example.org"], "resolution": "DNS", "location": "MESH_EXTERNAL",
        "ports": [{"number": 443, "name": "https", "protocol": "TLS"}],
    }});
    world.set("ServiceEntry", "infra/se", entry);
    for (case, backend, expected) in [
        (
            "Service",
            json!({"name": "s", "port": 80}),
            "True ResolvedRefs",
        ),
        (
            "HTTPRouteInvalidBackendRefUnknownKind",
            json!({"kind": "NonExistent", "name": "s", "port": 80}),
            "False InvalidKind",
        ),
        (
            "HTTPRouteInvalidNonExistentBackendRef",
            json!({"name": "nothing", "port": 80}),
            "False BackendNotFound",
        ),
        (
            "no such port",
            json!({"name": "s", "port": 81}),
            "False BackendNotFound",
        ),
        ("no port", json!({"name": "s"}), "False UnsupportedValue"),
        (
            "HTTPRouteInvalidCrossNamespaceBackendRef",
            json!({"name": "s", "namespace": "web", "port": 80}),
            "False RefNotPermitted",
        ),
        (
            "ServiceEntry",
            json!({"group": "networking.istio.io", "kind": "ServiceEntry", "name": "se", "port": 443}),
            "True ResolvedRefs",
        ),
        (
            "Hostname",
            json!({"group": "networking.istio.io", "kind": "Hostname", "name": "api.example.org", "port": 443}),
            "True ResolvedRefs",
        ),
    ] {
        world.set(
            "HTTPRoute",
            "infra/r",
            http(parent.clone(), to(json!([backend]))),
        );
        assert_eq!(resolved(&world, "infra/r"), expected, "{case}");
        assert_eq!(
            accepted(&world, ObjectKind::HttpRoute, "infra/r"),
            "True Accepted",
            "{case}"
        );
        let (audience, route) = world.http_route("HTTPRoute/infra/r").unwrap();
        assert_eq!(*audience, only(&["infra/g"]));
        let RuleAction::Forward(backends) = &route.rules[0].action else {
            panic!("{case}")
        };
        match &backends[0].target {
            BackendTarget::Unroutable(why) => assert_eq!(
                (why.status, expected.starts_with("False")),
                (500, true),
                "{case}"
            ),
            BackendTarget::Service { service, .. } => {
                assert!(expected.starts_with("True"), "{case}");
                let external = service.as_str() == "infra/api.example.org";
                assert_eq!(external, case != "Service", "{case}");
            }
        }
    }
}

#[test]
fn http_route_reference_grant() {
    let mut world = world();
    let backends = json!([{"name": "s", "namespace": "web", "port": 80}, {"name": "s", "port": 80, "weight": 3}]);
    world.set(
        "HTTPRoute",
        "infra/r",
        http(json!([{"name": "g"}]), to(backends)),
    );
    let grant = |kind: &str, to: Value| {
        let from =
            json!({"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "infra"});
        json!({"spec": {"from": [from], "to": [to]}})
    };
    assert_eq!(
        resolved(&world, "infra/r"),
        "False RefNotPermitted",
        "HTTPRoutePartiallyInvalidViaInvalidReferenceGrant"
    );
    let forwarded = rules(&world, "HTTPRoute/infra/r");
    assert_eq!(
        forwarded[0]["action"]["forward"][1]["weight"],
        json!(3),
        "the other one keeps its share"
    );
    world.set(
        "ReferenceGrant",
        "web/grant",
        grant("GRPCRoute", json!({"kind": "Service"})),
    );
    assert_eq!(
        resolved(&world, "infra/r"),
        "False RefNotPermitted",
        "HTTPRouteInvalidReferenceGrant"
    );
    world.set(
        "ReferenceGrant",
        "web/grant",
        grant("HTTPRoute", json!({"kind": "Service", "name": "s"})),
    );
    assert_eq!(resolved(&world, "infra/r"), "True ResolvedRefs");
    world.delete("ReferenceGrant", "web/grant");
    assert_eq!(resolved(&world, "infra/r"), "False RefNotPermitted");
}

#[test]
fn references_are_looked_at_again_when_services_come_and_go() {
    let mut world = world();
    world.set(
        "HTTPRoute",
        "infra/r",
        http(
            json!([{"name": "g"}]),
            to(json!([{"name": "late", "port": 80}])),
        ),
    );
    assert_eq!(resolved(&world, "infra/r"), "False BackendNotFound");
    world.service("infra/late", &[80]);
    assert_eq!(resolved(&world, "infra/r"), "True ResolvedRefs");
    world.service("infra/late", &[81]);
    assert_eq!(resolved(&world, "infra/r"), "False BackendNotFound");
    world.delete("Service", "infra/late");
    assert_eq!(resolved(&world, "infra/r"), "False BackendNotFound");
}

#[test]
fn http_route_matching() {
    let mut world = world();
    let matches = json!([
        {"path": {"type": "PathPrefix", "value": "/v1/"}},
        {"path": {"type": "Exact", "value": "/one"}, "method": "GET"},
        {"path": {"type": "RegularExpression", "value": "/v[0-9]+"},
            "headers": [{"name": "Version", "value": "two"}, {"name": "version", "value": "three"}],
            "queryParams": [{"name": "Animal", "value": "whale"}]},
        {"headers": [{"type": "RegularExpression", "name": "x", "value": "a.*"}]},
    ]);
    let rule =
        json!([{"name": "named", "matches": matches, "backendRefs": [{"name": "s", "port": 80}]}]);
    world.set("HTTPRoute", "infra/r", http(json!([{"name": "g"}]), rule));
    let rules = rules(&world, "HTTPRoute/infra/r");
    assert_eq!(rules[0]["name"], "named", "HTTPRouteNamedRule");
    let told = &rules[0]["matches"];
    assert_eq!(told[0]["path"], json!({"prefix": "/v1"}));
    assert_eq!(told[1]["path"], json!({"exact": "/one"}));
    assert_eq!(told[1]["method"], json!({"exact": "GET"}));
    assert_eq!(
        told[2]["headers"],
        json!([{"name": "version", "value": {"exact": "two"}}]),
        "the first of a name counts"
    );
    assert_eq!(
        told[2]["query"],
        json!([{"name": "Animal", "value": {"exact": "whale"}}])
    );
    assert_eq!(
        told[3]["headers"],
        json!([{"name": "x", "value": {"regex": "a.*"}}])
    );
}

#[test]
fn rules_that_cannot_be_used_are_dropped_and_told() {
    let mut world = world();
    let bad = json!({"matches": [{"path": {"type": "RegularExpression", "value": "("}}]});
    let good = json!({"backendRefs": [{"name": "s", "port": 80}]});
    world.set(
        "HTTPRoute",
        "infra/r",
        http(json!([{"name": "g"}]), json!([bad.clone(), good])),
    );
    assert_eq!(
        accepted(&world, ObjectKind::HttpRoute, "infra/r"),
        "True Accepted"
    );
    let conditions = &world.parents(ObjectKind::HttpRoute, "infra/r")[0].conditions;
    assert_eq!(
        told(conditions, "PartiallyInvalid"),
        "True UnsupportedValue"
    );
    assert_eq!(
        rules(&world, "HTTPRoute/infra/r").as_array().unwrap().len(),
        1
    );
    world.set(
        "HTTPRoute",
        "infra/r",
        http(json!([{"name": "g"}]), json!([bad])),
    );
    assert_eq!(
        accepted(&world, ObjectKind::HttpRoute, "infra/r"),
        "False UnsupportedValue"
    );
    assert!(world.http_route("HTTPRoute/infra/r").is_none());
}

#[test]
fn filters() {
    let mut world = world();
    let second = "1s";
    let filters = json!([
        {"type": "RequestHeaderModifier", "requestHeaderModifier":
            {"set": [{"name": "X-Set", "value": "1"}], "add": [{"name": "X-Add", "value": "2"}], "remove": ["X-Gone"]}},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["Server"]}},
        {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "s", "port": 80}, "percent": 20}},
        {"type": "RequestMirror", "requestMirror":
            {"backendRef": {"name": "s", "port": 80}, "fraction": {"numerator": 1, "denominator": 3}}},
        {"type": "URLRewrite", "urlRewrite":
            {"hostname": "h.test", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}},
        {"type": "CORS", "cors": {"allowOrigins": ["https://a.test", "https://*.b.test", "*"], "allowMethods": ["*"],
            "allowHeaders": ["X-A"], "maxAge": 60, "allowCredentials": true}},
    ]);
    let backend = json!([{"name": "s", "port": 80, "filters": [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x"]}},
        {"type": "RequestRedirect", "requestRedirect": {"hostname": "elsewhere.test"}},
    ]}]);
    let rule = json!([{
        "filters": filters, "backendRefs": backend,
        "timeouts": {"request": "1h2m3s4ms", "backendRequest": second},
        "retry": {"codes": [503, 500], "backoff": "100ms"},
    }]);
    world.set("HTTPRoute", "infra/r", http(json!([{"name": "g"}]), rule));
    assert_eq!(resolved(&world, "infra/r"), "True ResolvedRefs");
    let rule = &rules(&world, "HTTPRoute/infra/r")[0];
    let service = json!({"service": {"service": "infra/s.infra.svc.cluster.local", "port": 80, "subset": null}});
    assert_eq!(
        rule["filters"][0],
        json!({"requestHeaders":
        {"set": [["x-set", "1"]], "add": [["x-add", "2"]], "remove": ["x-gone"]}})
    );
    assert_eq!(
        rule["filters"][1],
        json!({"responseHeaders": {"set": [], "add": [], "remove": ["server"]}})
    );
    let mirror = |n: u32, d: u32| json!({"mirror": {"target": service.clone(), "fraction": {"numerator": n, "denominator": d}}});
    assert_eq!(
        rule["filters"][2],
        mirror(20, 100),
        "HTTPRouteRequestPercentageMirror"
    );
    assert_eq!(
        rule["filters"][3],
        mirror(1, 3),
        "HTTPRouteRequestMultipleMirrors"
    );
    assert_eq!(
        rule["filters"][4],
        json!({"rewrite": {"host": "h.test", "path": {"prefix": "/x"}}})
    );
    let cors = &rule["filters"][5]["cors"];
    assert_eq!(
        cors["origins"],
        json!([
            {"exact": "https://a.test"}, {"regex": "https://[^/]+\\.b\\.test"}, {"regex": ".*"},
        ])
    );
    assert_eq!(
        (&cors["credentials"], &cors["maxAge"]["secs"]),
        (&json!(true), &json!(60))
    );
    let of_backend = &rule["action"]["forward"][0]["filters"];
    assert_eq!(
        of_backend[1]["redirect"]["host"], "elsewhere.test",
        "HTTPRouteBackendRequestRedirect"
    );
    assert_eq!(
        rule["timeouts"]["request"],
        json!({"secs": 3723, "nanos": 4_000_000})
    );
    assert_eq!(rule["timeouts"]["backend"], json!({"secs": 1, "nanos": 0}));
    assert_eq!(rule["retry"]["attempts"], 2, "the default");
    assert_eq!(rule["retry"]["on"]["statuses"], json!([503, 500]));
}

#[test]
fn redirects_and_missing_backends() {
    let mut world = world();
    let redirect = json!({"scheme": "https", "port": 8443, "statusCode": 301,
        "path": {"type": "ReplaceFullPath", "replaceFullPath": "/full"}});
    let rule = json!([
        {"filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]},
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": "example.org"}}]},
        {},
    ]);
    world.set("HTTPRoute", "infra/r", http(json!([{"name": "g"}]), rule));
    let rules = rules(&world, "HTTPRoute/infra/r");
    let first = &rules[0]["action"]["redirect"];
    assert_eq!(
        (&first["status"], &first["scheme"], &first["port"]),
        (&json!(301), &json!("https"), &json!(8443))
    );
    assert_eq!(first["path"], json!({"full": "/full"}));
    assert_eq!(
        rules[1]["action"]["redirect"]["status"], 302,
        "HTTPRouteRedirectHostAndStatus"
    );
    assert_eq!(
        rules[2]["action"],
        json!({"forward": []}),
        "HTTPRouteNoBackendRefs: 500"
    );
}

#[test]
fn filters_that_cannot_be_used_fail_the_requests() {
    let mut world = world();
    for (filter, reason) in [
        (
            json!({"type": "ExtensionRef", "extensionRef": {"group": "x", "kind": "X", "name": "x"}}),
            "False InvalidKind",
        ),
        (json!({"type": "ExternalAuth"}), "False UnsupportedValue"),
    ] {
        let rule = json!([{"filters": [filter], "backendRefs": [{"name": "s", "port": 80}]}]);
        world.set("HTTPRoute", "infra/r", http(json!([{"name": "g"}]), rule));
        assert_eq!(resolved(&world, "infra/r"), reason);
        assert!(rules(&world, "HTTPRoute/infra/r")[0]["filters"][0]["invalid"].is_string());
    }
    // A mirror to nowhere disturbs nobody.
    let mirror = json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "nothing", "port": 80}}});
    let rule = json!([{"filters": [mirror], "backendRefs": [{"name": "s", "port": 80}]}]);
    world.set("HTTPRoute", "infra/r", http(json!([{"name": "g"}]), rule));
    assert_eq!(resolved(&world, "infra/r"), "False BackendNotFound");
    assert_eq!(rules(&world, "HTTPRoute/infra/r")[0]["filters"], json!([]));
}

#[test]
fn grpc_routes() {
    let mut world = world();
    let matches = json!([
        {"method": {"service": "a.B", "method": "C"}},
        {"method": {"service": "a.B"}},
        {"method": {"method": "C"}},
        {"method": {"type": "RegularExpression", "service": "a\\.[BC]", "method": "D.*"}},
        {"headers": [{"name": "Version", "value": "two"}]},
    ]);
    let rule =
        json!([{"matches": matches, "backendRefs": [{"name": "s", "port": 80, "weight": 0}]}]);
    world.set(
        "GRPCRoute",
        "infra/r",
        http(json!([{"name": "g", "sectionName": "http"}]), rule),
    );
    assert_eq!(
        accepted(&world, ObjectKind::GrpcRoute, "infra/r"),
        "True Accepted"
    );
    let told = &rules(&world, "GRPCRoute/infra/r")[0]["matches"];
    assert_eq!(
        told[0]["path"],
        json!({"exact": "/a.B/C"}),
        "GRPCExactMethodMatching"
    );
    assert_eq!(told[1]["path"], json!({"prefix": "/a.B"}));
    assert_eq!(told[2]["path"], json!({"regex": "/[^/]+/C"}));
    assert_eq!(told[3]["path"], json!({"regex": "/(?:a\\.[BC])/(?:D.*)"}));
    assert_eq!(told[4]["path"], Value::Null);
    assert_eq!(
        told[4]["headers"][0]["name"], "version",
        "GRPCRouteHeaderMatching"
    );
}

#[test]
fn stream_routes() {
    let mut world = world();
    let mut tls = http(
        json!([{"name": "g"}]),
        to(json!([{"name": "s", "port": 80}])),
    );
    tls["spec"]["hostnames"] = json!(["a.tls.test"]);
    world.set("TLSRoute", "infra/t", tls.clone());
    let (audience, route) = world.stream_route("TLSRoute/infra/t").unwrap();
    assert_eq!(*audience, only(&["infra/g"]));
    assert_eq!(
        serde_json::to_value(&route.rules[0].matches).unwrap()[0]["sni"],
        json!(["a.tls.test"])
    );
    let json = serde_json::to_value(&route.parents).unwrap();
    assert_eq!(
        json,
        json!([{"listener": {"gateway": "infra/g", "listener": "tls", "hostnames": ["a.tls.test"]}}])
    );
    tls["spec"]["hostnames"] = json!(["other.test"]);
    world.set("TLSRoute", "infra/t", tls.clone());
    let expected = "False NoMatchingListenerHostname";
    assert_eq!(
        accepted(&world, ObjectKind::TlsRoute, "infra/t"),
        expected,
        "TLSRouteInvalidNoMatchingListenerHostname"
    );
    tls["spec"]["parentRefs"][0]["sectionName"] = json!("http");
    world.set("TLSRoute", "infra/t", tls);
    assert_eq!(
        accepted(&world, ObjectKind::TlsRoute, "infra/t"),
        "False NotAllowedByListeners"
    );
    let tcp = http(
        json!([{"name": "g"}]),
        to(json!([{"name": "s", "port": 80, "weight": 2}, {"name": "x", "port": 1}])),
    );
    world.set("TCPRoute", "infra/c", tcp);
    let (_, route) = world.stream_route("TCPRoute/infra/c").unwrap();
    let weights: Vec<u32> = route.rules[0]
        .backends
        .iter()
        .map(|backend| backend.weight)
        .collect();
    assert_eq!(weights, [2, 1]);
    assert!(matches!(
        route.rules[0].backends[1].target,
        BackendTarget::Unroutable(_)
    ));
}

/// A waypoint for namespace `web`.
fn with_waypoint(world: &mut World) {
    world.set(
        "Namespace",
        "web",
        json!({"metadata": {"labels": {"istio.io/use-waypoint": "w"}}}),
    );
    world.set(
        "Gateway",
        "web/w",
        json!({"spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        }}),
    );
    world.deployed("web/w", "web/w", &[15008]);
}

#[test]
fn mesh_routes_go_to_the_waypoint_of_their_service_only() {
    let mut world = world();
    let parent = json!({"group": "", "kind": "Service", "name": "s", "port": 80});
    world.set("HTTPRoute", "web/r", simple(parent));
    let waypoints = |world: &World| {
        told(
            &world.parents(ObjectKind::HttpRoute, "web/r")[0].conditions,
            "ResolvedWaypoints",
        )
    };
    assert_eq!(
        accepted(&world, ObjectKind::HttpRoute, "web/r"),
        "True Accepted"
    );
    assert_eq!(waypoints(&world), "False MissingUseWaypointLabel");
    assert!(
        world.http_route("HTTPRoute/web/r").is_none(),
        "nobody would use it"
    );
    with_waypoint(&mut world);
    assert_eq!(waypoints(&world), "True ResolvedWaypoints");
    let (audience, route) = world.http_route("HTTPRoute/web/r").unwrap();
    assert_eq!(*audience, only(&["web/w"]));
    let json = serde_json::to_value(&route.parents).unwrap();
    assert_eq!(
        json,
        json!([{"service": {"service": "web/s.web.svc.cluster.local", "port": 80}}]),
        "MeshPorts"
    );
    for (parent, expected) in [
        (
            json!({"group": "", "kind": "Service", "name": "nothing"}),
            "False NoMatchingParent",
        ),
        (
            json!({"group": "", "kind": "Service", "name": "s", "port": 99}),
            "False NoMatchingParent",
        ),
    ] {
        world.set("HTTPRoute", "web/r", simple(parent));
        assert_eq!(accepted(&world, ObjectKind::HttpRoute, "web/r"), expected);
    }
    let entry = json!({"spec": {"hosts": ["ext.test"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}});
    world.set("ServiceEntry", "web/se", entry);
    world.set(
        "HTTPRoute",
        "web/r",
        simple(json!({"group": "networking.istio.io", "kind": "ServiceEntry", "name": "se"})),
    );
    let (_, route) = world.http_route("HTTPRoute/web/r").unwrap();
    assert_eq!(
        serde_json::to_value(&route.parents).unwrap()[0]["service"]["service"],
        "web/ext.test"
    );
}

#[test]
fn mesh_consumer_route() {
    let mut world = world();
    with_waypoint(&mut world);
    let parent = json!({"group": "", "kind": "Service", "name": "s", "namespace": "web"});
    world.set("HTTPRoute", "infra/r", simple(parent.clone()));
    let (audience, route) = world.http_route("HTTPRoute/infra/r").unwrap();
    assert_eq!(*audience, only(&["web/w"]));
    assert_eq!(
        route.rules[0].matches[0].source_namespace.as_deref(),
        Some("infra")
    );
    // To the service itself, without a grant: whom the route is about, its clients have addressed already. To others only with one.
    for (name, expected) in [
        ("s", "True ResolvedRefs"),
        ("other", "False RefNotPermitted"),
    ] {
        let backend = json!([{"name": name, "namespace": "web", "port": 80}]);
        world.set("HTTPRoute", "infra/r", http(json!([parent]), to(backend)));
        assert_eq!(resolved(&world, "infra/r"), expected);
    }
    // One set of rules cannot be for some clients at one parent and for all at another.
    let both = http(
        json!([parent, {"name": "g", "sectionName": "http"}]),
        to(json!([{"name": "s", "port": 80}])),
    );
    world.set("HTTPRoute", "infra/r", both);
    assert_eq!(
        accepted(&world, ObjectKind::HttpRoute, "infra/r"),
        "False UnsupportedValue"
    );
    let (audience, route) = world.http_route("HTTPRoute/infra/r").unwrap();
    assert_eq!(*audience, only(&["infra/g"]));
    assert!(route.rules[0].matches.is_empty());
}

#[test]
fn backend_tls_policies() {
    use super::gateway_objects::CERTIFICATE;
    let mut world = world();
    world.set(
        "HTTPRoute",
        "infra/r",
        simple(json!({"name": "g", "sectionName": "http"})),
    );
    let policy = |created: &str, section: Value, validation: Value| {
        let target = json!({"group": "", "kind": "Service", "name": "s", "sectionName": section});
        let mut validation = validation;
        validation["hostname"] = json!("abc.example.com");
        json!({
            "metadata": {"creationTimestamp": created, "generation": 1},
            "spec": {"targetRefs": [target], "validation": validation},
        })
    };
    let roots =
        || json!({"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "roots"}]});
    let of = |world: &World, name: &str| match world.status(ObjectKind::BackendTlsPolicy, name) {
        Some(crate::Status::Policy(status)) => {
            let ancestor = &status.ancestors[0];
            assert_eq!(
                (
                    ancestor.ancestor.kind.as_deref(),
                    ancestor.ancestor.name.as_str()
                ),
                (Some("Gateway"), "g")
            );
            let all = &ancestor.conditions;
            (told(all, "Accepted"), told(all, "ResolvedRefs"))
        }
        other => panic!("{other:?}"),
    };
    let destination = |world: &World| {
        let found = world
            .resources
            .iter()
            .find(|(key, _)| key.type_url.ends_with("DestinationPolicy"));
        found.map(|(_, (audience, resource))| {
            (audience.clone(), serde_json::to_value(resource).unwrap())
        })
    };
    let pair = |accepted: &str, resolved: &str| (accepted.to_owned(), resolved.to_owned());
    world.set(
        "BackendTLSPolicy",
        "infra/t",
        policy("2026-01-02T00:00:00Z", json!("p80"), roots()),
    );
    let invalid = pair(
        "False NoValidCACertificate",
        "False InvalidCACertificateRef",
    );
    assert_eq!(
        of(&world, "infra/t"),
        invalid,
        "BackendTLSPolicyInvalidCACertificateRef"
    );
    let (audience, json) = destination(&world).unwrap();
    assert_eq!(audience, only(&["infra/g"]));
    assert_eq!(
        json["ports"][0]["policy"]["tls"]["roots"], "",
        "nothing is trusted, so nothing is sent in clear"
    );
    world.set(
        "ConfigMap",
        "infra/roots",
        json!({"data": {"ca.crt": CERTIFICATE}}),
    );
    assert_eq!(
        of(&world, "infra/t"),
        pair("True Accepted", "True ResolvedRefs"),
        "BackendTLSPolicy"
    );
    let (_, json) = destination(&world).unwrap();
    assert_eq!(json["ports"][0]["port"], 80);
    assert_eq!(json["ports"][0]["policy"]["tls"]["sni"], "abc.example.com");
    assert_eq!(json["ports"][0]["policy"]["tls"]["verify"], "sni");
    let kind = json!({"caCertificateRefs": [{"group": "", "kind": "Elsewhere", "name": "roots"}]});
    world.set(
        "BackendTLSPolicy",
        "infra/t",
        policy("2026-01-02T00:00:00Z", json!("p80"), kind),
    );
    let invalid = pair("False NoValidCACertificate", "False InvalidKind");
    assert_eq!(
        of(&world, "infra/t"),
        invalid,
        "BackendTLSPolicyInvalidKind"
    );
    // BackendTLSPolicyConflictResolution: the older one for the same section; a section of its own is no conflict.
    let names = json!({"wellKnownCACertificates": "System", "subjectAltNames": [
        {"type": "Hostname", "hostname": "x.test"}, {"type": "URI", "uri": "spiffe://x/y"},
    ]});
    world.set(
        "BackendTLSPolicy",
        "infra/older",
        policy("2026-01-01T00:00:00Z", json!("p80"), names.clone()),
    );
    assert_eq!(of(&world, "infra/t").0, "False Conflicted");
    assert_eq!(of(&world, "infra/older").0, "True Accepted");
    let (_, json) = destination(&world).unwrap();
    let verify = &json["ports"][0]["policy"]["tls"]["verify"];
    assert_eq!(
        *verify,
        json!({"anyOf": ["x.test", "spiffe://x/y"]}),
        "BackendTLSPolicySANValidation"
    );
    world.set(
        "BackendTLSPolicy",
        "infra/older",
        policy("2026-01-01T00:00:00Z", json!(null), names),
    );
    assert_eq!(of(&world, "infra/t").0, "False NoValidCACertificate");
    world.delete("BackendTLSPolicy", "infra/t");
    world.delete("BackendTLSPolicy", "infra/older");
    assert!(destination(&world).is_none());
}
