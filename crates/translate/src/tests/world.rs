//! A cluster that is told of objects in JSON, and all that it has said so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tulle_model::{Service, ServiceKey, Workload};
use tulle_route::resource::{Gateway, HttpRoute, StreamRoute};

use super::objects::{Kind, tell};
use crate::{
    Audience, Changes, Cluster, Condition, Deployable, GatewayStatus, ListenerStatus, ObjectKind,
    ObjectRef, ParentStatus, Resource, ResourceKey, Settings, Status,
};

/// A cluster and what it said.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) services: BTreeMap<ServiceKey, Service>,
    pub(super) workloads: BTreeMap<Arc<str>, Workload>,
    pub(super) conditions: BTreeMap<ObjectRef, Vec<Condition>>,
    pub(super) resources: BTreeMap<ResourceKey, (Audience, Resource)>,
    pub(super) gateways: BTreeMap<(Arc<str>, Arc<str>), Deployable>,
    pub(super) statuses: BTreeMap<ObjectRef, Status>,
}

fn apply<K: Ord, V>(table: &mut BTreeMap<K, V>, changes: Vec<(K, Option<V>)>) {
    for (key, value) in changes {
        match value {
            Some(value) => table.insert(key, value),
            None => table.remove(&key),
        };
    }
}

fn kind(text: &str) -> Kind {
    match text {
        "Namespace" => Kind::Namespace,
        "Pod" => Kind::Pod,
        "Service" => Kind::Service,
        "ServiceEntry" => Kind::ServiceEntry,
        "WorkloadEntry" => Kind::WorkloadEntry,
        "GatewayClass" => Kind::Class,
        "Gateway" => Kind::Gateway,
        "ListenerSet" => Kind::ListenerSet,
        "HTTPRoute" => Kind::HttpRoute,
        "GRPCRoute" => Kind::GrpcRoute,
        "TLSRoute" => Kind::TlsRoute,
        "TCPRoute" => Kind::TcpRoute,
        "ReferenceGrant" => Kind::Grant,
        "BackendTLSPolicy" => Kind::BackendTls,
        "Secret" => Kind::Secret,
        "ConfigMap" => Kind::ConfigMap,
        other => panic!("no such kind: {other}"),
    }
}

