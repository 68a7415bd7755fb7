//! The objects of a gateway or waypoint, as Istio makes them: names, labels, ports, probes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tulle_api::contract::{
    ANNOTATION_GATEWAY_CONTROLLER_VERSION, ANNOTATION_GATEWAY_NAME_OVERRIDE,
    ANNOTATION_GATEWAY_SERVICE_ACCOUNT, ANNOTATION_TRAFFIC_DISTRIBUTION, CONFIGMAP_ROOT,
    DATAPLANE_MODE_NONE, LABEL_CANONICAL_NAME, LABEL_CANONICAL_REVISION, LABEL_DATAPLANE_MODE,
    LABEL_GATEWAY_CLASS_NAME, LABEL_GATEWAY_MANAGED, LABEL_GATEWAY_NAME, LABEL_NETWORK, LABEL_REV,
    MANAGED_GATEWAY_CONTROLLER, MANAGED_MESH_CONTROLLER, PORT_METRICS, PORT_READY, PORT_XDS,
    READY_PAGE, TOKEN_AUDIENCE,
};
use tulle_translate::{Class, Deployable};

/// Where the one program lies in the image.
const PROGRAM: &str = "/usr/local/bin/tulle";
/// User and group of the proxies; Istio's number.
const USER: i64 = 1337;
/// Where proxies serve what Envoy's port for Prometheus served.
const PORT_ENVOY_METRICS: u16 = 15090;
/// Longest name of a Service's port.
const LONGEST_PORT_NAME: usize = 63;
/// Life of the token that a proxy shows the control plane, in seconds.
const TOKEN_LIFE: u32 = 43_200;

/// What is the same for all proxies: chosen at installation, handed over in `PROXY_TEMPLATE` as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    /// The one image.
    pub image: String,
    /// `Always`, `IfNotPresent`, `Never`, or empty.
    pub image_pull_policy: String,
    /// Names of Secrets in the gateway's own namespace.
    pub image_pull_secrets: Vec<String>,
    /// In the syntax of `RUST_LOG`.
    pub log_level: String,
    /// One JSON object per log line.
    pub log_as_json: bool,
    /// Name of the cluster.
    pub cluster_id: String,
    /// DNS suffix of the cluster.
    pub cluster_domain: String,
    /// Network of the cluster.
    pub network: String,
    /// Of waypoints.
    pub waypoint: Proxy,
    /// Of gateways.
    pub gateway: Proxy,
}

/// What is the same for all proxies of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// How long a proxy that stops lets requests go on, in seconds.
    pub termination_grace_period_seconds: i64,
    /// Requests and limits of the container.
    pub resources: Value,
    /// More environment variables.
    pub env: BTreeMap<String, String>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            termination_grace_period_seconds: 30,
            resources: Value::Null,
            env: BTreeMap::new(),
        }
    }
}

/// Where the control plane is, and what it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plane {
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// Its revision.
    pub(crate) revision: String,
    /// The mesh's trust domain.
    pub(crate) trust_domain: String,
}

impl Plane {
    /// Where proxies find discovery and the certificate authority.
    fn address(&self) -> String {
        let revision = match self.revision.as_str() {
            "" | "default" => String::new(),
            other => format!("-{other}"),
        };
        format!("istiod{revision}.{}.svc:{PORT_XDS}", self.namespace)
    }
}

/// The objects of `gateway` in the order in which they are applied, before overlays. A scaler and a budget are among them
/// and are left out again if no overlay asks for them.
pub(crate) fn objects(gateway: &Deployable, template: &Template, plane: &Plane) -> Vec<Value> {
    let of = Of {
        gateway,
        template,
        plane,
    };
    vec![
        of.service_account(),
        of.service(),
        of.deployment(),
        of.scaler(),
        of.budget(),
    ]
}

/// The proxy's container, volumes and pod settings, for pods that users make themselves.
pub(crate) fn proxy_pod(gateway: &Deployable, template: &Template, plane: &Plane) -> Value {
    let of = Of {
        gateway,
        template,
        plane,
    };
    of.pod()
}

struct Of<'a> {
    gateway: &'a Deployable,
    template: &'a Template,
    plane: &'a Plane,
}

