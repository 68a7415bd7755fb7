//! Why the node proxy cannot run, and why a connection fails.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tulle_hbone::OpenError;
use tulle_identity::GetError;
use tulle_model::{NoEndpoint, ServiceKey};
use tulle_telemetry::ResponseFlags;

/// Why the node proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment holds a value that cannot be used.
    #[error("{name}={value:?} cannot be used: {why}")]
    Option {
        /// The environment variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        why: String,
    },
    /// A port of the proxy's own is taken.
    #[error("cannot listen on port {port} for {what}: {source}; is another proxy running here?")]
    Listen {
        /// What would have been served.
        what: &'static str,
        /// Where.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// The machine refused a resource.
    #[error("cannot {what}: {source}")]
    Resource {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The parent process that keeps the sockets.
    #[error(transparent)]
    Keeper(#[from] tulle_daemon::keeper::ClientError),
    /// The parent process itself.
    #[error(transparent)]
    Parent(#[from] tulle_daemon::keeper::KeeperError),
    /// The node agent broke its protocol.
    #[error("the node agent at {} broke its protocol: {what}; are both of a version that belongs together?", socket.display())]
    Agent {
        /// Its socket.
        socket: PathBuf,
        /// What it sent.
        what: String,
    },
    /// A worker thread panicked; the keeper starts another process.
    #[error("worker thread {0} panicked")]
    Worker(usize),
}

/// Why one connection fails. The text goes to the log; the peer learns only that it failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(
        "the pod {0} is not known to the mesh yet: its workload did not arrive from the control plane"
    )]
    UnknownPod(Arc<str>),
    #[error("the pod's own proxy port {0} was dialled")]
    OwnPort(u16),
    #[error("service {service} cannot take a connection to port {port}: {why}")]
    NoEndpoint {
        service: ServiceKey,
        port: u16,
        why: NoEndpointText,
    },
    #[error("{of} is behind waypoint {waypoint}, but {why}; refused rather than led past it")]
    Waypoint {
        of: Arc<str>,
        waypoint: Arc<str>,
        why: NoWaypoint,
    },
    #[error("it came around waypoint {0}, through which all traffic must come")]
    Bypassed(Arc<str>),
    #[error(transparent)]
    Lookup(#[from] tulle_dns::LookupError),
    #[error("workload {0} has no address that can be dialled")]
    NoAddress(Arc<str>),
    #[error("workload {0} is in another network, whose gateway this version cannot use")]
    OtherNetwork(Arc<str>),
    #[error("no certificate for this pod: {0}")]
    Certificate(#[from] GetError),
    #[error("cannot connect to {to}: {error}")]
    Dial {
        to: SocketAddr,
        error: Arc<io::Error>,
    },
    #[error("cannot connect to {to} within {after:?}{hint}")]
    DialTimeout {
        to: SocketAddr,
        after: Duration,
        hint: &'static str,
    },
    #[error("{0}")]
    Tunnel(tulle_hbone::Error),
    #[error("{0}")]
    Open(tulle_hbone::OpenError),
    #[error("policy rejection: {0}")]
    Denied(Arc<str>),
    #[error("policy rejection while connected: {0}")]
    DeniedLater(Arc<str>),
    #[error("the authority {0:?} does not belong to this pod")]
    Authority(Arc<str>),
    #[error("the authority {0:?} names a service that this pod does not serve on that port")]
    UnknownService(Arc<str>),
    #[error("cannot use the connection: {0}")]
    Socket(Arc<io::Error>),
    #[error("too many connections: {0} are open on this worker")]
    Full(usize),
    #[error("the peer reset the connection (HTTP/2 code {0})")]
    PeerReset(u32),
    #[error("the proxy is ending, and the connection was still open at its deadline")]
    Drained,
    #[error("the pod was removed from the mesh")]
    Removed,
}

/// What keeps a waypoint from being reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoWaypoint {
    #[error("the mesh does not know it (is its Gateway still there?)")]
    Unknown,
    #[error("it has no port {0}")]
    Port(u16),
    #[error("it has no endpoint (does its Deployment run?)")]
    Empty,
    #[error("none of its endpoints is ready")]
    Unhealthy,
    #[error("none of its endpoints is where its traffic must stay")]
    Scope,
}

/// A reason of the model in words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoEndpointText(pub(crate) NoEndpoint);

impl std::fmt::Display for NoEndpointText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            NoEndpoint::Port => "it has no such port",
            NoEndpoint::Empty => "it has no endpoint",
            NoEndpoint::Unhealthy => "none of its endpoints is healthy",
            NoEndpoint::Scope => "no endpoint is where its traffic must stay",
        })
    }
}

/// Said where a packet filter is the likely cause.
pub(crate) const NETWORK_POLICY_HINT: &str =
    "; does a NetworkPolicy block HBONE port 15008 between the two pods?";

impl Failure {
    pub(crate) fn flags(&self) -> ResponseFlags {
        match self {
            Self::Denied(_) | Self::DeniedLater(_) | Self::Bypassed(_) => ResponseFlags::Denied,
            Self::Certificate(_) => ResponseFlags::Identity,
            Self::DialTimeout { hint, .. } if !hint.is_empty() => ResponseFlags::NetworkPolicy,
            Self::Tunnel(error) => lost(error),
            Self::Open(error) => match error {
                OpenError::Tunnel(error) => lost(error),
                OpenError::Unsure(error) => Self::Open((**error).clone()).flags(),
                _ => ResponseFlags::Connect,
            },
            _ => ResponseFlags::Connect,
        }
    }

    /// Whether another endpoint may do better. Only asked while no byte was moved.
    pub(crate) fn another_may_answer(&self) -> bool {
        match self {
            Self::Dial { .. } | Self::DialTimeout { .. } | Self::Tunnel(_) | Self::Lookup(_) => {
                true
            }
            Self::Open(OpenError::Refused { status }) => *status == 503,
            Self::Open(OpenError::Invalid(_) | OpenError::Unsure(_)) => false,
            Self::Open(_) => true,
            _ => false,
        }
    }
}

fn lost(tunnel: &tulle_hbone::Error) -> ResponseFlags {
    match tunnel {
        tulle_hbone::Error::Tls(_) => ResponseFlags::TlsFailure,
        _ => ResponseFlags::Http2Handshake,
    }
}

/// How a relay's end is reported: nothing when it was in order.
pub(crate) fn relay_failure(
    reason: &tulle_hbone::EndReason,
    denial: Option<Arc<str>>,
) -> Option<Failure> {
    use tulle_hbone::{EndReason, StopReason};
    match reason {
        // An application that resets its connection does as it likes; it was passed on.
        EndReason::Clean | EndReason::AppReset => None,
        // NO_ERROR and CANCEL read as the end of the stream.
        EndReason::PeerReset(0 | 8) => None,
        EndReason::PeerReset(code) => Some(Failure::PeerReset(*code)),
        EndReason::Tunnel(error) => Some(Failure::Tunnel(error.clone())),
        EndReason::Stopped(StopReason::Policy) => Some(Failure::DeniedLater(
            denial.unwrap_or_else(|| "denied".into()),
        )),
        EndReason::Stopped(StopReason::Drain) => Some(Failure::Drained),
        EndReason::Stopped(StopReason::Removed) => Some(Failure::Removed),
    }
}
