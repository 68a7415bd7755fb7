//! Objects that the walks apply.

/// Image of the `load` program.
pub const LOAD_IMAGE: &str = "docker.io/tulle/load:test";

/// A namespace with a load client on the first node and a load server on the second; both are the `load` program.
pub fn load_namespace(namespace: &str, first: &str, second: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
{client}
---
{server}
---
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: {namespace}}}
spec:
  selector: {{app: server}}
  ports: [{{name: tcp-echo, port: 7000}}, {{name: tcp-greet, port: 7001}}]
"#,
        client = load_deployment(namespace, "client", first, 1),
        server = load_deployment(namespace, "server", second, 1),
    )
}

/// A Deployment of the `load` program on one node, with a service account of its own name.
pub fn load_deployment(namespace: &str, name: &str, node: &str, replicas: u32) -> String {
    format!(
        r#"apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      serviceAccountName: {name}
      terminationGracePeriodSeconds: 1
      nodeSelector: {{kubernetes.io/hostname: {node}}}
      containers:
      - name: load
        image: {LOAD_IMAGE}
        imagePullPolicy: IfNotPresent
        args: ["serve", "--port", "7000"]
        readinessProbe: {{tcpSocket: {{port: 7000}}, periodSeconds: 1}}
"#
    )
}

/// ALLOW one principal on `app: productpage`, as in the walk.
pub const ALLOW_SLEEP: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: productpage-viewer, namespace: default}
spec:
  selector: {matchLabels: {app: productpage}}
  action: ALLOW
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/sleep"]
"#;

/// Only mTLS in a namespace, with one port-level exception for httpbin.
pub const STRICT: &str = r#"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: default}
spec: {mtls: {mode: STRICT}}
"#;

/// A port-level exception.
pub const PERMISSIVE_PORT: &str = r#"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: helloworld-port, namespace: default}
spec:
  selector: {matchLabels: {app: helloworld}}
  mtls: {mode: STRICT}
  portLevelMtls: {"5000": {mode: PERMISSIVE}}
"#;

/// A workload with a probe of each form, each of which must pass every second or the pod is restarted or not Ready.
pub const PROBED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: probed, namespace: default}
spec:
  selector: {matchLabels: {app: probed}}
  template:
    metadata: {labels: {app: probed}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: httpbin
        image: docker.io/mccutchen/go-httpbin:v2.15.0
        imagePullPolicy: IfNotPresent
        startupProbe: {httpGet: {path: /status/200, port: 8080}, periodSeconds: 1}
        readinessProbe: {httpGet: {path: /status/200, port: 8080}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 5}
        livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 5}
"#;
