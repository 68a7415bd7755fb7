//! Names and labels.

use std::collections::BTreeMap;

use tulle_api::contract::{DATAPLANE_MODE_NONE, LABEL_DATAPLANE_MODE, LABEL_REV, SYSTEM_NAMESPACE};
use tulle_api::k8s_openapi::api::core::v1::Namespace;
use tulle_api::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use tulle_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// Kubernetes' recommended label for who installed an object.
pub(crate) const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Our value of it: what carries another value (Helm's, say) is not ours.
pub(crate) const MANAGED_BY: &str = "tulle";

pub(super) type Labels = BTreeMap<String, String>;

/// A part of the mesh: the labels by which Istio's tools and dashboards find it.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// `app.kubernetes.io/name`.
    pub(super) name: &'static str,
    /// Labels that select its pods.
    pub(super) selector: &'static [(&'static str, &'static str)],
    /// More labels on everything that belongs to it.
    pub(super) more: &'static [(&'static str, &'static str)],
}

pub(super) const ISTIOD: Part = Part {
    name: "istiod",
    selector: &[("app", "istiod"), ("istio", "pilot")],
    more: &[("operator.istio.io/component", "Pilot")],
};
pub(super) const CNI: Part = Part {
    name: "istio-cni",
    selector: &[("k8s-app", "istio-cni-node")],
    more: &[("operator.istio.io/component", "Cni")],
};
pub(super) const ZTUNNEL: Part = Part {
    name: "ztunnel",
    selector: &[("app", "ztunnel")],
    more: &[("operator.istio.io/component", "Ztunnel")],
};

impl Part {
    /// Labels of its objects.
    pub(super) fn labels(&self) -> Labels {
        let own = self.selector.iter().chain(self.more).copied();
        let common = [
            ("app.kubernetes.io/name", self.name),
            ("app.kubernetes.io/part-of", "istio"),
            ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
            (LABEL_MANAGED_BY, MANAGED_BY),
            (LABEL_REV, "default"),
        ];
        table(own.chain(common))
    }

    /// Labels of its pods: never part of the mesh themselves.
    pub(super) fn pod_labels(&self) -> Labels {
        let mut labels = self.labels();
        labels.extend(table([
            (LABEL_DATAPLANE_MODE, DATAPLANE_MODE_NONE),
            ("sidecar.istio.io/inject", "false"),
        ]));
        labels
    }

    /// What selects its pods.
    pub(super) fn label_selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: Some(table(self.selector.iter().copied())),
            ..Default::default()
        }
    }

    /// Metadata of an object in the system namespace.
    pub(super) fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            namespace: Some(super::NAMESPACE.to_owned()),
            ..self.cluster_metadata(name)
        }
    }

    /// Metadata of a cluster-wide object.
    pub(super) fn cluster_metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(self.labels()),
            ..Default::default()
        }
    }
}

pub(super) fn table<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `istio-system`. Its node parts need more than the stricter Pod Security levels permit.
pub(super) fn namespace() -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(SYSTEM_NAMESPACE.to_owned()),
            labels: Some(table([(
                "pod-security.kubernetes.io/enforce",
                "privileged",
            )])),
            ..Default::default()
        },
        ..Default::default()
    }
}

/// A resource definition with the label that says who installed it.
pub(super) fn adopt(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let labels = definition.metadata.labels.get_or_insert_default();
    labels.extend(table([
        (LABEL_MANAGED_BY, MANAGED_BY),
        ("app.kubernetes.io/part-of", "istio"),
    ]));
    definition
}
