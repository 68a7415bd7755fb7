use tulle_translate::{
    GatewayClassStatus, GatewayStatus, ParentStatus, PolicyStatus, RouteStatus, StatusAddress,
};

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000_000).unwrap()
}

fn later() -> Timestamp {
    Timestamp::from_second(1_100_000_000).unwrap()
}

fn condition(kind: &'static str, status: bool) -> Condition {
    Condition {
        kind,
        status,
        reason: "Because",
        message: "so".to_owned(),
        observed_generation: Some(3),
    }
}

fn reference(name: &str) -> ParentReference {
    ParentReference {
        name: name.to_owned(),
        ..ParentReference::default()
    }
}

fn route(parents: &[(&str, bool)]) -> Status {
    let parents = parents.iter().map(|(name, status)| ParentStatus {
        parent: reference(name),
        controller: CONTROLLER_GATEWAY,
        conditions: vec![condition("Accepted", *status)],
    });
    Status::Route(RouteStatus {
        parents: parents.collect(),
    })
}

#[test]
fn other_controllers_entries_stay_as_they_are() {
    let foreign = json!({
        "parentRef": { "name": "theirs" }, "controllerName": "example.com/other",
        "conditions": [{ "type": "Accepted", "status": "Unknown" }],
    });
    let shown = json!({ "parents": [foreign] });
    let ours = laid(&shown, Some(&route(&[("mine", true)])), now()).unwrap();
    assert_eq!(ours["parents"][0], foreign);
    assert_eq!(ours["parents"][1]["controllerName"], CONTROLLER_GATEWAY);
    assert_eq!(ours["parents"][1]["parentRef"]["name"], "mine");
    assert_eq!(laid(&ours, Some(&route(&[("mine", true)])), later()), None);
    // Taken off again: theirs is left.
    assert_eq!(laid(&ours, None, later()), Some(shown));
}

#[test]
fn the_same_parent_written_shorter_is_the_same() {
    let first = laid(&Value::Null, Some(&route(&[("mine", true)])), now()).unwrap();
    let reference = &first["parents"][0]["parentRef"];
    assert_eq!(reference["kind"], "Gateway");
    assert_eq!(reference["group"], "gateway.networking.k8s.io");
    assert!(reference.get("sectionName").is_none(), "{reference}");
}

#[test]
fn only_a_transition_has_a_new_time() {
    let first = laid(
        &Value::Null,
        Some(&route(&[("a", true), ("b", true)])),
        now(),
    )
    .unwrap();
    let second = laid(&first, Some(&route(&[("a", true), ("b", false)])), later()).unwrap();
    let time = |status: &Value, at: usize| {
        status["parents"][at]["conditions"][0]["lastTransitionTime"].clone()
    };
    assert_eq!(time(&second, 0), time(&first, 0));
    assert_ne!(time(&second, 1), time(&first, 1));
}

fn gateway(addresses: &[&str]) -> Status {
    let addresses = addresses.iter().map(|value| StatusAddress {
        kind: "IPAddress",
        value: (*value).into(),
    });
    Status::Gateway(GatewayStatus {
        addresses: addresses.collect(),
        conditions: vec![condition("Programmed", true)],
        listeners: vec![ListenerStatus {
            name: "http".into(),
            supported_kinds: vec![("gateway.networking.k8s.io", "HTTPRoute")],
            attached_routes: 2,
            conditions: vec![condition("Accepted", true)],
        }],
        attached_listener_sets: 0,
    })
}

#[test]
fn a_gateway_shows_addresses_and_listeners() {
    // What the API server puts there at creation goes.
    let shown = json!({ "conditions": [
        { "type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller" },
        { "type": "example.com/Checked", "status": "True" },
    ] });
    let status = laid(&shown, Some(&gateway(&["10.0.0.1"])), now()).unwrap();
    let address = json!([{ "type": "IPAddress", "value": "10.0.0.1" }]);
    assert_eq!(status["addresses"], address);
    assert_eq!(status["listeners"][0]["attachedRoutes"], 2);
    let kinds: Vec<&str> = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| condition["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["Programmed", "example.com/Checked"]);
    assert_eq!(laid(&status, Some(&gateway(&["10.0.0.1"])), later()), None);
    // An address that is gone is taken off.
    let status = laid(&status, Some(&gateway(&[])), later()).unwrap();
    assert_eq!(status["addresses"], json!([]));
}

#[test]
fn a_class_says_what_it_can_do_and_a_policy_where_it_counts() {
    let class = Status::GatewayClass(GatewayClassStatus {
        conditions: vec![condition("Accepted", true)],
        supported_features: vec!["Gateway", "HTTPRoute"],
    });
    let status = laid(&Value::Null, Some(&class), now()).unwrap();
    let features = json!([{ "name": "Gateway" }, { "name": "HTTPRoute" }]);
    assert_eq!(status["supportedFeatures"], features);
    let none = Status::Policy(PolicyStatus { ancestors: vec![] });
    assert_eq!(laid(&Value::Null, Some(&none), now()), None);
}
