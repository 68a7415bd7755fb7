use proptest::prelude::*;
use serde_json::json;

use super::*;

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "w", "namespace": "ns", "labels": { "a": "1" } },
        "spec": { "template": { "spec": { "containers": [{
            "name": "istio-proxy", "args": ["run", "waypoint"],
            "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
            "ports": [{ "containerPort": 15021, "name": "status-port" }],
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
        }] } } },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "w" },
        "spec": { "type": "ClusterIP", "ports": [{ "name": "mesh", "port": 15008 }] },
    })
}

fn optional(kind: &str) -> Value {
    json!({ "kind": kind, "metadata": { "name": "w" }, "spec": { "maxReplicas": 1 } })
}

fn overlay(key: &str, text: &str) -> BTreeMap<String, String> {
    [(key.to_owned(), text.to_owned())].into()
}

fn one(object: Value, key: &str, text: &str) -> Result<Value, OverlayError> {
    let overlay = overlay(key, text);
    apply(vec![object], &[&overlay]).map(|mut objects| objects.remove(0))
}

#[test]
fn an_overlay_reaches_one_container_and_leaves_the_rest() {
    let text = "
spec:
  replicas: 3
  template:
    spec:
      nodeSelector: { disk: ssd }
      containers:
      - name: istio-proxy
        resources: { requests: { cpu: 2 } }
        env: [{ name: B, value: '3' }, { name: C, value: x }]
      - name: extra
        image: busybox
";
    let object = one(deployment(), "deployment", text).unwrap();
    assert_eq!(object["spec"]["replicas"], 3);
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["disk"], "ssd");
    assert_eq!(pod["containers"][0]["name"], "extra");
    let proxy = &pod["containers"][1];
    assert_eq!(proxy["args"], json!(["run", "waypoint"]));
    assert_eq!(proxy["resources"]["requests"]["cpu"], 2);
    assert_eq!(proxy["resources"]["requests"]["memory"], "128Mi");
    let env = json!([
        { "name": "C", "value": "x" }, { "name": "A", "value": "1" }, { "name": "B", "value": "3" },
    ]);
    assert_eq!(proxy["env"], env);
}

#[test]
fn null_and_directives_take_away() {
    let text = "
metadata: { labels: { a: null } }
spec:
  template:
    spec:
      containers:
      - name: istio-proxy
        env: [{ name: A, $patch: delete }]
        ports: [{ $patch: replace }, { containerPort: 1 }]
        resources: { $patch: replace, limits: { cpu: 1 } }
";
    let object = one(deployment(), "deployment", text).unwrap();
    assert_eq!(object["metadata"]["labels"], json!({}));
    let proxy = &object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(proxy["env"], json!([{ "name": "B", "value": "2" }]));
    assert_eq!(proxy["ports"], json!([{ "containerPort": 1 }]));
    assert_eq!(proxy["resources"], json!({ "limits": { "cpu": 1 } }));
}

#[test]
fn ports_of_a_service_merge_by_port() {
    let text =
        "spec: { type: NodePort, ports: [{ port: 15008, nodePort: 30000 }, { port: 1, name: x }] }";
    let object = one(service(), "service", text).unwrap();
    let ports = json!([
        { "port": 1, "name": "x" }, { "name": "mesh", "port": 15008, "nodePort": 30000 },
    ]);
    assert_eq!(object["spec"]["ports"], ports);
    assert_eq!(object["spec"]["type"], "NodePort");
}

#[test]
fn scalers_and_budgets_exist_only_on_request() {
    let objects = || {
        vec![
            service(),
            optional("HorizontalPodAutoscaler"),
            optional("PodDisruptionBudget"),
        ]
    };
    let kinds = |overlays: &[&BTreeMap<String, String>]| -> Vec<String> {
        let made = apply(objects(), overlays).unwrap();
        let kinds = made.iter().map(|made| made["kind"].as_str().unwrap());
        kinds.map(str::to_owned).collect()
    };
    assert_eq!(kinds(&[]), ["Service"]);
    let scaler = overlay("horizontalPodAutoscaler", "spec: { maxReplicas: 5 }");
    assert_eq!(kinds(&[&scaler]), ["Service", "HorizontalPodAutoscaler"]);
    // Even an empty one asks for it.
    let budget = overlay("podDisruptionBudget", "");
    assert_eq!(kinds(&[&budget]), ["Service", "PodDisruptionBudget"]);
}

#[test]
fn the_later_overlay_wins() {
    let class = overlay("service", "spec: { type: NodePort, externalName: a }");
    let own = overlay("service", "spec: { type: LoadBalancer }");
    let objects = apply(vec![service()], &[&class, &own]).unwrap();
    assert_eq!(objects[0]["spec"]["type"], "LoadBalancer");
    assert_eq!(objects[0]["spec"]["externalName"], "a");
}

#[test]
fn what_ties_an_object_to_its_gateway_is_fixed() {
    let refused = one(service(), "service", "metadata: { name: other }").unwrap_err();
    let expected = OverlayError::Metadata {
        key: "service",
        field: "name",
    };
    assert_eq!(refused, expected);
    let stolen = "metadata: { ownerReferences: [{ uid: x }] }";
    assert!(one(service(), "service", stolen).is_err());
    assert!(one(service(), "service", "metadata: { labels: { b: '1' } }").is_ok());
}

#[test]
fn what_cannot_be_read_is_told() {
    let unknown = one(service(), "deployments", "{}").unwrap_err();
    assert!(unknown.to_string().contains("\"deployments\""));
    assert!(one(service(), "service", "[1]").is_err());
    assert!(one(service(), "service", "a: [").is_err());
    let deep = format!("{}1{}", "{a: ".repeat(100), "}".repeat(100));
    assert!(one(service(), "service", &deep).is_err());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let field = prop_oneof![
            Just("env".to_owned()),
            Just("ports".to_owned()),
            Just("name".to_owned()),
            Just("$patch".to_owned()),
            "[a-c]",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((field, inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// No overlay, however odd, breaks the deployer, and laying the same over twice changes nothing more.
    #[test]
    fn any_overlay_can_be_laid_twice(spec in value()) {
        let text = json!({ "spec": { "selector": spec } }).to_string();
        let overlay = overlay("service", &text);
        let once = apply(vec![service()], &[&overlay]);
        let twice = apply(vec![service()], &[&overlay, &overlay]);
        if let (Ok(once), Ok(twice)) = (once, twice) {
            prop_assert_eq!(once, twice);
        }
    }
}
