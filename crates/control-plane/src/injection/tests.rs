use super::*;

fn template() -> Template {
    Template {
        image: "tulle:1".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        cluster_id: "Kubernetes".to_owned(),
        ..Template::default()
    }
}

fn plane() -> Plane {
    Plane {
        namespace: "istio-system".to_owned(),
        revision: "default".to_owned(),
        trust_domain: "cluster.local".to_owned(),
    }
}

fn pod(annotations: Value, image: &str) -> Value {
    json!({
        "metadata": {
            "generateName": "ingress-abc-", "labels": {
                "istio": "ingress", "sidecar.istio.io/inject": "true", "pod-template-hash": "abc",
            },
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "ingress-abc", "uid": "r", "controller": true,
            }],
        },
        "spec": {
            "serviceAccountName": "gateways",
            "containers": [{
                "name": "istio-proxy", "image": image, "imagePullPolicy": "Always", "resources": {},
                "env": [{ "name": "RUST_LOG", "value": "trace" }],
                "ports": [{ "containerPort": 8443 }],
            }],
            "volumes": [{ "name": "kube-api-access" }],
        },
    })
}

fn ask(object: &Value) -> Value {
    let request = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": { "uid": "u1", "namespace": "edge", "object": object },
    });
    let answer = review(request.to_string().as_bytes(), &template(), &plane()).unwrap();
    assert_eq!(answer["response"]["uid"], "u1");
    assert_eq!(answer["response"]["allowed"], true);
    answer["response"].clone()
}

/// The object after the answer's patch.
fn patched(object: &Value) -> Value {
    let answer = ask(object);
    assert_eq!(answer["patchType"], "JSONPatch");
    let ByteString(patch) = serde_json::from_value(answer["patch"].clone()).unwrap();
    let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
    let mut object = object.clone();
    for step in patch {
        let path = step["path"].as_str().unwrap();
        let (parent, field) = path.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = step["value"].clone();
    }
    object
}

fn gateway() -> Value {
    json!({ "inject.istio.io/templates": "gateway" })
}

#[test]
fn a_container_that_says_auto_becomes_a_proxy_and_keeps_what_the_user_wrote() {
    let made = patched(&pod(gateway(), "auto"));
    let spec = &made["spec"];
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "tulle:1");
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["args"], json!(["run", "waypoint"]));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let env = |name: &str| {
        let all = container["env"].as_array().unwrap();
        all.iter().find(|of| of["name"] == name).unwrap()["value"].clone()
    };
    assert_eq!(env("RUST_LOG"), "trace");
    assert_eq!(env("PROXY_ROLE"), "router");
    assert_eq!(env("GATEWAY_NAME"), "ingress");
    assert_eq!(container["ports"][0]["containerPort"], 8443);
    assert_eq!(spec["serviceAccountName"], "gateways");
    let volumes: Vec<&str> = spec["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| volume["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        volumes,
        ["kube-api-access", "istio-token", "istiod-ca-cert", "tmp"]
    );
    assert_eq!(spec["securityContext"]["sysctls"][0]["value"], "0");
    let labels = &made["metadata"]["labels"];
    assert_eq!(labels["service.istio.io/canonical-name"], "ingress");
    assert_eq!(labels["istio"], "ingress");
    assert_eq!(
        made["metadata"]["annotations"]["prometheus.io/port"],
        "15020"
    );
    assert!(made["metadata"]["annotations"]["sidecar.istio.io/status"].is_string());
}

#[test]
fn other_pods_pass_as_they_are() {
    let sidecar = ask(&pod(json!({}), "auto"));
    assert!(sidecar.get("patch").is_none() && sidecar.get("warnings").is_none());
    // A gateway whose image the user chose is told why nothing happens.
    let own = ask(&pod(gateway(), "mine:1"));
    assert!(own.get("patch").is_none());
    assert!(own["warnings"][0].as_str().unwrap().contains("image: auto"));
}

#[test]
fn what_is_no_review_is_refused() {
    for body in ["", "{}", "[1]", r#"{"request":{}}"#] {
        assert!(review(body.as_bytes(), &template(), &plane()).is_err());
    }
}
