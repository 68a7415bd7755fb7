use serde_json::json;
use tulle_cluster::{Change, Key};

use super::Wanted;

fn namespace(name: &str, phase: &str) -> Change<super::Namespace> {
    let object = json!({ "metadata": { "name": name }, "status": { "phase": phase } });
    Change::Upsert(serde_json::from_value(object).unwrap())
}

fn map(namespace: &str, root: &str) -> Change<super::ConfigMap> {
    let object = json!({
        "metadata": { "name": "istio-ca-root-cert", "namespace": namespace },
        "data": { "root-cert.pem": root },
    });
    Change::Upsert(serde_json::from_value(object).unwrap())
}

fn due(wanted: &Wanted) -> Vec<&str> {
    let mut due: Vec<&str> = wanted.due.iter().map(|name| &**name).collect();
    due.sort_unstable();
    due
}

fn started() -> Wanted {
    let mut wanted = Wanted::new("ROOT".into());
    for name in ["default", "kube-system", "istio-system"] {
        wanted.namespace(namespace(name, "Active"));
    }
    assert!(!wanted.has_work(), "nothing is known of what is there");
    wanted.namespace(Change::Synced);
    wanted.config_map(map("default", "ROOT"));
    wanted.config_map(Change::Synced);
    wanted
}

#[test]
fn only_what_is_missing_is_written_and_kubernetes_own_namespaces_are_left_alone() {
    let mut wanted = started();
    assert!(wanted.has_work());
    assert_eq!(due(&wanted), ["istio-system"]);
    wanted.written(&"istio-system".into());
    assert!(!wanted.has_work());
}

#[test]
fn what_is_changed_or_deleted_is_repaired() {
    let mut wanted = started();
    wanted.written(&"istio-system".into());
    wanted.config_map(map("istio-system", "ROOT"));
    wanted.config_map(map("default", "forged"));
    assert_eq!(due(&wanted), ["default"]);
    wanted.config_map(map("default", "ROOT"));
    assert!(due(&wanted).is_empty());
    wanted.config_map(Change::Remove(Key::new("default", "istio-ca-root-cert")));
    assert_eq!(due(&wanted), ["default"]);
}

#[test]
fn new_namespaces_get_it_and_ending_ones_do_not() {
    let mut wanted = started();
    wanted.written(&"istio-system".into());
    wanted.namespace(namespace("new", "Active"));
    assert_eq!(due(&wanted), ["new"]);
    wanted.namespace(namespace("new", "Terminating"));
    wanted.config_map(Change::Remove(Key::new("new", "istio-ca-root-cert")));
    assert!(due(&wanted).is_empty());
}

#[test]
fn a_new_root_goes_everywhere() {
    let mut wanted = started();
    wanted.root("OTHER".into());
    assert_eq!(due(&wanted), ["default", "istio-system"]);
}
