//! The incremental result is what a computation from nothing gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use tulle_model::{Service, ServiceKey, Workload};
use tulle_policy::Policy;

use super::objects::{At, Event, Kind, event, tell};
use crate::{
    Audience, Changes, Cluster, Condition, Deployable, ObjectKind, ObjectRef, Resource,
    ResourceKey, Settings, Status,
};

/// What someone knows who only listens to changes.
#[derive(Debug, Default, PartialEq)]
struct Listener {
    workloads: BTreeMap<Arc<str>, Workload>,
    services: BTreeMap<ServiceKey, Service>,
    policies: BTreeMap<Arc<str>, Policy>,
    conditions: BTreeMap<ObjectRef, Vec<Condition>>,
    resources: BTreeMap<ResourceKey, (Audience, Resource)>,
    gateways: BTreeMap<(Arc<str>, Arc<str>), Deployable>,
    statuses: BTreeMap<ObjectRef, Option<Status>>,
}

fn apply<K: Ord, V>(table: &mut BTreeMap<K, V>, changes: Vec<(K, Option<V>)>) {
    for (key, value) in changes {
        match value {
            Some(value) => {
                table.insert(key, value);
            }
            None => {
                assert!(
                    table.remove(&key).is_some(),
                    "told that something unknown is gone"
                );
            }
        }
    }
}

impl Listener {
    fn hear(&mut self, changes: Changes) {
        apply(&mut self.workloads, changes.workloads);
        apply(&mut self.services, changes.services);
        apply(&mut self.policies, changes.policies);
        self.conditions.extend(changes.conditions);
        apply(&mut self.resources, changes.resources);
        apply(&mut self.gateways, changes.gateways);
        self.statuses.extend(changes.statuses);
    }

    /// An object is deleted, and its conditions with it.
    fn forget(&mut self, (kind, namespace, name): At) {
        let kind = match kind {
            Kind::Authorization => ObjectKind::AuthorizationPolicy,
            Kind::Peer => ObjectKind::PeerAuthentication,
            Kind::Service => ObjectKind::Service,
            Kind::ServiceEntry => ObjectKind::ServiceEntry,
            Kind::WorkloadEntry => ObjectKind::WorkloadEntry,
            Kind::Class => ObjectKind::GatewayClass,
            Kind::Gateway => ObjectKind::Gateway,
            Kind::ListenerSet => ObjectKind::ListenerSet,
            Kind::HttpRoute => ObjectKind::HttpRoute,
            Kind::GrpcRoute => ObjectKind::GrpcRoute,
            Kind::TlsRoute => ObjectKind::TlsRoute,
            Kind::TcpRoute => ObjectKind::TcpRoute,
            Kind::BackendTls => ObjectKind::BackendTlsPolicy,
            _ => return,
        };
        let (namespace, name) = (namespace.into(), name.into());
        let object = ObjectRef {
            kind,
            namespace,
            name,
        };
        self.conditions.remove(&object);
        self.statuses.remove(&object);
    }

    /// No condition is the same as not told.
    fn drop_empty(&mut self) {
        self.conditions
            .retain(|_, conditions| !conditions.is_empty());
        self.statuses.retain(|_, status| status.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn incremental_equals_from_nothing(events in prop::collection::vec(event(), 1..60)) {
        let mut cluster = Cluster::new(Settings::default());
        let mut listener = Listener::default();
        let mut world: BTreeMap<At, Value> = BTreeMap::new();
        let mut settings = Settings::default();
        for event in events {
            match event {
                Event::Object(kind, namespace, name, object) => {
                    let at = (kind, namespace, name);
                    tell(&mut cluster, at, object.as_ref());
                    match object {
                        Some(object) => world.insert(at, object),
                        None => {
                            listener.forget(at);
                            world.remove(&at)
                        }
                    };
                }
                Event::Settings(new) => {
                    settings = new.clone();
                    cluster.set_settings(new);
                }
                Event::Take => listener.hear(cluster.take_changes()),
            }
        }
        listener.hear(cluster.take_changes());
        listener.drop_empty();
        prop_assert!(cluster.take_changes().is_empty(), "nothing happened since");

        let mut fresh = Cluster::new(settings);
        for (at, object) in &world {
            tell(&mut fresh, *at, Some(object));
        }
        let mut expected = Listener::default();
        expected.hear(fresh.take_changes());
        expected.drop_empty();
        prop_assert_eq!(&listener, &expected);

        let mut whole = Listener::default();
        whole.hear(cluster.snapshot());
        whole.drop_empty();
        prop_assert_eq!(&whole, &expected);

        // Every policy that a workload names is there.
        for workload in expected.workloads.values() {
            for name in &workload.policies {
                prop_assert!(expected.policies.contains_key(name), "{} of {}", name, workload.uid);
            }
        }
        // Nothing is left when everything is gone.
        let keys: Vec<At> = world.keys().copied().collect();
        for at in keys {
            tell(&mut cluster, at, None);
        }
        listener.hear(cluster.take_changes());
        prop_assert!(listener.workloads.is_empty() && listener.services.is_empty());
        prop_assert!(listener.policies.is_empty());
        prop_assert!(listener.gateways.is_empty());
        // What holds for the whole mesh is no object's.
        let left = listener.resources.keys().filter(|key| !key.type_url.ends_with(".ProxySettings"));
        prop_assert_eq!(left.count(), 0);
        prop_assert!(cluster.is_bare(), "tables keep something");
    }
}
