use serde_json::json;

use super::*;

fn gateway(namespace: &str, labels: serde_json::Value, status: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "metadata": { "name": "waypoint", "namespace": namespace, "labels": labels },
        "status": { "conditions": [{ "type": "Programmed", "status": status }] },
    }))
    .unwrap()
}

#[test]
fn columns_are_istioctls() {
    let rows = [
        row(&gateway("default", json!({}), "True")),
        row(&gateway(
            "shop",
            json!({ "istio.io/rev": "v1", "istio.io/waypoint-for": "all" }),
            "Unknown",
        )),
    ];
    let expected = "\
NAMESPACE NAME     REVISION TRAFFIC TYPE PROGRAMMED
default   waypoint default  none         True
shop      waypoint v1       all          Unknown
";
    assert_eq!(text(&rows, true), expected);
    assert!(text(&rows, false).starts_with("NAME     REVISION"));
    assert_eq!(text(&[], true), "No waypoints found.\n");
    let json = serde_json::to_value(&rows[0]).unwrap();
    assert_eq!(json["trafficType"], "none");
}
