//! Makes what a Gateway needs to run: ServiceAccount, Service, Deployment, and what overlays ask for.
//!
//! Told what is wanted by the translating thread; one replica acts. Objects are applied by server-side apply when what is
//! wanted changed or when somebody else changed or deleted them, never otherwise; a fight with another writer, or an API
//! server that refuses, is met with growing pauses. What was made goes with its Gateway, by owner references.

mod overlay;
mod ownership;
mod render;
mod wanted;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::select_all;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use tulle_api::contract::{CONTROLLER_GATEWAY, CONTROLLER_MESH, LABEL_GATEWAY_MANAGED};
use tulle_api::k8s_openapi::api::core::v1::ConfigMap;
use tulle_cluster::kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use tulle_cluster::{Api, Change, Client, Key, Objects, Selection};
use tulle_telemetry::Gauge;
use tulle_translate::{Class, Deployable, NotDeployed};

use crate::limits::{DEPLOY_CALM, DEPLOY_FIRST, DEPLOY_LONGEST};
use ownership::{fingerprint, may_manage, versions_agree};

pub(crate) use render::{Plane, proxy_pod};
pub use render::{Proxy, Template};
pub(crate) use wanted::Deployments;

/// Namespace and name of a Gateway.
pub(crate) type GatewayKey = (Arc<str>, Arc<str>);

/// Why a gateway is not as it should be.
#[derive(Debug, thiserror::Error)]
enum DeployError {
    /// The API server.
    #[error(transparent)]
    Cluster(#[from] tulle_cluster::Error),
    /// The user's overlays.
    #[error("ConfigMap {map}: {why}; what was made before stays as it is")]
    Overlay {
        /// Which ConfigMap (or several).
        map: String,
        /// What is wrong.
        why: overlay::OverlayError,
    },
    /// Named and not there.
    #[error("ConfigMap {0}, named by infrastructure.parametersRef, does not exist")]
    Parameters(String),
}

impl DeployError {
    /// For the Gateway's status; nothing of what may be over soon.
    fn told(&self) -> Option<NotDeployed> {
        match self {
            Self::Overlay { .. } | Self::Parameters(_) => {
                Some(NotDeployed::Parameters(self.to_string()))
            }
            Self::Cluster(
                tulle_cluster::Error::Invalid { .. } | tulle_cluster::Error::Forbidden { .. },
            ) => Some(NotDeployed::Refused(self.to_string())),
            Self::Cluster(_) => None,
        }
    }
}

/// What became of a Gateway's objects.
pub(crate) type Report = (GatewayKey, Option<NotDeployed>);

/// Deploys for ever, while `leads` says so; `reports` are for the Gateways' statuses.
pub(crate) async fn deploy(
    client: Client,
    deployments: Deployments,
    template: Template,
    mut leads: watch::Receiver<bool>,
    errors: Gauge,
    reports: mpsc::Sender<Report>,
) {
    while leads.wait_for(|leads| *leads).await.is_ok() {
        let mut deployer = Deployer::new(&client, &deployments, &template, &errors, &reports);
        tokio::select! {
            () = deployer.run() => {}
            _ = leads.wait_for(|leads| !*leads) => {}
        }
    }
}

/// What one leader knows.
struct Deployer<'a> {
    client: &'a Client,
    deployments: &'a Deployments,
    template: &'a Template,
    errors: &'a Gauge,
    reports: &'a mpsc::Sender<Report>,
    gateways: Objects,
    waypoints: Objects,
    /// Hash of what was applied last.
    applied: HashMap<GatewayKey, u64>,
    made: HashMap<MadeKey, Made>,
    /// When to look again.
    due: BTreeMap<(Instant, GatewayKey), ()>,
    /// Failures and fights of late.
    trouble: HashMap<GatewayKey, (u32, Instant)>,
}

/// Kind, namespace and name of an object that was made.
type MadeKey = (&'static str, Arc<str>, Arc<str>);

struct Made {
    gateway: GatewayKey,
    /// Of the object as the API server answered.
    fingerprint: u64,
}

/// The kinds that are made, as they are served.
const KINDS: [(&str, &str, &str, &str); 5] = [
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "Service", "services"),
    ("apps", "v1", "Deployment", "deployments"),
    (
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    ),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    ),
];

