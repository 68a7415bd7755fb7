//! Bounds of the control plane, each named once.

use std::time::Duration;

/// Changes from the API server that wait for the translating thread. A full queue stops reading
/// the watches: back-pressure, nothing is lost.
pub(crate) const CHANGES_WAITING: usize = 1024;
/// A batch of changes is published when nothing came for this long ...
pub(crate) const QUIET: Duration = Duration::from_millis(5);
/// ... and at the latest this long after its first change.
pub(crate) const LONGEST_BATCH: Duration = Duration::from_millis(50);
/// Most changes in one batch.
pub(crate) const BATCH: usize = 8192;

/// Token reviews that are remembered, ...
pub(crate) const TOKENS_REMEMBERED: usize = 4096;
/// ... and for how long: a token may outlive its expiry by this much, never its pod.
pub(crate) const TOKEN_REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Locks over which remembered tokens are spread, and so the most reviews asked at once.
pub(crate) const TOKEN_SHARDS: usize = 16;

/// How long a certificate request waits for a pod that the watch has not shown yet.
pub(crate) const POD_APPEARS_WITHIN: Duration = Duration::from_secs(2);

/// Life of the certificate on port 15012.
pub(crate) const SERVING_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// It is renewed after this part of its life.
pub(crate) const SERVING_RENEWAL: Duration = Duration::from_secs(12 * 3600);
/// Pause after a failed renewal.
pub(crate) const SERVING_RETRY: Duration = Duration::from_secs(10);

/// Root ConfigMaps written at the same time.
pub(crate) const ROOT_WRITES: usize = 8;
/// Pause before failed root ConfigMaps are tried again.
pub(crate) const ROOT_RETRY: Duration = Duration::from_secs(2);

/// Statuses that wait to be written. Beyond it the oldest is dropped; the next change or the
/// next leader writes it.
pub(crate) const STATUSES_WAITING: usize = 16_384;
/// Pause before a failed status is tried again.
pub(crate) const STATUS_RETRY: Duration = Duration::from_secs(2);
/// How often a failed status is tried.
pub(crate) const STATUS_TRIES: u32 = 5;

/// How often a status that somebody else changes is put right ...
pub(crate) const STATUS_HEALED: u32 = 8;
/// ... in this time.
pub(crate) const STATUS_HEALED_PER: Duration = Duration::from_secs(60);

/// How long the start waits for the CA Secret.
pub(crate) const AUTHORITY_RETRY: Duration = Duration::from_secs(1);
/// Pause before the API server is tried again at the start.
pub(crate) const CONNECT_RETRY: Duration = Duration::from_secs(1);
/// How long the start tries to reach the API server before it gives up (the pod is restarted).
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(60);
/// What an orderly end waits for: streams that are being answered.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);
/// Largest mesh configuration that is read.
pub(crate) const LONGEST_MESH_CONFIG: usize = 256 * 1024;

/// Published batches whose arrival is measured at the same time.
pub(crate) const CONVERGENCE_PENDING: usize = 256;
/// How often their arrival is looked at.
pub(crate) const CONVERGENCE_EVERY: Duration = Duration::from_millis(50);
/// A proxy that takes longer is not waited for.
pub(crate) const CONVERGENCE_LONGEST: Duration = Duration::from_secs(60);

/// Pause before a gateway is deployed again after a failure, or after somebody else changed what was made ...
pub(crate) const DEPLOY_FIRST: Duration = Duration::from_millis(500);
/// ... doubled each time up to this, ...
pub(crate) const DEPLOY_LONGEST: Duration = Duration::from_secs(60);
/// ... and short again after this long without trouble.
pub(crate) const DEPLOY_CALM: Duration = Duration::from_secs(120);
/// Longest overlay of one object, in bytes.
pub(crate) const LONGEST_OVERLAY: usize = 256 * 1024;
/// Deepest nesting of an overlay.
pub(crate) const OVERLAY_DEPTH: usize = 64;
/// Pause before GatewayClasses are tried again.
pub(crate) const CLASS_RETRY: Duration = Duration::from_secs(2);

/// Connections of the API server to the webhooks.
pub(crate) const WEBHOOK_CONNECTIONS: usize = 64;
/// How long one of them may live; the API server makes another.
pub(crate) const WEBHOOK_LIFE: Duration = Duration::from_secs(30 * 60);
/// Pause before something about webhooks is tried again.
pub(crate) const WEBHOOK_RETRY: Duration = Duration::from_secs(1);
/// Reports of the deployer that wait for the translating thread.
pub(crate) const REPORTS_WAITING: usize = 256;
