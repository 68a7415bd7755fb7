//! What waypoints and gateways are told, and which of them.

use std::collections::BTreeSet;
use std::hash::Hasher;
use std::io;
use std::sync::Arc;

use serde::Serialize;
use tulle_api::contract;
use tulle_policy::http::HttpPolicy;
use tulle_policy::jwt::Authentication;
use tulle_policy::observe::Telemetry;
use tulle_policy::settings::ProxySettings;
use tulle_route::resource::{
    Certificate, DestinationPolicy, Gateway, HttpRoute, RateLimit, StreamRoute,
};

/// Names a resource among all that are sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// Its type on the wire.
    pub type_url: &'static str,
    /// Its name, unique in its type.
    pub name: Arc<str>,
}

/// Which proxies may have a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Every waypoint and gateway.
    Everyone,
    /// Those of these Gateways, `namespace/name`.
    Gateways(BTreeSet<Arc<str>>),
}

impl Audience {
    /// Whether a proxy of this Gateway (`namespace/name`) belongs to it.
    pub fn has(&self, gateway: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Gateways(names) => names.contains(gateway),
        }
    }
}

/// A resource of one of the types; serialises as the resource itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the names are the types'")]
pub enum Resource {
    Gateway(Box<Gateway>),
    Certificate(Box<Certificate>),
    HttpRoute(Box<HttpRoute>),
    StreamRoute(Box<StreamRoute>),
    Destination(Box<DestinationPolicy>),
    HttpPolicy(Box<HttpPolicy>),
    Authentication(Box<Authentication>),
    RateLimit(Box<RateLimit>),
    Telemetry(Box<Telemetry>),
    Settings(Box<ProxySettings>),
}

impl Resource {
    /// Its type on the wire.
    pub fn type_url(&self) -> &'static str {
        match self {
            Self::Gateway(_) => contract::TYPE_GATEWAY,
            Self::Certificate(_) => contract::TYPE_CERTIFICATE,
            Self::HttpRoute(_) => contract::TYPE_HTTP_ROUTE,
            Self::StreamRoute(_) => contract::TYPE_STREAM_ROUTE,
            Self::Destination(_) => contract::TYPE_DESTINATION,
            Self::HttpPolicy(_) => contract::TYPE_HTTP_POLICY,
            Self::Authentication(_) => contract::TYPE_AUTHENTICATION,
            Self::RateLimit(_) => contract::TYPE_RATE_LIMIT,
            Self::Telemetry(_) => contract::TYPE_TELEMETRY,
            Self::Settings(_) => contract::TYPE_PROXY_SETTINGS,
        }
    }

    /// Its name on the wire.
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::Gateway(gateway) => format!("{}/{}", gateway.namespace, gateway.name).into(),
            Self::Certificate(certificate) => certificate.name.clone(),
            Self::HttpRoute(route) => route.object.text().clone(),
            Self::StreamRoute(route) => route.object.text().clone(),
            Self::Destination(policy) => policy.name().into(),
            Self::HttpPolicy(policy) => policy.name.clone(),
            Self::Authentication(authentication) => authentication.name.clone(),
            Self::RateLimit(limit) => limit.object.text().clone(),
            Self::Telemetry(telemetry) => telemetry.gateway.clone(),
            Self::Settings(_) => tulle_policy::settings::NAME.into(),
        }
    }

    /// Both.
    pub fn key(&self) -> ResourceKey {
        ResourceKey {
            type_url: self.type_url(),
            name: self.name(),
        }
    }

    /// Adds what is sent to a fingerprint.
    pub(crate) fn fingerprint(&self, hasher: &mut impl Hasher) {
        // Writing into a hasher cannot fail, and all maps have texts as keys.
        let _ = serde_json::to_writer(Sink(hasher), self);
    }
}

struct Sink<'a, H>(&'a mut H);

impl<H: Hasher> io::Write for Sink<'_, H> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
