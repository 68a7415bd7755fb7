//! Every bound of this crate, each named once.

use std::time::Duration;

/// Longest ZDS message; the node proxy reads into a buffer of this size.
pub(crate) const ZDS_MESSAGE: usize = 1024;
/// How long a proxy may take to say hello and to answer each message.
pub(crate) const ZDS_ACK_DEADLINE: Duration = Duration::from_secs(5);
/// Proxies connected at the same time: two during a rolling update, the rest is headroom.
pub(crate) const ZDS_PROXIES: usize = 8;
/// Pause after each accepted proxy: at most five per second.
pub(crate) const ZDS_ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Commands that wait for one proxy.
pub(crate) const ZDS_QUEUE: usize = 1024;
/// How long enrolling a pod waits for a proxy to be there and to take it.
pub(crate) const ZDS_ADD_DEADLINE: Duration = Duration::from_secs(10);
/// How long leaving waits for the proxies to let go.
pub(crate) const ZDS_DEL_DEADLINE: Duration = Duration::from_secs(6);

/// How long a leaving pod is still served on its HBONE port, until all peers know that it left.
pub(crate) const LEAVING_GRACE: Duration = Duration::from_secs(3);

/// How long the agent's end waits for pods that are leaving; within the pod's termination grace of 30 s.
pub(crate) const DEPARTURES_DEADLINE: Duration = Duration::from_secs(10);

/// Time between two looks at pods that are leaving.
pub(crate) const DEPARTURES_LOOK: Duration = Duration::from_millis(50);
/// First and longest pause before a failed step is tried again.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(200);
/// See [`RETRY_FIRST`].
pub(crate) const RETRY_LONGEST: Duration = Duration::from_secs(15);
/// How often rules are looked at.
pub(crate) const REPAIR_INTERVAL: Duration = Duration::from_secs(3);
/// Blocking kernel work (nft, scans of /proc) under way at the same time.
pub(crate) const BLOCKING_WORK: usize = 4;
/// A scan of /proc serves everybody who asks within this time.
pub(crate) const SCAN_FRESH: Duration = Duration::from_millis(300);
/// Pods of one node that are kept track of; the kubelet's own limit is far lower.
pub(crate) const PODS: usize = 4096;

/// Longest request or answer on the plugin socket.
pub(crate) const PLUGIN_MESSAGE: u32 = 64 * 1024;
/// Plugin calls under way at the same time; more wait in the socket's queue.
pub(crate) const PLUGIN_CALLS: usize = 64;
/// How long a plugin may take to send its request.
pub(crate) const PLUGIN_READ_DEADLINE: Duration = Duration::from_secs(5);
/// How long a plugin call may take; the plugin itself gives up after 30 s.
pub(crate) const PLUGIN_CALL_DEADLINE: Duration = Duration::from_secs(25);
/// One question to the API server on behalf of the plugin, before what is known already must do.
pub(crate) const PLUGIN_LOOKUP_DEADLINE: Duration = Duration::from_secs(3);

/// How often the CNI directories are looked at.
pub(crate) const INSTALL_INTERVAL: Duration = Duration::from_secs(2);
/// Largest CNI configuration file that is touched.
pub(crate) const CNI_CONFIG: u64 = 1 << 20;
/// Files in the CNI configuration directory that are looked at.
pub(crate) const CNI_FILES: usize = 256;
/// How long the last question (is our DaemonSet gone?) may take when ending.
pub(crate) const GOODBYE_DEADLINE: Duration = Duration::from_secs(5);
