//! Routes of connections: TCPRoute, TLSRoute, and the `tcp` and `tls` parts of VirtualService.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Backend, HostPattern, ObjectKey, Parent, Precedence};

/// The routes of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamRoute {
    /// Of what it was made.
    pub object: ObjectKey,
    /// Where it counts.
    pub parents: Vec<Parent>,
    /// When the object was created, in seconds since 1970.
    pub created: i64,
    /// Which rule wins.
    pub precedence: Precedence,
    /// In the order of the object.
    pub rules: Vec<StreamRule>,
}

/// Where the connections that match go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamRule {
    /// Of the user; for logs.
    #[serde(default)]
    pub name: Option<Arc<str>>,
    /// Any of them; empty matches everything.
    #[serde(default)]
    pub matches: Vec<StreamMatch>,
    /// By weight; none usable: the connection is reset.
    pub backends: Vec<Backend>,
}

/// All fields must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamMatch {
    /// Any of them; empty matches any, and connections without TLS.
    #[serde(default)]
    pub sni: Vec<HostPattern>,
    /// Port that the connection was addressed to.
    #[serde(default)]
    pub port: Option<u16>,
    /// Any of them; empty matches any.
    #[serde(default)]
    pub destinations: Vec<IpNet>,
    /// Namespace of the client.
    #[serde(default)]
    pub source_namespace: Option<Arc<str>>,
}
