//! What the labels of objects and namespaces ask for.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::contract::{
    ANNOTATION_CANARY_WEIGHT, LABEL_INGRESS_USE_WAYPOINT, LABEL_USE_WAYPOINT,
    LABEL_USE_WAYPOINT_CANARY, LABEL_USE_WAYPOINT_CANARY_NAMESPACE, LABEL_USE_WAYPOINT_NAMESPACE,
    USE_WAYPOINT_NONE,
};

use crate::gateway::Named;
use crate::labels::Labels;

/// What the labels of an object or namespace say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UseWaypoint {
    pub(super) wish: Wish,
    pub(super) canary: Option<Reference>,
    /// Share of the canary in percent; `Some(None)` is no percentage.
    pub(super) weight: Option<Option<u32>>,
    /// Whether gateways send through the waypoint.
    pub(super) ingress: Option<bool>,
}

/// Which waypoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    #[default]
    Unset,
    /// No waypoint.
    No,
    Named(Reference),
}

/// A waypoint; in the object's own namespace when none is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    namespace: Option<Arc<str>>,
    name: Arc<str>,
}

impl Reference {
    fn of(labels: &Labels, name: &str, namespace: &str) -> Option<Self> {
        Some(Self {
            namespace: labels.get(namespace).cloned(),
            name: labels.get(name)?.clone(),
        })
    }

    pub(super) fn named(&self, own: &Arc<str>) -> Named {
        let namespace = self.namespace.as_ref().unwrap_or(own);
        (namespace.clone(), self.name.clone())
    }
}

impl UseWaypoint {
    /// Of labels alone, as pods and entries have them.
    pub(crate) fn of(labels: &Labels) -> Self {
        let primary = Reference::of(labels, LABEL_USE_WAYPOINT, LABEL_USE_WAYPOINT_NAMESPACE);
        let canary = Reference::of(
            labels,
            LABEL_USE_WAYPOINT_CANARY,
            LABEL_USE_WAYPOINT_CANARY_NAMESPACE,
        );
        let ingress = labels.get(LABEL_INGRESS_USE_WAYPOINT);
        Self {
            wish: match primary {
                None => Wish::Unset,
                Some(named) if *named.name == *USE_WAYPOINT_NONE => Wish::No,
                Some(named) => Wish::Named(named),
            },
            canary: canary.filter(|c| !c.name.is_empty() && *c.name != *USE_WAYPOINT_NONE),
            weight: None,
            ingress: ingress.map(|value| value.eq_ignore_ascii_case("true")),
        }
    }

    /// Of a service, entry or namespace: the share of a canary is an annotation.
    pub(crate) fn of_object(labels: &Labels, meta: &ObjectMeta) -> Self {
        let weight = meta
            .annotations
            .as_ref()
            .and_then(|a| a.get(ANNOTATION_CANARY_WEIGHT));
        Self {
            weight: weight.map(|text| text.parse().ok().filter(|weight| *weight <= 100)),
            ..Self::of(labels)
        }
    }

    /// Never a waypoint.
    pub(crate) fn no() -> Self {
        Self {
            wish: Wish::No,
            ..Self::default()
        }
    }

    /// Says nothing of a waypoint.
    pub(crate) fn is_unset(&self) -> bool {
        self.wish == Wish::Unset
    }

    /// Names this waypoint, for itself or as a canary. `own` is the object's namespace.
    pub(crate) fn names(&self, waypoint: &Named, own: &Arc<str>) -> bool {
        let primary = match &self.wish {
            Wish::Named(reference) => Some(reference),
            _ => None,
        };
        let mut all = primary.into_iter().chain(&self.canary);
        all.any(|reference| reference.named(own) == *waypoint)
    }
}
