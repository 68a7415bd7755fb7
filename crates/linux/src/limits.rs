//! Every bound of this crate, each named once.

use std::time::Duration;

/// How long one `nft` call may take before it is killed.
pub(crate) const NFT_DEADLINE: Duration = Duration::from_secs(10);
/// How long the kernel may take to put conntrack away after the last rule that needs it is gone.
pub(crate) const CONNTRACK_GOES: Duration = Duration::from_millis(250);
/// How much output of one `nft` call is kept; a listing of our table has about 4 KiB.
pub(crate) const NFT_OUTPUT: u64 = 1 << 20;
/// One netlink datagram as the kernel sends it (it never exceeds 32 KiB).
pub(crate) const NETLINK_BUFFER: usize = 32 * 1024;
/// How long the kernel may take to answer a netlink request.
pub(crate) const NETLINK_DEADLINE: Duration = Duration::from_secs(5);
/// Accept queue asked for; the kernel lowers it to `net.core.somaxconn` of the namespace.
pub(crate) const ACCEPT_QUEUE: i32 = 65_535;
/// Connections that may wait on a SOCK_SEQPACKET listener.
pub(crate) const SEQPACKET_QUEUE: i32 = 64;
/// File descriptors in one message; SCM_MAX_FD of the kernel is 253.
pub(crate) const DESCRIPTORS_PER_MESSAGE: usize = 64;
/// How much of `/proc/PID/cgroup` is read; hybrid hierarchies have about a dozen lines.
pub(crate) const CGROUP_FILE: u64 = 16 * 1024;
/// Largest sealed blob accepted back.
pub(crate) const SEALED_BLOB: u64 = 256 << 20;
/// TCP keepalive of dialled sockets: idle time and interval.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(180);
/// TCP keepalive probes before a peer counts as gone.
pub(crate) const KEEPALIVE_PROBES: u32 = 9;
