use super::*;

fn env(pairs: &[(&str, &str)]) -> NodeInfo {
    NodeInfo::from_env(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

#[test]
fn a_node_proxy_says_who_it_is() {
    let info = env(&[
        ("INSTANCE_IP", "10.0.0.7"),
        ("POD_NAME", "ztunnel-abcde"),
        ("POD_NAMESPACE", "istio-system"),
        ("NODE_NAME", "node-1"),
        ("CLUSTER_ID", "Kubernetes"),
        ("ISTIO_META_ENABLE_HBONE", "true"),
        (
            "ISTIO_METAJSON_LABELS",
            r#"{"app":"ztunnel","n":[1,null,true]}"#,
        ),
        ("ISTIO_METAJSON_BROKEN", "{"),
        ("PATH", "/bin"),
    ]);
    let node = info.to_wire();
    assert_eq!(
        node.id,
        "ztunnel~10.0.0.7~ztunnel-abcde.istio-system~istio-system.svc.cluster.local"
    );
    let text = |key| metadata_text(&node, key);
    assert_eq!(text("NAME"), Some("ztunnel-abcde"));
    assert_eq!(text("NAMESPACE"), Some("istio-system"));
    assert_eq!(text("INSTANCE_IPS"), Some("10.0.0.7"));
    assert_eq!(text("NODE_NAME"), Some("node-1"));
    assert_eq!(text("CLUSTER_ID"), Some("Kubernetes"));
    assert_eq!(text("ENABLE_HBONE"), Some("true"));
    assert_eq!(text("ISTIO_VERSION"), Some(env!("CARGO_PKG_VERSION")));
    let fields = &node.metadata.as_ref().unwrap().fields;
    assert!(!fields.contains_key("BROKEN") && !fields.contains_key("PATH"));
    let Some(Kind::StructValue(labels)) = &fields["LABELS"].kind else {
        panic!("JSON becomes a structure");
    };
    assert_eq!(
        labels.fields["app"].kind,
        Some(Kind::StringValue("ztunnel".into()))
    );
}

#[test]
fn an_empty_environment_still_makes_an_id() {
    assert_eq!(
        env(&[]).to_wire().id,
        "ztunnel~1.1.1.1~.~.svc.cluster.local"
    );
}
