//! ListenerSets: who may attach, what conflicts, and their routes. Named after the cases of the Gateway API's conformance suite.

use serde_json::{Value, json};

use super::gateway::{gateway, route};
use super::world::{World, object, only, told};
use crate::{ObjectKind, Status};

#[test]
fn listener_sets() {
    let mut world = World::new();
    for namespace in ["infra", "web"] {
        world.set(
            "Namespace",
            namespace,
            json!({"metadata": {"labels": {"kubernetes.io/metadata.name": namespace}}}),
        );
        world.service(&format!("{namespace}/s"), &[80]);
    }
    let parent = |from: Value| {
        let mut object = gateway(
            json!([{"name": "http", "port": 80, "protocol": "HTTP", "hostname": "g.test"}]),
        );
        object["spec"]["allowedListeners"] = from;
        object
    };
    let set = |created: &str, listeners: Value| {
        json!({
            "metadata": {"creationTimestamp": created},
            "spec": {"parentRef": {"name": "g", "namespace": "infra"}, "listeners": listeners},
        })
    };
    let accepted = |world: &World, name: &str| match world
        .statuses
        .get(&object(ObjectKind::ListenerSet, name))
    {
        Some(Status::ListenerSet(status)) => told(&status.conditions, "Accepted"),
        other => panic!("{other:?}"),
    };
    let entry = |hostname: &str| json!([{"name": "http", "port": 80, "protocol": "HTTP", "hostname": hostname}]);
    let old = set("2026-01-01T00:00:00Z", entry("web.test"));
    world.set("ListenerSet", "web/ls", old.clone());
    for (from, expected, count) in [
        (json!(null), "False NotAllowed", 0), // ListenerSetDefaultNotAllowed
        (
            json!({"namespaces": {"from": "None"}}),
            "False NotAllowed",
            0,
        ),
        (
            json!({"namespaces": {"from": "Same"}}),
            "False NotAllowed",
            0,
        ),
        (
            json!({"namespaces": {"from": "Selector", "selector": {"matchLabels":
            {"kubernetes.io/metadata.name": "infra"}}}}),
            "False NotAllowed",
            0,
        ),
        (
            json!({"namespaces": {"from": "Selector", "selector": {"matchExpressions":
            [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["web"]}]}}}),
            "True Accepted",
            1,
        ),
        (json!({"namespaces": {"from": "All"}}), "True Accepted", 1),
    ] {
        world.set("Gateway", "infra/g", parent(from.clone()));
        assert_eq!(accepted(&world, "web/ls"), expected, "{from}");
        assert_eq!(
            world.gateway_status("infra/g").attached_listener_sets,
            count,
            "{from}"
        );
        assert_eq!(
            world.gateway("infra/g").unwrap().listeners.len(),
            1 + count as usize,
            "{from}"
        );
    }
    assert_eq!(
        &*world.gateway("infra/g").unwrap().listeners[1].name,
        "web/ls/http"
    );
    // ListenerSetHostnameConflict: the older one wins, and the Gateway before both.
    world.set(
        "ListenerSet",
        "web/newer",
        set("2026-01-02T00:00:00Z", entry("web.test")),
    );
    world.set(
        "ListenerSet",
        "web/rival",
        set("2025-01-02T00:00:00Z", entry("g.test")),
    );
    assert_eq!(accepted(&world, "web/ls"), "True Accepted");
    assert_eq!(
        world.gateway_status("infra/g").attached_listener_sets,
        1,
        "those that are accepted"
    );
    for loser in ["web/newer", "web/rival"] {
        assert_eq!(
            accepted(&world, loser),
            "False ListenersNotValid",
            "{loser}"
        );
        let Some(Status::ListenerSet(status)) = world.status(ObjectKind::ListenerSet, loser) else {
            panic!()
        };
        let all = &status.listeners[0].conditions;
        assert_eq!(told(all, "Conflicted"), "True HostnameConflict");
        assert_eq!(told(all, "Accepted"), "False HostnameConflict");
    }
    world.delete("ListenerSet", "web/ls");
    assert_eq!(accepted(&world, "web/newer"), "True Accepted");
    // ListenerSetProtocolConflict
    let tcp = json!([{"name": "tcp", "port": 80, "protocol": "TCP"}]);
    world.set("ListenerSet", "web/rival", set("2027-01-02T00:00:00Z", tcp));
    let Some(Status::ListenerSet(status)) = world.status(ObjectKind::ListenerSet, "web/rival")
    else {
        panic!()
    };
    assert_eq!(
        told(&status.listeners[0].conditions, "Conflicted"),
        "True ProtocolConflict"
    );
}

#[test]
fn routes_of_listener_sets() {
    let mut world = World::new();
    for namespace in ["infra", "web"] {
        world.set("Namespace", namespace, json!({}));
        world.service(&format!("{namespace}/s"), &[80]);
    }
    let mut parent = gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
    parent["spec"]["allowedListeners"] = json!({"namespaces": {"from": "All"}});
    world.set("Gateway", "infra/g", parent);
    world.set(
        "ListenerSet",
        "web/ls",
        json!({
            "spec": {
                "parentRef": {"name": "g", "namespace": "infra"},
                "listeners": [{"name": "extra", "port": 81, "protocol": "HTTP"}],
            },
        }),
    );
    world.set(
        "HTTPRoute",
        "web/set",
        route(json!({"kind": "ListenerSet", "name": "ls"})),
    );
    world.set("HTTPRoute", "infra/own", route(json!({"name": "g"})));
    let wrong = json!({"name": "g", "namespace": "infra", "sectionName": "extra"});
    world.set("HTTPRoute", "web/wrong", route(wrong));
    let accepted = |name: &str| {
        told(
            &world.parents(ObjectKind::HttpRoute, name)[0].conditions,
            "Accepted",
        )
    };
    assert_eq!(accepted("web/set"), "True Accepted");
    assert_eq!(accepted("infra/own"), "True Accepted");
    assert_eq!(
        accepted("web/wrong"),
        "False NoMatchingParent",
        "ListenerSetGatewayParentSectionNameNotFound"
    );
    assert_eq!(
        world.listener("infra/g", "http").attached_routes,
        1,
        "only those that name the Gateway"
    );
    let Some(Status::ListenerSet(status)) = world.status(ObjectKind::ListenerSet, "web/ls") else {
        panic!()
    };
    assert_eq!(status.listeners[0].attached_routes, 1);
    let (audience, route) = world.http_route("HTTPRoute/web/set").unwrap();
    assert_eq!(*audience, only(&["infra/g"]));
    let json = serde_json::to_value(&route.parents).unwrap();
    assert_eq!(
        json,
        json!([{"listener": {"gateway": "infra/g", "listener": "web/ls/extra", "hostnames": []}}])
    );
}
