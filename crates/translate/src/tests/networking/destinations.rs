//! Which DestinationRule counts for whom: the proxies' own namespace, then the service's, then the root namespace.

use serde_json::{Value, json};

use super::told;
use super::world::{apply, bookinfo};
use crate::Cluster;

/// `reviews` of `default` is behind the waypoint there, and the gateway in `istio-system` (not the root here) sends to it too.
const ROUTED: &str = r#"
kind: Gateway
metadata: {name: g, namespace: edge}
spec:
  selector: {edge: gateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
kind: Pod
metadata: {name: edge-0, namespace: edge, labels: {edge: gateway}}
---
kind: VirtualService
metadata: {name: reviews, namespace: edge}
spec:
  hosts: [reviews.example.com]
  gateways: [g]
  http: [{route: [{destination: {host: reviews.default.svc.cluster.local}}]}]
---
"#;

fn world(rules: &str) -> Cluster {
    let mut cluster = bookinfo();
    apply(&mut cluster, ROUTED.trim_end_matches("---\n"));
    apply(&mut cluster, rules);
    cluster
}

/// What proxies of a namespace are told of `reviews`.
fn of(cluster: &mut Cluster, client: &str) -> Value {
    let name = format!("DestinationPolicy default/reviews.default.svc.cluster.local~{client}");
    told(cluster)["resources"][&name].clone()
}

fn connections(cluster: &mut Cluster, client: &str) -> Value {
    of(cluster, client)["body"]["policy"]["breaker"]["maxConnections"].clone()
}

fn rule(name: &str, namespace: &str, export_to: &str, connections: u32) -> String {
    format!(
        r#"
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  host: reviews.default.svc.cluster.local
  exportTo: {export_to}
  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {connections}}}}}}}
---"#
    )
}

#[test]
fn a_proxys_own_namespace_comes_first_then_the_services_then_the_root() {
    let [edge, service, root] = [
        rule("r", "edge", "[]", 1),
        rule("r", "default", "[]", 2),
        rule("r", "istio-system", "[]", 3),
    ];
    let mut cluster = world(&[&*edge, &service, &root].concat());
    assert_eq!(connections(&mut cluster, "edge"), 1);
    assert_eq!(connections(&mut cluster, "default"), 2);
    assert_eq!(of(&mut cluster, "edge")["to"], json!(["edge/edge-0"]));
    assert_eq!(
        of(&mut cluster, "default")["to"],
        json!(["default/waypoint"])
    );
    cluster.remove_destination_rule("edge", "r");
    assert_eq!(connections(&mut cluster, "edge"), 2);
    cluster.remove_destination_rule("default", "r");
    assert_eq!(connections(&mut cluster, "edge"), 3);
    assert_eq!(connections(&mut cluster, "default"), 3);
}

#[test]
fn who_may_see_a_rule_is_asked_for_each_client() {
    // Only the service's own proxies see the one; only `edge` sees the other.
    let private = rule("r", "default", r#"["."]"#, 2);
    let listed = rule("r", "istio-system", "[edge, elsewhere]", 3);
    let mut cluster = world(&[&*private, &listed].concat());
    assert_eq!(connections(&mut cluster, "default"), 2);
    assert_eq!(connections(&mut cluster, "edge"), 3);
    // What a namespace exports to others only does not count in itself.
    apply(&mut cluster, &rule("away", "edge", "[elsewhere]", 9));
    assert_eq!(connections(&mut cluster, "edge"), 3);
    let conditions = &told(&mut cluster)["conditions"];
    let said = |name: &str| conditions[format!("DestinationRule {name}")][0].to_string();
    assert!(said("default/r").contains("Accepted"), "{conditions}");
    assert!(
        said("istio-system/r").contains("true Accepted"),
        "{conditions}"
    );
    assert!(
        said("edge/away").contains("AncestorNotBound"),
        "{conditions}"
    );
}

#[test]
fn secrets_are_those_of_the_proxys_namespace() {
    let secret = |namespace: &str| {
        format!(
            "kind: Secret\nmetadata: {{name: client, namespace: {namespace}}}\ntype: Opaque\ndata: {{ca.crt: {}}}\n---\n",
            "eA=="
        )
    };
    let rule = r#"
kind: DestinationRule
metadata: {name: tls}
spec:
  host: reviews
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: client}}
"#;
    let mut cluster = world(&[&*secret("default"), &secret("edge"), rule].concat());
    let certificate = |cluster: &mut Cluster, client: &str| {
        of(cluster, client)["body"]["policy"]["tls"]["certificate"].clone()
    };
    assert_eq!(certificate(&mut cluster, "default"), "default/client");
    assert_eq!(certificate(&mut cluster, "edge"), "edge/client");
}

#[test]
fn names_of_certificates_may_be_those_of_the_entry() {
    let mut cluster = world(
        r#"
kind: ServiceEntry
metadata: {name: ext}
spec:
  hosts: [ext.example]
  resolution: STATIC
  endpoints: [{address: 203.0.113.7}]
  subjectAltNames: [server.example]
  ports: [{number: 443, name: https, protocol: HTTPS}]
---
kind: DestinationRule
metadata: {name: ext}
spec: {host: ext.example, trafficPolicy: {tls: {mode: SIMPLE}}}
"#,
    );
    let told = &told(&mut cluster)["resources"]["DestinationPolicy default/ext.example~default"];
    let tls = &told["body"]["policy"]["tls"];
    assert_eq!(tls["verify"], json!({"anyOf": ["server.example"]}));
}
