//! Which waypoint an object asks for.

use std::sync::Arc;

use tulle_api::contract::{
    CONDITION_WAYPOINT_BOUND, LABEL_USE_WAYPOINT, LABEL_USE_WAYPOINT_NAMESPACE, USE_WAYPOINT_NONE,
};

use crate::condition::{Condition, reason};
use crate::labels::Labels;

/// What the labels of an object or namespace say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum UseWaypoint {
    /// Nothing.
    #[default]
    Unset,
    /// No waypoint.
    No,
    /// This one; in the object's own namespace when none is named.
    Named {
        namespace: Option<Arc<str>>,
        name: Arc<str>,
    },
}

impl UseWaypoint {
    pub(crate) fn of(labels: &Labels) -> Self {
        match labels.get(LABEL_USE_WAYPOINT) {
            None => Self::Unset,
            Some(name) if **name == *USE_WAYPOINT_NONE => Self::No,
            Some(name) => {
                let namespace = labels.get(LABEL_USE_WAYPOINT_NAMESPACE).cloned();
                Self::Named {
                    namespace,
                    name: name.clone(),
                }
            }
        }
    }
}

/// The condition of an object whose own label, or else its namespace's, asks for a waypoint.
///
/// This version has no waypoints, so traffic keeps its L4 protection, as Istio does while a waypoint is not ready.
pub(crate) fn binding(
    own: &UseWaypoint,
    inherited: &UseWaypoint,
    namespace: &str,
    generation: Option<i64>,
) -> Option<Condition> {
    let effective = if *own == UseWaypoint::Unset {
        inherited
    } else {
        own
    };
    let UseWaypoint::Named {
        namespace: other,
        name,
    } = effective
    else {
        return None;
    };
    let namespace = other.as_deref().unwrap_or(namespace);
    Some(Condition {
        kind: CONDITION_WAYPOINT_BOUND,
        status: false,
        reason: reason::WAYPOINT_IS_NOT_READY,
        message: format!(
            "waypoint {namespace}/{name} is not ready (this version of Tulle has no waypoints yet): \
             traffic is protected at layer 4 only"
        ),
        observed_generation: generation,
    })
}
