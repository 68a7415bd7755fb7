//! Every bound of the playground, by name.

use std::time::Duration;

/// Most nodes of one playground: each has a /24 of the pod range.
pub(crate) const NODES: usize = 8;
/// How long a machine's init may take to mount its view of the host.
pub(crate) const MACHINE_START: Duration = Duration::from_secs(20);
/// How long containerd may take until its socket answers.
pub(crate) const CONTAINERD_START: Duration = Duration::from_secs(60);
/// How long etcd and the API server may take until `/readyz` says ok.
pub(crate) const API_SERVER_START: Duration = Duration::from_secs(120);
/// How long the nodes may take to become Ready, and cluster DNS and kube-proxy to answer, after the API server.
pub(crate) const CLUSTER_START: Duration = Duration::from_secs(120);
/// How long processes that were killed may take to vanish.
pub(crate) const PROCESSES_END: Duration = Duration::from_secs(15);
/// How long one `up` or `down` waits for another that is at work on the same playground.
pub(crate) const OTHER_AT_WORK: Duration = Duration::from_secs(180);
/// Pause between two looks at something that is starting or ending.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// Pause between two looks that cost a kubectl.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(150);
/// Connect, read and write deadline of one health request.
pub(crate) const HEALTH_REQUEST: Duration = Duration::from_secs(1);
/// Most bytes read of a health answer.
pub(crate) const HEALTH_ANSWER: usize = 16 * 1024;
/// Lines of a component's log that an error shows.
pub(crate) const LOG_TAIL_LINES: usize = 15;
/// Bytes at the end of a log that are searched for those lines.
pub(crate) const LOG_TAIL_BYTES: u64 = 16 * 1024;
/// Inotify instances that a playground of two nodes uses (24: kubelet has twelve), with a few to spare.
pub(crate) const INOTIFY_INSTANCES: usize = 28;
/// Free disk space below which nothing is started: kubelet would evict pods, etcd would stop.
pub(crate) const FREE_DISK: u64 = 2 << 30;
/// Free disk space that building from nothing needs (Go's module and build caches included).
pub(crate) const FREE_DISK_BUILD: u64 = 6 << 30;
/// Validity of certificates, in days. A playground is thrown away long before.
pub(crate) const CERTIFICATE_DAYS: u32 = 365;
