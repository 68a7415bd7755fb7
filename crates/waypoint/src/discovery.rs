//! From discovery's batches to snapshots.

use std::collections::HashSet;
use std::sync::Arc;

use tulle_daemon::Condition;
use tulle_model::{Interner, ServiceKey};
use tulle_policy::Envelope;
use tulle_policy::expression::Expression;
use tulle_policy::http::HttpPolicy;
use tulle_policy::jwt::Authentication;
use tulle_policy::observe::Telemetry;
use tulle_policy::settings::ProxySettings;
use tulle_proto::{
    ADDRESS_TYPE, AUTHENTICATION_TYPE, AddressItem, CERTIFICATE_TYPE, DESTINATION_TYPE,
    GATEWAY_TYPE, HTTP_POLICY_TYPE, HTTP_ROUTE_TYPE, PROXY_SETTINGS_TYPE, RATE_LIMIT_TYPE,
    STREAM_ROUTE_TYPE, TELEMETRY_TYPE, decode_address, json,
};
use tulle_route::resource::{
    Certificate, DestinationPolicy, Gateway, HttpRoute, ObjectKey, RateLimit, StreamRoute,
};
use tulle_telemetry::{Counter, CounterFamily, Registry};
use tulle_xds::client::{Batch, Event, Handler, Rejection, Resource, gateway_types};

use crate::observe::{Logs, expressions};
use crate::state::{Own, Snapshot, State};

/// Who we are: to find ourselves in the mesh.
pub(crate) struct Me {
    pub(crate) namespace: String,
    pub(crate) pod: String,
}

/// Applies what the control plane sends.
pub(crate) struct Discovery {
    me: Me,
    state: Arc<State>,
    texts: Interner,
    /// Types that were not complete yet.
    missing: HashSet<String>,
    condition: Condition,
    metrics: Metrics,
    on_connect: Box<dyn Fn() + Send>,
}

struct Metrics {
    messages: CounterFamily,
    bytes: CounterFamily,
    terminations: CounterFamily,
    rejected: Counter,
}

impl Discovery {
    /// `on_connect` is called for every new stream.
    pub(crate) fn new(
        me: Me,
        state: Arc<State>,
        registry: &Registry,
        condition: Condition,
        on_connect: impl Fn() + Send + 'static,
    ) -> Self {
        Self {
            me,
            state,
            texts: Interner::default(),
            missing: gateway_types().into_iter().collect(),
            condition,
            metrics: Metrics {
                messages: registry.counter(
                    "istio_xds_message",
                    "Discovery messages received",
                    &["url"],
                ),
                bytes: registry.counter(
                    "istio_xds_message_bytes",
                    "Bytes of discovery resources received",
                    &["url"],
                ),
                terminations: registry.counter(
                    "istio_xds_connection_terminations",
                    "Discovery streams that ended",
                    &["reason"],
                ),
                rejected: registry
                    .counter(
                        "tulle_xds_rejected",
                        "Discovery resources that could not be used",
                        &[],
                    )
                    .get(),
            },
            on_connect: Box::new(on_connect),
        }
    }

    fn upsert(
        &mut self,
        type_url: &str,
        snapshot: &mut Snapshot,
        resource: &Resource,
    ) -> Result<(), String> {
        let body = &resource.body;
        match type_url {
            ADDRESS_TYPE => match decode_address(body, &mut self.texts).map_err(text)? {
                AddressItem::Workload(workload) => snapshot.mesh.insert_workload(workload),
                AddressItem::Service(service) => snapshot.mesh.insert_service(service),
            },
            HTTP_POLICY_TYPE => return policy(snapshot, resource),
            DESTINATION_TYPE => {
                let found: DestinationPolicy = json::decode(body).map_err(text)?;
                let key = found.service.clone();
                snapshot.destinations.insert(key, Arc::new(found));
            }
            CERTIFICATE_TYPE => {
                let found: Certificate = json::decode(body).map_err(text)?;
                let name = found.name.clone();
                snapshot.certificates.insert(name, Arc::new(found));
            }
            TELEMETRY_TYPE => {
                let found: Telemetry = json::decode(body).map_err(text)?;
                let gateway = found.gateway.clone();
                snapshot.telemetry.insert(gateway, Arc::new(found));
                snapshot.expressions = all_expressions(snapshot);
            }
            PROXY_SETTINGS_TYPE => {
                let found: ProxySettings = json::decode(body).map_err(text)?;
                snapshot.logs = Arc::new(Logs::new(&found));
                snapshot.settings = Arc::new(found);
            }
            AUTHENTICATION_TYPE => return authentication(snapshot, resource),
            HTTP_ROUTE_TYPE => {
                let mut found: HttpRoute = json::decode(body).map_err(text)?;
                // The discovery client holds this text anyway.
                if let Some(object) = ObjectKey::shared(resource.name.clone())
                    && object == found.object
                {
                    found.object = object;
                }
                snapshot.routes.insert_http(found).map_err(text)?;
            }
            STREAM_ROUTE_TYPE => {
                let found: StreamRoute = json::decode(body).map_err(text)?;
                snapshot.routes.insert_stream(found);
            }
            RATE_LIMIT_TYPE => {
                let found: RateLimit = json::decode(body).map_err(text)?;
                snapshot.limits.insert(found).map_err(text)?;
            }
            GATEWAY_TYPE => {
                let found: Gateway = json::decode(body).map_err(text)?;
                let name = resource.name.clone();
                snapshot.gateways.insert(name, Arc::new(found));
            }
            _ => {}
        }
        Ok(())
    }
}

