use super::super::tests::{plane, waypoint};
use super::*;
use tulle_translate::DeployedPort;

fn template() -> Template {
    serde_json::from_value(json!({
        "image": "tulle:1", "imagePullPolicy": "IfNotPresent", "imagePullSecrets": ["pull"],
        "logLevel": "info", "clusterId": "Kubernetes", "clusterDomain": "cluster.local", "network": "net1",
        "waypoint": { "resources": { "limits": { "cpu": "2" } }, "env": { "RUST_LOG": "debug" } },
    }))
    .unwrap()
}

fn gateway() -> Deployable {
    let port = |port: u16, name: &str| DeployedPort {
        port,
        name: name.into(),
        app_protocol: "http",
    };
    Deployable {
        name: "edge".into(),
        class_name: "istio".into(),
        class: Class::Gateway,
        workload_name: "edge-istio".into(),
        service_account: "edge-istio".into(),
        ports: vec![port(80, "a.b"), port(81, "a-b"), port(82, "")],
        addresses: vec!["10.0.0.9".into()],
        labels: [("team".into(), "web".into())].into(),
        annotations: [
            ("note".into(), "kept".into()),
            ("gateway.istio.io/name-override".into(), "for us".into()),
        ]
        .into(),
        ..waypoint()
    }
}

fn find(objects: &[Value], kind: &str) -> Value {
    objects.iter().find(|o| o["kind"] == kind).unwrap().clone()
}

fn env(container: &Value, name: &str) -> Vec<Value> {
    let all = container["env"].as_array().unwrap();
    let found = all.iter().filter(|of| of["name"] == name);
    found.map(|of| of["value"].clone()).collect()
}

#[test]
fn a_waypoint_as_istio_makes_it() {
    let objects = objects(&waypoint(), &template(), &plane());
    let service = find(&objects, "Service");
    assert_eq!(service["metadata"]["name"], "waypoint");
    assert_eq!(service["spec"]["type"], "ClusterIP");
    let distribution =
        &service["metadata"]["annotations"]["networking.istio.io/traffic-distribution"];
    assert_eq!(distribution, "PreferClose");
    let ports = json!([
        { "name": "status-port", "port": 15021, "protocol": "TCP", "appProtocol": "tcp" },
        { "name": "mesh", "port": 15008, "protocol": "TCP", "appProtocol": "hbone" },
    ]);
    assert_eq!(service["spec"]["ports"], ports);
    let selector = json!({ "gateway.networking.k8s.io/gateway-name": "waypoint" });
    assert_eq!(service["spec"]["selector"], selector);

    let deployment = find(&objects, "Deployment");
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], selector);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for (name, value) in [
        ("gateway.networking.k8s.io/gateway-name", "waypoint"),
        (
            "gateway.networking.k8s.io/gateway-class-name",
            "istio-waypoint",
        ),
        ("gateway.istio.io/managed", "istio.io-mesh-controller"),
        ("istio.io/dataplane-mode", "none"),
        ("sidecar.istio.io/inject", "false"),
        ("topology.istio.io/network", "net1"),
    ] {
        assert_eq!(labels[name], value, "{name}");
    }
    let pod = &deployment["spec"]["template"]["spec"];
    assert!(pod["securityContext"].get("sysctls").is_none());
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "pull" }]));
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "istio-proxy");
    assert_eq!(container["args"], json!(["run", "waypoint"]));
    assert_eq!(container["resources"]["limits"]["cpu"], "2");
    assert_eq!(container["securityContext"]["runAsUser"], 1337);
    // The installation's variable replaces ours.
    assert_eq!(env(container, "RUST_LOG"), ["debug"]);
    assert_eq!(env(container, "PROXY_ROLE"), ["waypoint"]);
    assert_eq!(
        env(container, "XDS_ADDRESS"),
        ["istiod.istio-system.svc:15012"]
    );
    assert_eq!(env(container, "ISTIO_META_NETWORK"), ["net1"]);
    let volumes = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| &v["name"]);
    let mounts = container["volumeMounts"].as_array().unwrap();
    for volume in volumes {
        assert!(
            mounts.iter().any(|mount| mount["name"] == *volume),
            "{volume}"
        );
    }
}

#[test]
fn a_gateway_as_istio_makes_it() {
    let objects = objects(&gateway(), &template(), &plane());
    let service = find(&objects, "Service");
    assert_eq!(service["metadata"]["name"], "edge-istio");
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["spec"]["loadBalancerIP"], "10.0.0.9");
    let names: Vec<&str> = service["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["status-port", "a-b", "a-b-81", "port-82"]);
    for object in &objects {
        let metadata = &object["metadata"];
        assert_eq!(metadata["labels"]["team"], "web");
        assert_eq!(
            metadata["labels"]["gateway.istio.io/managed"],
            "istio.io-gateway-controller"
        );
        assert_eq!(metadata["labels"]["istio.io/dataplane-mode"], "none");
        assert_eq!(metadata["annotations"]["note"], "kept");
        assert!(
            metadata["annotations"]
                .get("gateway.istio.io/name-override")
                .is_none()
        );
    }
    let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["sysctls"][0]["value"], "0");
    assert_eq!(env(&pod["containers"][0], "PROXY_ROLE"), ["router"]);
    // A sandwich: its own traffic is captured.
    let mut captured = gateway();
    captured.captured = true;
    let objects = super::objects(&captured, &template(), &plane());
    let labels = &find(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["istio.io/dataplane-mode"], "ambient");
}

#[test]
fn a_service_type_that_is_asked_for_wins() {
    let mut wanted = gateway();
    wanted.service_type = Some("ClusterIP".into());
    let service = find(&objects(&wanted, &template(), &plane()), "Service");
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert!(service["spec"].get("loadBalancerIP").is_none());
}

#[test]
fn port_names_are_short_and_differ() {
    let mut used = BTreeSet::new();
    let long = "x".repeat(100);
    let names: Vec<String> = (1..4)
        .map(|port| port_name(&long, port, &mut used))
        .collect();
    assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn another_revision_is_found_by_its_name() {
    let mut plane = plane();
    plane.revision = "canary".to_owned();
    assert_eq!(plane.address(), "istiod-canary.istio-system.svc:15012");
}
