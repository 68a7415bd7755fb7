//! The bounds of this crate.

use std::time::Duration;

/// How long a connection waits for discovery to tell who its own pod is (Istio's value).
pub const LOCAL_WORKLOAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long a TCP connection may take to come about (Istio's value).
pub const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// How long an application whose connection is refused has to see that it was connected at all.
pub const REFUSAL_PAUSE: Duration = Duration::from_millis(100);
/// Endpoints that are tried for one connection before it fails.
pub const ENDPOINT_ATTEMPTS: usize = 3;
/// Connections of one worker; beyond that the newest are refused.
pub const CONNECTIONS_PER_WORKER: usize = 200_000;
/// Inbound tunnels of one worker; beyond that the newest are refused.
pub const TUNNELS_PER_WORKER: usize = 20_000;
/// Connections of one worker that an admin page shows.
pub const CONNECTIONS_SHOWN: usize = 5_000;
/// Commands that wait for a worker.
pub const WORKER_COMMANDS: usize = 64;
/// How often the bytes of live connections are added to the metrics.
pub const BYTES_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after accept failed for want of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Live connections that are checked against new policies before the worker looks at its sockets again.
pub const CHECKS_AT_ONCE: usize = 512;
/// One message of the node agent (Istio's value), with room.
pub const ZDS_MESSAGE: usize = 4096;
/// First pause before the node agent is dialled again.
pub const ZDS_RECONNECT_MIN: Duration = Duration::from_millis(10);
/// Longest pause before the node agent is dialled again.
pub const ZDS_RECONNECT_MAX: Duration = Duration::from_secs(15);
/// How often a pod whose listeners could not be opened is tried again.
pub const POD_RETRY: Duration = Duration::from_secs(5);
/// Pods of one node proxy (the kubelet's own limit is far below).
pub const PODS: usize = 4096;
/// What is sealed for a successor is written at most this often.
pub const SEAL_INTERVAL: Duration = Duration::from_secs(1);
/// Of all time, at most one part in this many goes into sealing.
pub const SEAL_SHARE: u32 = 50;
/// Text of a header that a peer sent and that is looked at.
pub const PEER_HEADER: usize = 4096;
/// Text of an authority that a peer sent and that is logged.
pub const PEER_AUTHORITY: usize = 280;
/// How long a pod that left still takes tunnels, for peers that do not know yet, and keeps the connections that it has.
pub const POD_LINGER: Duration = Duration::from_secs(2);
/// What is left for connections to close after the drain's deadline.
pub const LAST_TURN: Duration = Duration::from_millis(500);
