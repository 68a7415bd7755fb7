//! From discovery's batches to snapshots.

use std::collections::HashSet;
use std::sync::Arc;

use tulle_daemon::Condition;
use tulle_model::{Interner, ServiceKey};
use tulle_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE, AddressItem, decode_address, decode_authorization,
};
use tulle_telemetry::{Counter, CounterFamily, Registry};
use tulle_xds::client::{Batch, Event, Handler, Rejection, Resource};

use crate::sealed::Contents;
use crate::state::{Snapshot, State};

/// Applies what the control plane sends.
pub(crate) struct Discovery {
    state: Arc<State>,
    texts: Interner,
    /// What a predecessor knew and this process has not been told again, by type.
    unconfirmed: Unconfirmed,
    synced: Synced,
    metrics: Metrics,
    on_connect: Box<dyn Fn() + Send>,
}

#[derive(Default)]
struct Unconfirmed {
    addresses: HashSet<String>,
    policies: HashSet<String>,
}

/// What a resource changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Where connections go.
    Ways,
    /// Which connections may be: those that are there are asked again.
    Rights,
}

struct Synced {
    condition: Condition,
    addresses: bool,
    policies: bool,
    /// Told once, when both are complete for the first time.
    first: Option<tokio::sync::oneshot::Sender<()>>,
}

struct Metrics {
    messages: CounterFamily,
    bytes: CounterFamily,
    terminations: CounterFamily,
    rejected: Counter,
}

impl Discovery {
    /// `first` fires when everything was received once; `on_connect` is called for every new stream.
    pub(crate) fn new(
        state: Arc<State>,
        registry: &Registry,
        condition: Condition,
        first: tokio::sync::oneshot::Sender<()>,
        on_connect: impl Fn() + Send + 'static,
    ) -> Self {
        Self {
            state,
            texts: Interner::default(),
            unconfirmed: Unconfirmed::default(),
            synced: Synced {
                condition,
                addresses: false,
                policies: false,
                first: Some(first),
            },
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

    /// Puts what a predecessor knew in force, until the control plane has spoken.
    pub(crate) fn restore(&mut self, contents: Contents) {
        let policies = contents.policies.iter().map(tulle_policy::Policy::key);
        self.unconfirmed.policies = policies.collect();
        let services = contents
            .services
            .iter()
            .map(|s| s.key().as_str().to_owned());
        let workloads = contents.workloads.iter().map(|w| w.uid.to_string());
        self.unconfirmed.addresses = services.chain(workloads).collect();
        self.state.publish(|snapshot| {
            for policy in contents.policies {
                snapshot.policies.insert(policy);
            }
            for service in contents.services {
                snapshot.mesh.insert_service(service);
            }
            for workload in contents.workloads {
                snapshot.mesh.insert_workload(workload);
            }
            true
        });
    }

    fn upsert(
        &mut self,
        type_url: &str,
        snapshot: &mut Snapshot,
        resource: &Resource,
    ) -> Result<Effect, String> {
        if type_url == AUTHORIZATION_TYPE {
            let policy = decode_authorization(&resource.body).map_err(|e| e.to_string())?;
            self.unconfirmed.policies.remove(&*resource.name);
            snapshot.policies.insert(policy);
            return Ok(Effect::Rights);
        }
        let item = decode_address(&resource.body, &mut self.texts).map_err(|e| e.to_string())?;
        self.unconfirmed.addresses.remove(&*resource.name);
        match item {
            AddressItem::Workload(mut workload) => {
                if workload.uid == resource.name {
                    // One copy for the snapshot and for the client.
                    workload.uid = resource.name.clone();
                }
                snapshot.mesh.insert_workload(workload);
                Ok(Effect::Ways)
            }
            AddressItem::Service(service) => {
                let old = snapshot.mesh.service(&service.key());
                let insisted = old.is_some_and(|old| old.waypoint_use.enforced);
                let insists = service.waypoint_use.enforced && !insisted;
                snapshot.mesh.insert_service(service);
                Ok(if insists {
                    Effect::Rights
                } else {
                    Effect::Ways
                })
            }
        }
    }

    /// Everything of a type has come: what a predecessor knew beyond it is gone.
    fn complete(&mut self, type_url: &str) {
        let gone = match type_url {
            AUTHORIZATION_TYPE => {
                self.synced.policies = true;
                std::mem::take(&mut self.unconfirmed.policies)
            }
            _ => {
                self.synced.addresses = true;
                std::mem::take(&mut self.unconfirmed.addresses)
            }
        };
        if !gone.is_empty() {
            self.state.publish(|snapshot| {
                gone.iter()
                    .for_each(|name| remove(type_url, snapshot, name));
                type_url == AUTHORIZATION_TYPE
            });
        }
        if self.synced.policies && self.synced.addresses {
            self.synced.condition.set(true);
            if let Some(first) = self.synced.first.take() {
                // Whoever waited may be gone.
                let _ = first.send(());
            }
        }
    }
}

impl Handler for Discovery {
    fn update(&mut self, batch: Batch) -> Vec<Rejection> {
        let type_url = batch.type_url.as_str();
        if type_url != AUTHORIZATION_TYPE && type_url != ADDRESS_TYPE {
            return Vec::new();
        }
        let bytes: usize = batch.upserts.iter().map(|r| r.body.len()).sum();
        self.metrics.messages.with(&[type_url]).inc();
        self.metrics.bytes.with(&[type_url]).inc_by(bytes as u64);
        let mut rejections = Vec::new();
        let state = self.state.clone();
        state.publish(|snapshot| {
            let mut rights = type_url == AUTHORIZATION_TYPE;
            for name in &batch.removed {
                remove(type_url, snapshot, name);
            }
            for resource in &batch.upserts {
                match self.upsert(type_url, snapshot, resource) {
                    Ok(effect) => rights |= effect == Effect::Rights,
                    Err(error) => {
                        tracing::warn!(resource = &*resource.name, error, "cannot use a resource of the control plane; what was known of it stays in force");
                        self.metrics.rejected.inc();
                        let name = resource.name.to_string();
                        rejections.push(Rejection { name, error });
                    }
                }
            }
            rights
        });
        rejections
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Connected => (self.on_connect)(),
            Event::Synced { type_url } => self.complete(type_url),
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

fn remove(type_url: &str, snapshot: &mut Snapshot, name: &str) {
    if type_url == AUTHORIZATION_TYPE {
        snapshot.policies.remove(name);
    } else if !snapshot.mesh.remove_workload(name)
        && let Some(key) = ServiceKey::parse(name)
    {
        snapshot.mesh.remove_service(&key);
    }
}

#[cfg(test)]
mod tests;
