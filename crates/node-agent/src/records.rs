//! What the node agent reads from and writes to the Kubernetes API about single objects.

use std::time::SystemTime;

use futures_util::future::BoxFuture;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use serde_json::json;
use tulle_api::contract::{ANNOTATION_REDIRECTION, NODE_AGENT, REDIRECTION_ENABLED};
use tulle_cluster::{Api, Client, Error, Key};

use crate::pod::{NamespaceFacts, PodFacts};

/// The seam to the API server: real below, scripted in tests.
pub(crate) trait Records: Send + Sync {
    /// Writes or removes the annotation that says the pod is enrolled. A pod that is gone, or another one by the same
    /// name, is left alone.
    fn annotate<'a>(
        &'a self,
        pod: &'a PodFacts,
        enrolled: bool,
    ) -> BoxFuture<'a, Result<(), Error>>;
    /// The pod as it is now.
    fn pod<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<PodFacts>, Error>>;
    /// The namespace as it is now.
    fn namespace<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<NamespaceFacts>, Error>>;
    /// Tells the pod's owner, best effort.
    fn event<'a>(
        &'a self,
        pod: &'a PodFacts,
        reason: &'a str,
        message: &'a str,
    ) -> BoxFuture<'a, ()>;
    /// Whether our DaemonSet is gone or going: this node is being uninstalled, not upgraded.
    fn uninstalling(&self) -> BoxFuture<'_, Result<bool, Error>>;
}

pub(crate) struct Kubernetes {
    pub(crate) client: Client,
    pub(crate) node: String,
    pub(crate) system_namespace: String,
}

impl Kubernetes {
    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

impl Records for Kubernetes {
    fn annotate<'a>(
        &'a self,
        pod: &'a PodFacts,
        enrolled: bool,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let value = enrolled.then_some(REDIRECTION_ENABLED);
            // The UID makes the server refuse the patch for a successor with the same name.
            let patch = json!({ "metadata": { "uid": pod.uid, "annotations": { ANNOTATION_REDIRECTION: value } } });
            match tulle_cluster::merge_status(&self.pods(&pod.key.namespace), &pod.key.name, &patch)
                .await
            {
                Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
                outcome => outcome.map(drop),
            }
        })
    }

    fn pod<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<PodFacts>, Error>> {
        Box::pin(async move {
            let pod = tulle_cluster::get(&self.pods(&key.namespace), &key.name).await?;
            Ok(pod.as_ref().and_then(PodFacts::of))
        })
    }

    fn namespace<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<NamespaceFacts>, Error>> {
        Box::pin(async move {
            let api: Api<Namespace> = Api::all(self.client.clone());
            Ok(tulle_cluster::get(&api, name)
                .await?
                .as_ref()
                .map(NamespaceFacts::of))
        })
    }

    fn event<'a>(
        &'a self,
        pod: &'a PodFacts,
        reason: &'a str,
        message: &'a str,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let api: Api<Event> = Api::namespaced(self.client.clone(), &pod.key.namespace);
            let stamp = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let event = json!({
                "metadata": { "name": format!("{}.{:x}", pod.key.name, stamp.as_nanos()), "namespace": &*pod.key.namespace },
                "involvedObject": {
                    "apiVersion": "v1", "kind": "Pod", "uid": pod.uid,
                    "namespace": &*pod.key.namespace, "name": &*pod.key.name,
                },
                "type": "Warning", "reason": reason, "message": message, "count": 1,
                "source": { "component": NODE_AGENT, "host": self.node },
            });
            let Ok(event) = serde_json::from_value::<Event>(event) else {
                return;
            };
            if let Err(error) = tulle_cluster::create(&api, &event).await {
                tracing::debug!("cannot write an event on pod {}: {error}", pod.key);
            }
        })
    }

    fn uninstalling(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move {
            let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), &self.system_namespace);
            let found = tulle_cluster::get(&api, NODE_AGENT).await?;
            Ok(found.is_none_or(|set| set.metadata.deletion_timestamp.is_some()))
        })
    }
}
