//! Bounds of this crate, each named once.

use std::time::Duration;

/// Objects applied at the same time within one phase.
pub(crate) const PARALLEL_APPLIES: usize = 8;
/// Between two looks at what is not ready yet.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Events read per object when looking for a reason.
pub(crate) const EVENTS_READ: u32 = 50;
/// Not ready pods that are looked at for a reason, per component.
pub(crate) const PODS_EXPLAINED: usize = 3;
/// How long a CRD may take until the API server serves it.
pub(crate) const CRD_DEADLINE: Duration = Duration::from_secs(30);
/// How long one deleted workload's pods may take to end, beyond their grace period.
pub(crate) const PODS_GONE_DEADLINE: Duration = Duration::from_secs(90);
/// How long a deleted object may take to vanish.
pub(crate) const OBJECT_GONE_DEADLINE: Duration = Duration::from_secs(60);
/// Pods named in a message; more are counted.
pub(crate) const PODS_NAMED: usize = 5;
