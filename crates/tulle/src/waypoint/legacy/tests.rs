use serde_json::json;

use super::*;

fn gateway(class: &str, annotations: serde_json::Value) -> DynamicObject {
    serde_json::from_value(json!({
        "metadata": { "name": "old", "namespace": "shop", "annotations": annotations },
        "spec": { "gatewayClassName": class },
    }))
    .unwrap()
}

#[test]
fn old_forms_are_shown_in_their_modern_form() {
    let mesh = hints(&gateway("istio-mesh", json!({})));
    assert_eq!(mesh.len(), 1);
    assert!(
        mesh[0].contains("gatewayClassName: istio-waypoint"),
        "{}",
        mesh[0]
    );
    assert!(mesh[0].contains("istio.io/use-waypoint=old"), "{}", mesh[0]);
    for annotation in FOR_ACCOUNT {
        let hints = hints(&gateway(
            "istio-waypoint",
            json!({ annotation: "bookinfo-reviews" }),
        ));
        assert_eq!(hints.len(), 1);
        assert!(hints[0].contains("bookinfo-reviews") && hints[0].contains("targetRefs"));
    }
    assert!(hints(&gateway("istio-waypoint", json!({}))).is_empty());
    assert!(hints(&gateway("istio", json!({}))).is_empty());
}

#[test]
fn the_flag_of_old_releases_is_explained() {
    assert!(refuse(&LegacyArguments::default()).is_ok());
    let old = LegacyArguments {
        service_account: Some("reviews".to_owned()),
    };
    let text = refuse(&old).unwrap_err().to_string();
    assert!(
        text.contains("tulle waypoint apply --name reviews-waypoint --for workload"),
        "{text}"
    );
}