/// Names of objects live as long as the test.
fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            cluster: Cluster::new(Settings::default()),
            services: BTreeMap::new(),
            workloads: BTreeMap::new(),
            conditions: BTreeMap::new(),
            resources: BTreeMap::new(),
            gateways: BTreeMap::new(),
            statuses: BTreeMap::new(),
        }
    }

    /// An object is added or changed. Its kind and `namespace/name` stand beside it, for brevity.
    pub(super) fn set(&mut self, of: &str, name: &str, mut object: Value) {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        object["metadata"]["name"] = json!(name);
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if matches!(of, "ServiceEntry" | "WorkloadEntry") {
            object["apiVersion"] = json!("networking.istio.io/v1");
            object["kind"] = json!(of);
        }
        tell(
            &mut self.cluster,
            (kind(of), leak(namespace), leak(name)),
            Some(&object),
        );
        self.look();
    }

    /// An object is gone.
    pub(super) fn delete(&mut self, of: &str, name: &str) {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        tell(
            &mut self.cluster,
            (kind(of), leak(namespace), leak(name)),
            None,
        );
        self.look();
    }

    fn look(&mut self) {
        let changes: Changes = self.cluster.take_changes();
        apply(&mut self.services, changes.services);
        apply(&mut self.workloads, changes.workloads);
        apply(&mut self.resources, changes.resources);
        apply(&mut self.gateways, changes.gateways);
        apply(&mut self.statuses, changes.statuses);
        self.conditions.extend(changes.conditions);
    }

    /// A Service with one port of each number.
    pub(super) fn service(&mut self, name: &str, ports: &[u16]) {
        let ports: Vec<Value> = ports
            .iter()
            .map(|port| json!({"name": format!("p{port}"), "port": port}))
            .collect();
        self.set(
            "Service",
            name,
            json!({"spec": {"clusterIP": "10.1.0.1", "ports": ports}}),
        );
    }

    /// What the deployer makes for a waypoint, with a ready pod.
    pub(super) fn deployed(&mut self, gateway: &str, service: &str, ports: &[u16]) {
        self.service(service, ports);
        let (_, name) = gateway.split_once('/').unwrap();
        let pod = json!({
            "metadata": {"labels": {"gateway.networking.k8s.io/gateway-name": name}},
            "spec": {"containers": []},
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": "10.0.0.4"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        self.set("Pod", &format!("{gateway}-pod"), pod);
    }

    /// What the deployer says of a Gateway's objects.
    pub(super) fn undeployed(&mut self, gateway: &str, problem: Option<crate::NotDeployed>) {
        let (namespace, name) = gateway.split_once('/').unwrap();
        self.cluster.set_deployment(namespace, name, problem);
        self.look();
    }

    pub(super) fn status(&self, kind: ObjectKind, name: &str) -> Option<&Status> {
        self.statuses.get(&object(kind, name))
    }

    pub(super) fn gateway_status(&self, name: &str) -> &GatewayStatus {
        match self.status(ObjectKind::Gateway, name) {
            Some(Status::Gateway(status)) => status,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub(super) fn listener(&self, gateway: &str, name: &str) -> &ListenerStatus {
        let status = self.gateway_status(gateway);
        status
            .listeners
            .iter()
            .find(|listener| *listener.name == *name)
            .unwrap()
    }

    pub(super) fn parents(&self, kind: ObjectKind, name: &str) -> &[ParentStatus] {
        match self.status(kind, name) {
            Some(Status::Route(status)) => &status.parents,
            None => &[],
            other => panic!("{name}: {other:?}"),
        }
    }

    /// The resource of a route, by its name on the wire (`HTTPRoute/namespace/name`).
    pub(super) fn http_route(&self, name: &str) -> Option<(&Audience, &HttpRoute)> {
        self.resources
            .iter()
            .find_map(|(key, (audience, resource))| match resource {
                Resource::HttpRoute(route) if *key.name == *name => Some((audience, &**route)),
                _ => None,
            })
    }

    pub(super) fn stream_route(&self, name: &str) -> Option<(&Audience, &StreamRoute)> {
        self.resources
            .iter()
            .find_map(|(key, (audience, resource))| match resource {
                Resource::StreamRoute(route) if *key.name == *name => Some((audience, &**route)),
                _ => None,
            })
    }

    pub(super) fn gateway(&self, name: &str) -> Option<&Gateway> {
        self.resources
            .iter()
            .find_map(|(key, (_, resource))| match resource {
                Resource::Gateway(gateway) if *key.name == *name => Some(&**gateway),
                _ => None,
            })
    }

    pub(super) fn bound(&self, kind: ObjectKind, name: &str) -> Option<&Condition> {
        let conditions = self.conditions.get(&object(kind, name))?;
        conditions
            .iter()
            .find(|condition| condition.kind == "istio.io/WaypointBound")
    }
}

pub(super) fn object(kind: ObjectKind, name: &str) -> ObjectRef {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    ObjectRef {
        kind,
        namespace: namespace.into(),
        name: name.into(),
    }
}

/// Status and reason of a condition, as one text: `True Accepted`.
pub(super) fn told(conditions: &[Condition], kind: &str) -> String {
    match conditions.iter().find(|condition| condition.kind == kind) {
        Some(condition) => {
            let status = if condition.status { "True" } else { "False" };
            format!("{status} {}", condition.reason)
        }
        None => "none".to_owned(),
    }
}

/// Of these Gateways, and no others.
pub(super) fn only(names: &[&str]) -> Audience {
    Audience::Gateways(names.iter().map(|name| Arc::from(*name)).collect())
}