impl Of<'_> {
    fn is_waypoint(&self) -> bool {
        self.gateway.class == Class::Waypoint
    }

    fn proxy(&self) -> &Proxy {
        if self.is_waypoint() {
            &self.template.waypoint
        } else {
            &self.template.gateway
        }
    }

    fn managed(&self) -> &'static str {
        if self.is_waypoint() {
            MANAGED_MESH_CONTROLLER
        } else {
            MANAGED_GATEWAY_CONTROLLER
        }
    }

    /// Labels of every object: the user's, then those by which the mesh finds them.
    fn labels(&self) -> Map<String, Value> {
        let users = self.gateway.labels.iter();
        let mut labels: Map<String, Value> = users
            .map(|(name, value)| (name.to_string(), (**value).into()))
            .collect();
        if !self.is_waypoint() && !labels.contains_key(LABEL_DATAPLANE_MODE) {
            let mode = if self.gateway.captured {
                tulle_api::contract::DATAPLANE_MODE_AMBIENT
            } else {
                DATAPLANE_MODE_NONE
            };
            labels.insert(LABEL_DATAPLANE_MODE.to_owned(), mode.into());
        }
        if self.is_waypoint() && !self.template.network.is_empty() {
            let network = self.template.network.as_str();
            labels
                .entry(LABEL_NETWORK)
                .or_insert_with(|| network.into());
        }
        for (name, value) in [
            (LABEL_GATEWAY_NAME, &*self.gateway.name),
            (LABEL_GATEWAY_CLASS_NAME, &*self.gateway.class_name),
            (LABEL_GATEWAY_MANAGED, self.managed()),
        ] {
            labels.insert(name.to_owned(), value.into());
        }
        labels
    }

    /// The user's annotations, without those that are meant for the deployer.
    fn annotations(&self) -> Map<String, Value> {
        let ours = [
            "kubectl.kubernetes.io/last-applied-configuration",
            ANNOTATION_GATEWAY_NAME_OVERRIDE,
            ANNOTATION_GATEWAY_SERVICE_ACCOUNT,
            ANNOTATION_GATEWAY_CONTROLLER_VERSION,
        ];
        let users = self.gateway.annotations.iter();
        users
            .filter(|(name, _)| !ours.contains(&&***name))
            .map(|(name, value)| (name.to_string(), (**value).into()))
            .collect()
    }

    fn object(&self, api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": &*self.gateway.namespace,
                "labels": self.labels(),
                "annotations": self.annotations(),
                "ownerReferences": [{
                    "apiVersion": "gateway.networking.k8s.io/v1",
                    "kind": "Gateway",
                    "name": &*self.gateway.name,
                    "uid": &*self.gateway.uid,
                }],
            },
        });
        if !spec.is_null() {
            object["spec"] = spec;
        }
        object
    }

    fn service_account(&self) -> Value {
        self.object(
            "v1",
            "ServiceAccount",
            &self.gateway.service_account,
            Value::Null,
        )
    }

    fn service(&self) -> Value {
        let gateway = self.gateway;
        let default = if self.is_waypoint() {
            "ClusterIP"
        } else {
            "LoadBalancer"
        };
        let service_type = gateway.service_type.as_deref().unwrap_or(default);
        let mut spec = json!({
            "ipFamilyPolicy": "PreferDualStack",
            "ports": self.service_ports(),
            "selector": { LABEL_GATEWAY_NAME: &*gateway.name },
            "type": service_type,
        });
        if let (Some(address), "LoadBalancer") = (gateway.addresses.first(), service_type) {
            spec["loadBalancerIP"] = (**address).into();
        }
        let mut service = self.object("v1", "Service", &gateway.workload_name, spec);
        if self.is_waypoint()
            && let Some(annotations) = service["metadata"]["annotations"].as_object_mut()
        {
            annotations
                .entry(ANNOTATION_TRAFFIC_DISTRIBUTION)
                .or_insert_with(|| "PreferClose".into());
        }
        service
    }

    fn service_ports(&self) -> Vec<Value> {
        let port = |name: &str, port: u16, app_protocol: &str| json!({ "name": name, "port": port, "protocol": "TCP", "appProtocol": app_protocol });
        let mut used: BTreeSet<String> = ["status-port".to_owned()].into();
        let mut ports = vec![port("status-port", PORT_READY, "tcp")];
        for of in &self.gateway.ports {
            let name = port_name(&of.name, of.port, &mut used);
            ports.push(port(&name, of.port, of.app_protocol));
        }
        ports
    }

    fn deployment(&self) -> Value {
        let gateway = self.gateway;
        let spec = json!({
            "selector": { "matchLabels": { LABEL_GATEWAY_NAME: &*gateway.name } },
            "template": {
                "metadata": { "labels": self.pod_labels(), "annotations": self.pod_annotations() },
                "spec": self.pod(),
            },
        });
        self.object("apps/v1", "Deployment", &gateway.workload_name, spec)
    }

    fn pod_labels(&self) -> Map<String, Value> {
        let name: &str = &self.gateway.workload_name;
        let mut labels = Map::new();
        for (label, value) in [
            ("sidecar.istio.io/inject", "false"),
            (LABEL_DATAPLANE_MODE, DATAPLANE_MODE_NONE),
            // A label has 63 characters at most, a Deployment's name may have more.
            (LABEL_CANONICAL_NAME, name.get(..63).unwrap_or(name)),
            (LABEL_CANONICAL_REVISION, "latest"),
        ] {
            labels.insert(label.to_owned(), value.into());
        }
        labels.extend(self.labels());
        labels
    }

    fn pod_annotations(&self) -> Map<String, Value> {
        let revision = match self.plane.revision.as_str() {
            "" => "default",
            revision => revision,
        };
        let mut annotations = self.annotations();
        for (name, value) in [
            (LABEL_REV, revision),
            ("prometheus.io/path", "/stats/prometheus"),
            ("prometheus.io/port", "15020"),
            ("prometheus.io/scrape", "true"),
        ] {
            annotations.insert(name.to_owned(), value.into());
        }
        annotations
    }

    fn pod(&self) -> Value {
        let template = self.template;
        let mut pod = json!({
            "serviceAccountName": &*self.gateway.service_account,
            "terminationGracePeriodSeconds": self.proxy().termination_grace_period_seconds,
            // It never asks the Kubernetes API.
            "automountServiceAccountToken": false,
            "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [self.container()],
            "volumes": [
                { "name": "istio-token", "projected": { "sources": [{ "serviceAccountToken": {
                    "audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_LIFE, "path": "istio-token",
                } }] } },
                { "name": "istiod-ca-cert", "configMap": { "name": CONFIGMAP_ROOT } },
                { "name": "tmp", "emptyDir": {} },
            ],
        });
        if !self.is_waypoint() {
            // Listeners on 80 and 443 without a capability.
            pod["securityContext"]["sysctls"] =
                json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]);
        }
        if !template.image_pull_secrets.is_empty() {
            let secrets = template.image_pull_secrets.iter();
            pod["imagePullSecrets"] = secrets.map(|name| json!({ "name": name })).collect();
        }
        pod
    }

    fn container(&self) -> Value {
        let proxy = self.proxy();
        let probe = |failures: u32, every: u32| {
            json!({
                "httpGet": { "path": READY_PAGE, "port": PORT_READY, "scheme": "HTTP" },
                "failureThreshold": failures, "periodSeconds": every, "successThreshold": 1, "timeoutSeconds": 1,
            })
        };
        let port = |name: &str, port: u16| json!({ "containerPort": port, "name": name, "protocol": "TCP" });
        let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
        let mut container = json!({
            "name": "istio-proxy",
            "image": self.template.image,
            "command": [PROGRAM],
            "args": ["run", "waypoint"],
            "env": self.environment(proxy),
            "ports": [
                port("metrics", PORT_METRICS),
                port("status-port", PORT_READY),
                port("http-envoy-prom", PORT_ENVOY_METRICS),
            ],
            "startupProbe": probe(30, 1),
            "readinessProbe": probe(4, 2),
            "securityContext": {
                "privileged": false,
                "runAsGroup": USER, "runAsUser": USER, "runAsNonRoot": true,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
            "volumeMounts": [
                mount("istiod-ca-cert", "/var/run/secrets/istio"),
                mount("istio-token", "/var/run/secrets/tokens"),
                mount("tmp", "/tmp"),
            ],
        });
        if !self.template.image_pull_policy.is_empty() {
            container["imagePullPolicy"] = self.template.image_pull_policy.as_str().into();
        }
        if proxy.resources.is_object() {
            container["resources"] = proxy.resources.clone();
        }
        container
    }

    fn environment(&self, proxy: &Proxy) -> Vec<Value> {
        let (gateway, template) = (self.gateway, self.template);
        let address = self.plane.address();
        let workload = &gateway.workload_name;
        let own = gateway.labels.get(LABEL_NETWORK).map(|network| &**network);
        let network = own.unwrap_or(&template.network);
        let grace = proxy.termination_grace_period_seconds.to_string();
        let owner = format!(
            "kubernetes://apis/apps/v1/namespaces/{}/deployments/{workload}",
            gateway.namespace
        );
        let mut texts: Vec<(&str, &str)> = vec![
            ("RUST_LOG", &template.log_level),
            ("CA_ADDR", &address),
            ("XDS_ADDRESS", &address),
            (
                "PROXY_ROLE",
                if self.is_waypoint() {
                    "waypoint"
                } else {
                    "router"
                },
            ),
            ("GATEWAY_NAME", &gateway.name),
            ("ISTIO_META_CLUSTER_ID", &template.cluster_id),
            ("ISTIO_META_WORKLOAD_NAME", workload),
            ("ISTIO_META_OWNER", &owner),
            ("ISTIO_META_MESH_ID", &self.plane.trust_domain),
            ("TRUST_DOMAIN", &self.plane.trust_domain),
            ("CLUSTER_DOMAIN", &template.cluster_domain),
            ("TERMINATION_GRACE_PERIOD_SECONDS", &grace),
        ];
        if template.log_as_json {
            texts.push(("LOG_FORMAT", "json"));
        }
        if !network.is_empty() {
            texts.push(("ISTIO_META_NETWORK", network));
        }
        let fields = [
            ("POD_NAME", "metadata.name"),
            ("POD_NAMESPACE", "metadata.namespace"),
            ("INSTANCE_IP", "status.podIP"),
            ("HOST_IP", "status.hostIP"),
            ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            ("ISTIO_META_NODE_NAME", "spec.nodeName"),
        ];
        let texts = texts
            .into_iter()
            .map(|(name, value)| json!({ "name": name, "value": value }));
        let fields = fields.into_iter().map(|(name, path)| {
            json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } })
        });
        let cpu = json!({ "name": "ISTIO_CPU_LIMIT", "valueFrom": {
            "resourceFieldRef": { "resource": "limits.cpu", "divisor": "1" },
        } });
        let mut all: Vec<Value> = texts.chain(fields).chain([cpu]).collect();
        all.retain(|variable| {
            let name = variable["name"].as_str().unwrap_or_default();
            !proxy.env.contains_key(name)
        });
        let users = proxy.env.iter();
        all.extend(users.map(|(name, value)| json!({ "name": name, "value": value })));
        all
    }

    fn scaler(&self) -> Value {
        let name = &*self.gateway.workload_name;
        let spec = json!({
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "maxReplicas": 1,
        });
        self.object("autoscaling/v2", "HorizontalPodAutoscaler", name, spec)
    }

    fn budget(&self) -> Value {
        let selector = json!({ "matchLabels": { LABEL_GATEWAY_NAME: &*self.gateway.name } });
        let name = &self.gateway.workload_name;
        let spec = json!({ "selector": selector });
        self.object("policy/v1", "PodDisruptionBudget", name, spec)
    }
}

/// A name for a Service's port: no dots, 63 characters, and each once.
fn port_name(listener: &str, port: u16, used: &mut BTreeSet<String>) -> String {
    let mut name: String = listener.replace('.', "-");
    if name.is_empty() {
        name = format!("port-{port}");
    }
    name.truncate(LONGEST_PORT_NAME);
    let mut suffix = format!("-{port}");
    let mut candidate = name.clone();
    while !used.insert(candidate.clone()) {
        let mut head = name.clone();
        head.truncate(LONGEST_PORT_NAME.saturating_sub(suffix.len()));
        candidate = head + &suffix;
        suffix.push('x');
    }
    candidate
}

#[cfg(test)]
mod tests;