fn all_expressions(snapshot: &Snapshot) -> imbl::HashMap<Arc<str>, Arc<Expression>> {
    let all = snapshot.telemetry.values();
    all.flat_map(|telemetry| expressions(telemetry)).collect()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// An authorization policy fails closed: what cannot be understood refuses requests to its targets.
fn policy(snapshot: &mut Snapshot, resource: &Resource) -> Result<(), String> {
    let error = match json::decode::<HttpPolicy>(&resource.body) {
        Ok(found) => {
            snapshot.policies.insert(found);
            return Ok(());
        }
        Err(error) => error.to_string(),
    };
    match json::decode::<Envelope>(&resource.body) {
        Ok(envelope) => {
            let refusing = HttpPolicy::undecodable(envelope, error.as_str());
            snapshot.policies.insert(refusing);
        }
        Err(_) => snapshot
            .policies
            .insert_unreadable(&resource.name, error.as_str()),
    }
    Err(error)
}

/// As for policies: what cannot be understood refuses requests to its targets.
fn authentication(snapshot: &mut Snapshot, resource: &Resource) -> Result<(), String> {
    let error = match json::decode::<Authentication>(&resource.body) {
        Ok(found) => {
            snapshot.authentications.insert(found);
            return Ok(());
        }
        Err(error) => error.to_string(),
    };
    match json::decode::<Envelope>(&resource.body) {
        Ok(envelope) => {
            let refusing = Authentication::undecodable(envelope, error.as_str());
            snapshot.authentications.insert(refusing);
        }
        Err(_) => snapshot
            .authentications
            .insert_unreadable(&resource.name, error.as_str()),
    }
    Err(error)
}

fn remove(type_url: &str, snapshot: &mut Snapshot, name: &str) {
    match type_url {
        ADDRESS_TYPE => {
            if !snapshot.mesh.remove_workload(name)
                && let Some(key) = ServiceKey::parse(name)
            {
                snapshot.mesh.remove_service(&key);
            }
        }
        HTTP_POLICY_TYPE => {
            snapshot.policies.remove(name);
        }
        DESTINATION_TYPE => {
            if let Some(key) = DestinationPolicy::service_of(name) {
                snapshot.destinations.remove(&key);
            }
        }
        CERTIFICATE_TYPE => {
            snapshot.certificates.remove(name);
        }
        TELEMETRY_TYPE => {
            snapshot.telemetry.remove(name);
        }
        AUTHENTICATION_TYPE => {
            snapshot.authentications.remove(name);
        }
        HTTP_ROUTE_TYPE => {
            snapshot.routes.remove_http(name);
        }
        STREAM_ROUTE_TYPE => {
            snapshot.routes.remove_stream(name);
        }
        RATE_LIMIT_TYPE => {
            snapshot.limits.remove(name);
        }
        PROXY_SETTINGS_TYPE => {
            snapshot.settings = Arc::default();
            snapshot.logs = Arc::default();
        }
        GATEWAY_TYPE => {
            snapshot.gateways.remove(name);
        }
        _ => {}
    }
}

impl Handler for Discovery {
    fn update(&mut self, batch: Batch) -> Vec<Rejection> {
        let type_url = batch.type_url.as_str();
        let bytes: usize = batch.upserts.iter().map(|r| r.body.len()).sum();
        self.metrics.messages.with(&[type_url]).inc();
        self.metrics.bytes.with(&[type_url]).inc_by(bytes as u64);
        let mut rejections = Vec::new();
        let state = self.state.clone();
        state.publish(|snapshot| {
            for name in &batch.removed {
                remove(type_url, snapshot, name);
            }
            for resource in &batch.upserts {
                if let Err(error) = self.upsert(type_url, snapshot, resource) {
                    tracing::warn!(
                        resource = &*resource.name,
                        error,
                        "cannot use a resource of the control plane"
                    );
                    self.metrics.rejected.inc();
                    let name = resource.name.to_string();
                    rejections.push(Rejection { name, error });
                }
            }
            if type_url == ADDRESS_TYPE {
                snapshot.own = Own::find(&snapshot.mesh, &self.me.namespace, &self.me.pod);
            }
        });
        rejections
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Connected => (self.on_connect)(),
            Event::Synced { type_url } => {
                self.missing.remove(type_url);
                if self.missing.is_empty() {
                    self.condition.set(true);
                }
            }
            Event::Disconnected { error, .. } => {
                use tulle_xds::client::StreamError;
                let reason = match error {
                    StreamError::Connect { .. } => "ConnectionError",
                    StreamError::Refused { .. } | StreamError::Broken { .. } => "Error",
                    StreamError::Ended { .. } => "Complete",
                };
                self.metrics.terminations.with(&[reason]).inc();
            }
        }
    }
}
