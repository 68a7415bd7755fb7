//! What the control plane made for Gateways: Deployments, Services, accounts, scalers, budgets, and the GatewayClasses.
//! The Gateways themselves are the user's.

use tulle_api::contract::{
    CLASS_ISTIO, CLASS_WAYPOINT, LABEL_GATEWAY_MANAGED, MANAGED_GATEWAY_CONTROLLER,
    MANAGED_MESH_CONTROLLER,
};
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};

use super::Run;
use crate::error::Error;
use crate::manifests::{LABEL_MANAGED_BY, MANAGED_BY};

/// Group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 5] = [
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
    ("apps", "v1", "Deployment", "deployments"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
];

impl Run<'_> {
    pub(super) async fn remove_deployed(&self) -> Result<usize, Error> {
        let mut deleted = 0;
        for (group, version, kind, plural) in KINDS {
            let kind = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk_with_plural(&kind, plural);
            for manager in [MANAGED_GATEWAY_CONTROLLER, MANAGED_MESH_CONTROLLER] {
                let selector = format!("{LABEL_GATEWAY_MANAGED}={manager}");
                deleted += self.remove_all(&resource, &selector).await?;
            }
        }
        Ok(deleted + self.remove_classes().await?)
    }

    async fn remove_all(&self, resource: &ApiResource, selector: &str) -> Result<usize, Error> {
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        let mut deleted = 0;
        for object in tulle_cluster::list(&all, Some(selector)).await? {
            let namespace = object.namespace().unwrap_or_default();
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &namespace, resource);
            deleted += usize::from(tulle_cluster::delete(&api, &object.name_any()).await?);
        }
        Ok(deleted)
    }

    /// Those that a control plane of ours made; without the Gateway API there are none.
    async fn remove_classes(&self) -> Result<usize, Error> {
        let mut deleted = 0;
        for name in [CLASS_ISTIO, CLASS_WAYPOINT] {
            let class = serde_json::json!({
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "GatewayClass",
                "metadata": { "name": name },
            });
            let Some(found) = self.objects.get(&class).await? else {
                continue;
            };
            if found.labels().get(LABEL_MANAGED_BY).map(String::as_str) == Some(MANAGED_BY) {
                deleted += usize::from(self.objects.delete(&class).await?);
            }
        }
        Ok(deleted)
    }
}
