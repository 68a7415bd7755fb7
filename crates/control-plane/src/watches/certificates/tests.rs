use futures_util::stream;
use serde_json::json;

use super::*;

fn secret(name: &str, keys: &[&str]) -> Secret {
    let data: serde_json::Map<_, _> = keys
        .iter()
        .map(|key| ((*key).to_owned(), json!("YQ==")))
        .collect();
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "ns", "annotations": { "large": "text" } },
        "data": data,
    }))
    .unwrap()
}

#[tokio::test]
async fn only_what_holds_certificates_goes_on_and_what_ceases_to_is_removed() {
    let changes = stream::iter(vec![
        Change::Upsert(secret("password", &["password"])),
        Change::Upsert(secret("tls", &["tls.crt", "tls.key", "password"])),
        Change::Synced,
        Change::Upsert(secret("tls", &["password"])),
        Change::Remove(Key::new("ns", "tls")),
        Change::Remove(Key::new("ns", "password")),
    ]);
    let kept = kept(changes, |secret: Secret| {
        let keys = secret.data.as_ref().unwrap();
        keys.keys()
            .any(|key| is_key(key))
            .then(|| strip_secret(secret))
    });
    let told: Vec<String> = kept
        .map(|change| match change {
            Change::Upsert(secret) => {
                assert!(secret.metadata.annotations.is_none());
                let keys: Vec<String> = secret.data.unwrap().into_keys().collect();
                format!("{} {}", secret.metadata.name.unwrap(), keys.join(","))
            }
            Change::Remove(key) => format!("-{key}"),
            Change::Synced => "synced".to_owned(),
        })
        .collect()
        .await;
    assert_eq!(told, ["tls tls.crt,tls.key", "synced", "-ns/tls"]);
}

#[test]
fn a_map_keeps_certificates_and_class_defaults_keep_everything() {
    let map = |labels: serde_json::Value| -> ConfigMap {
        serde_json::from_value(json!({
            "metadata": { "name": "m", "labels": labels },
            "data": { "ca.crt": "a", "deployment": "b" },
        }))
        .unwrap()
    };
    let keys = |map: ConfigMap| -> Vec<String> { map.data.unwrap().into_keys().collect() };
    assert_eq!(keys(strip_map(map(json!({})))), ["ca.crt"]);
    let defaults = json!({ (LABEL_GATEWAY_CLASS_DEFAULTS): "istio" });
    assert_eq!(keys(strip_map(map(defaults))), ["ca.crt", "deployment"]);
}
