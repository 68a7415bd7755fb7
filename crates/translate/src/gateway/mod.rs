//! The Gateway API: gateways, waypoints, routes, and what their users are told.
//!
//! In two steps. A Gateway, its ListenerSets and what they refer to are brought into one [`listeners::View`] (and, for waypoints,
//! into [`crate::waypoint::WaypointFacts`]). Only when a view changed are the routes that are attached to it looked at again.

mod addresses;
mod allowed;
mod backend_tls;
mod backends;
mod class;
mod deployable;
mod filters;
mod grants;
mod grpc;
mod hostname;
mod http;
mod ingest;
mod listeners;
mod mark;
mod output;
mod parents;
mod references;
mod routes;
mod secret;
mod state;
mod status;
mod tls;
mod told;
mod waypoints;

use std::sync::Arc;

use crate::cluster::{Cluster, Outputs};
use crate::condition::{Condition, ObjectKind, ObjectRef};

pub(crate) use allowed::Allowed;
pub use deployable::{Deployable, DeployedPort, NotDeployed};
pub(crate) use state::{Named, State};
pub use status::{
    AncestorStatus, Class, GatewayClassStatus, GatewayStatus, ListenerSetStatus, ListenerStatus,
    ParentStatus, PolicyStatus, RouteStatus, Status, StatusAddress,
};

#[cfg(test)]
pub(crate) use hostname::intersect;

/// Things of the Gateway API that give outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Namespace and name; likewise below. What its proxies are told, and what is deployed.
    Gateway(Arc<str>, Arc<str>),
    /// What its users are told.
    GatewayStatus(Arc<str>, Arc<str>),
    ListenerSet(Arc<str>, Arc<str>),
    /// A Secret.
    Certificate(Arc<str>, Arc<str>),
    BackendTls(Arc<str>, Arc<str>),
    Route(RouteId),
    Class(Arc<str>),
}

/// Kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum RouteKind {
    Http,
    Grpc,
    Tls,
    Tcp,
}

impl RouteKind {
    /// Kubernetes kind.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
        }
    }

    fn object(self) -> ObjectKind {
        match self {
            Self::Http => ObjectKind::HttpRoute,
            Self::Grpc => ObjectKind::GrpcRoute,
            Self::Tls => ObjectKind::TlsRoute,
            Self::Tcp => ObjectKind::TcpRoute,
        }
    }
}

/// Names a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RouteId {
    pub(crate) kind: RouteKind,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl RouteId {
    fn object(&self) -> ObjectRef {
        ObjectRef {
            kind: self.kind.object(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// Why something is not as the user wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Problem {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// A condition that is `True` with a word and a message, or `False` for a problem.
fn condition(
    kind: &'static str,
    problem: Option<&Problem>,
    fine: (&'static str, &str),
    generation: Option<i64>,
) -> Condition {
    Condition {
        kind,
        status: problem.is_none(),
        reason: problem.map_or(fine.0, |p| p.reason),
        message: problem.map_or_else(|| fine.1.to_owned(), |p| p.message.clone()),
        observed_generation: generation,
    }
}

impl Cluster {
    /// What a source gives.
    pub(crate) fn compute_gateway(&self, source: &Source) -> Outputs {
        let named = |namespace: &Arc<str>, name: &Arc<str>| (namespace.clone(), name.clone());
        let outputs = match source {
            Source::Gateway(namespace, name) => self.gateway_outputs(&named(namespace, name)),
            Source::GatewayStatus(namespace, name) => self.gateway_status(&named(namespace, name)),
            Source::ListenerSet(namespace, name) => self.set_status(&named(namespace, name)),
            Source::Certificate(namespace, name) => {
                self.certificate_output(&named(namespace, name))
            }
            Source::BackendTls(namespace, name) => self.backend_tls_status(&named(namespace, name)),
            Source::Route(id) => self.route(id),
            Source::Class(name) => self.class_status(name),
        };
        outputs.unwrap_or_default()
    }
}