impl<'a> Deployer<'a> {
    fn new(
        client: &'a Client,
        deployments: &'a Deployments,
        template: &'a Template,
        errors: &'a Gauge,
        reports: &'a mpsc::Sender<Report>,
    ) -> Self {
        Self {
            client,
            deployments,
            template,
            errors,
            reports,
            gateways: Objects::new(client.clone(), CONTROLLER_GATEWAY),
            waypoints: Objects::new(client.clone(), CONTROLLER_MESH),
            applied: HashMap::new(),
            made: HashMap::new(),
            due: BTreeMap::new(),
            trouble: HashMap::new(),
        }
    }

    /// A new leader looks at everything once.
    async fn run(&mut self) {
        self.deployments.everything();
        let watches = KINDS.map(|(group, version, kind, plural)| {
            let gvk = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            let selection = Selection::labelled(LABEL_GATEWAY_MANAGED);
            tulle_cluster::watch(api, selection)
                .map(move |change| (kind, change))
                .boxed()
        });
        let mut changes = select_all(watches);
        loop {
            let next = self.due.first_key_value().map(|((at, _), ())| *at);
            tokio::select! {
                gateway = self.deployments.next() => self.reconcile(gateway).await,
                Some((kind, change)) = changes.next() => self.seen(kind, change),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    if let Some(((_, gateway), ())) = self.due.pop_first() {
                        self.reconcile(gateway).await;
                    }
                }
            }
        }
    }

    /// What was made is watched: it is made again when somebody else changes or deletes it.
    fn seen(&mut self, kind: &'static str, change: Change<DynamicObject>) {
        let (key, now) = match change {
            Change::Upsert(object) => (Key::of(&object), Some(fingerprint(&object))),
            Change::Remove(key) => (key, None),
            Change::Synced => return,
        };
        let key: MadeKey = (kind, key.namespace, key.name);
        let Some(made) = self.made.get(&key) else {
            return;
        };
        if now == Some(made.fingerprint) {
            return;
        }
        let gateway = made.gateway.clone();
        if now.is_none() {
            self.made.remove(&key);
        }
        debug!(kind, namespace = %key.1, name = %key.2, "changed by somebody else");
        self.applied.remove(&gateway);
        self.later(gateway);
    }

    async fn reconcile(&mut self, gateway: GatewayKey) {
        let Some(wanted) = self.deployments.get(&gateway) else {
            // Its objects go with it; a Gateway that lives on without need of them keeps them, as with Istio.
            self.applied.remove(&gateway);
            self.trouble.remove(&gateway);
            self.made.retain(|_, made| made.gateway != gateway);
            return;
        };
        match self.make(&gateway, &wanted).await {
            Ok(()) => {
                self.due.retain(|(_, due), ()| *due != gateway);
                self.report(gateway, None).await;
            }
            Err(why) => {
                self.errors.inc();
                let (namespace, name) = &gateway;
                warn!(gateway = %format!("{namespace}/{name}"), "not deployed: {why}");
                if let Some(told) = why.told() {
                    self.report(gateway.clone(), Some(told)).await;
                }
                // Waiting does not make an overlay right; its change does.
                if !matches!(why, DeployError::Overlay { .. }) {
                    self.later(gateway);
                }
            }
        }
    }

    async fn report(&self, gateway: GatewayKey, problem: Option<NotDeployed>) {
        // Nobody listens at the end of the process.
        let _ = self.reports.send((gateway, problem)).await;
    }

    /// Looks again after a pause that grows while there is trouble, and shrinks back when there was none for a while.
    fn later(&mut self, gateway: GatewayKey) {
        let now = Instant::now();
        let (times, last) = self.trouble.entry(gateway.clone()).or_insert((0, now));
        if now.duration_since(*last) > DEPLOY_CALM {
            *times = 0;
        }
        let pause = (DEPLOY_FIRST * 2u32.pow((*times).min(10))).min(DEPLOY_LONGEST);
        *times += 1;
        *last = now;
        if !self.due.keys().any(|(_, due)| *due == gateway) {
            self.due.insert((now + pause, gateway), ());
        }
    }

    async fn make(&mut self, key: &GatewayKey, wanted: &Deployable) -> Result<(), DeployError> {
        let plane = self.deployments.plane();
        if !versions_agree(wanted, &plane.revision) {
            debug!(namespace = %key.0, name = %key.1, "of another revision or controller, left alone");
            return Ok(());
        }
        let overlays = self.overlays(wanted).await?;
        let maps: Vec<&BTreeMap<String, String>> = overlays.iter().map(|(_, map)| map).collect();
        let objects = render::objects(wanted, self.template, &plane);
        let objects = overlay::apply(objects, &maps).map_err(|why| DeployError::Overlay {
            map: overlays
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            why,
        })?;
        let mut hasher = DefaultHasher::new();
        objects.iter().for_each(|o| o.to_string().hash(&mut hasher));
        let hash = hasher.finish();
        if self.applied.get(key) == Some(&hash) {
            return Ok(());
        }
        for object in &objects {
            self.apply(key, wanted.class, object).await?;
        }
        self.remove_others(key, wanted, &objects).await?;
        self.applied.insert(key.clone(), hash);
        info!(namespace = %key.0, gateway = %key.1, deployment = %wanted.workload_name, "deployed");
        Ok(())
    }

    /// The class's defaults, then the Gateway's own, with the names of their ConfigMaps.
    async fn overlays(
        &self,
        wanted: &Deployable,
    ) -> Result<Vec<(String, BTreeMap<String, String>)>, DeployError> {
        let mut overlays = Vec::new();
        overlays.extend(self.deployments.class_defaults(&wanted.class_name));
        if let Some(name) = &wanted.parameters {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &wanted.namespace);
            let title = format!("{}/{name}", wanted.namespace);
            let map = tulle_cluster::get(&api, name).await?;
            let map = map.ok_or_else(|| DeployError::Parameters(title.clone()))?;
            overlays.push((title, map.data.unwrap_or_default()));
        }
        Ok(overlays)
    }

    fn objects(&self, class: Class) -> &Objects {
        match class {
            Class::Gateway => &self.gateways,
            Class::Waypoint => &self.waypoints,
        }
    }

    /// Applies one object, unless it is somebody else's.
    async fn apply(
        &mut self,
        gateway: &GatewayKey,
        class: Class,
        object: &Value,
    ) -> Result<(), DeployError> {
        let mut object = object.clone();
        if let Some(now) = self.objects(class).get(&object).await? {
            if !may_manage(&now) {
                let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
                warn!(%kind, namespace = %gateway.0, %name, "exists and was not made for a Gateway: left alone");
                return Ok(());
            }
            ownership::keep(&mut object, &now);
        }
        let answer = self.objects(class).apply(&object).await?;
        let kind = object["kind"].as_str().unwrap_or_default();
        if let Some((.., kind, _)) = KINDS.into_iter().find(|(_, _, known, _)| *known == kind) {
            let name: Arc<str> = object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .into();
            let made = Made {
                gateway: gateway.clone(),
                fingerprint: fingerprint(&answer),
            };
            self.made.insert((kind, gateway.0.clone(), name), made);
        }
        Ok(())
    }

    /// Removes what this Gateway had and has no more: under a former name, or a scaler or budget that nobody asks for now.
    async fn remove_others(
        &mut self,
        gateway: &GatewayKey,
        wanted: &Deployable,
        objects: &[Value],
    ) -> Result<(), DeployError> {
        let name_of = |object: &Value| object["metadata"]["name"].as_str().map(str::to_owned);
        let is_wanted = |kind: &str, name: &str| {
            objects
                .iter()
                .any(|object| object["kind"] == kind && name_of(object).as_deref() == Some(name))
        };
        let former = self
            .made
            .iter()
            .filter(|(_, made)| made.gateway == *gateway);
        let mut candidates: Vec<MadeKey> = former.map(|(key, _)| key.clone()).collect();
        for kind in ["HorizontalPodAutoscaler", "PodDisruptionBudget"] {
            candidates.push((kind, gateway.0.clone(), wanted.workload_name.clone()));
        }
        candidates.retain(|(kind, _, name)| !is_wanted(kind, name));
        for key in candidates {
            let Some((group, version, kind, _)) = KINDS.into_iter().find(|of| of.2 == key.0) else {
                continue;
            };
            let api_version = match group {
                "" => version.to_owned(),
                group => format!("{group}/{version}"),
            };
            let object = serde_json::json!({
                "apiVersion": api_version, "kind": kind,
                "metadata": { "name": &*key.2, "namespace": &*key.1 },
            });
            let found = self.objects(wanted.class).get(&object).await?;
            if found.is_some_and(|now| ownership::is_of(&now, &wanted.uid)) {
                self.objects(wanted.class).delete(&object).await?;
                info!(kind, namespace = %key.1, name = %key.2, "no longer wanted, removed");
            }
            self.made.remove(&key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
