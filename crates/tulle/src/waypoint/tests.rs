use serde_json::json;

use super::*;

#[test]
fn a_waypoint_is_a_gateway_with_one_hbone_listener() {
    let wanted = Wanted::new("", Some("shop"), Some(TrafficType::All), Some("v1")).unwrap();
    let expected = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {
            "name": "waypoint", "namespace": "shop",
            "labels": { "istio.io/waypoint-for": "all", "istio.io/rev": "v1" },
        },
        "spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }],
        },
    });
    assert_eq!(wanted.gateway(), expected);
    // What is not given is left to the control plane.
    let plain = Wanted::new("w", None, None, Some("")).unwrap().gateway();
    assert_eq!(plain["metadata"], json!({ "name": "w" }));
}

#[test]
fn none_is_no_name() {
    let refused = Wanted::new("none", None, None, None).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "invalid name provided for waypoint, 'none' is a reserved value"
    );
}

#[test]
fn programmed_is_what_the_condition_says() {
    let gateway = |status: &str| -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": { "name": "w" },
            "spec": { "gatewayClassName": "istio-waypoint" },
            "status": { "conditions": [
                { "type": "Accepted", "status": "True" }, { "type": "Programmed", "status": status },
            ] },
        }))
        .unwrap()
    };
    assert!(is_programmed(&gateway("True")));
    assert!(!is_programmed(&gateway("False")));
    assert!(is_waypoint(&gateway("True")));
    let bare: DynamicObject =
        serde_json::from_value(json!({ "metadata": { "name": "w" } })).unwrap();
    assert!(!is_programmed(&bare) && !is_waypoint(&bare));
}
