//! From changes of the mesh to what the discovery server holds: each resource encoded once.

use std::collections::HashMap;
use std::time::Instant;

use tracing::{debug, error};
use tulle_model::{NetworkAddress, Service, Workload};
use tulle_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE, L7_TYPES, encode_policy, encode_service, encode_workload,
};
use tulle_translate::{Audience, Changes, Resource, ResourceKey};
use tulle_xds::server::Change;

use super::Translation;

impl Translation {
    /// Publishes what changed since the last time. The server sends policies before the workloads
    /// that name them, and their removals after.
    /// `since` is when the first of the changes came.
    pub(super) fn publish(&mut self, since: Instant) {
        let begun = Instant::now();
        let changes = self.cluster.take_changes();
        for ((namespace, name), addresses) in self.cluster.unwritten_addresses() {
            self.statuses.submit_addresses(namespace, name, addresses);
        }
        if changes.is_empty() {
            return;
        }
        let Changes {
            workloads,
            services,
            policies,
            conditions,
            resources,
            gateways,
            statuses,
        } = changes;
        for (object, wanted) in conditions {
            self.statuses.submit(object.into(), wanted);
        }
        for (object, wanted) in statuses {
            self.statuses.submit_status(object.into(), wanted);
        }
        for (gateway, wanted) in gateways {
            self.deployments.submit(gateway, wanted);
        }
        let counts = (workloads.len(), services.len(), policies.len());
        let (put, remove): (Vec<_>, Vec<_>) = policies
            .into_iter()
            .partition(|(_, policy)| policy.is_some());
        let policy = |(name, policy): (std::sync::Arc<str>, Option<_>)| match policy {
            Some(policy) => Change::put(&*name, encode_policy(&policy)),
            None => Change::remove(&*name),
        };
        self.send(
            AUTHORIZATION_TYPE,
            put.into_iter().map(policy).collect(),
            since,
        );
        for (key, service) in &services {
            match service {
                Some(_) => self.services.insert(key.clone()),
                None => self.services.remove(key),
            };
        }
        let services = services.into_iter().map(|(key, service)| match service {
            Some(service) => {
                Change::put(key.as_str(), encode_service(&service)).with_keys(vips(&service))
            }
            None => Change::remove(key.as_str()),
        });
        let workloads = workloads.into_iter().map(|(uid, workload)| match workload {
            Some(workload) => {
                Change::put(&*uid, encode_workload(&workload)).with_keys(places(&workload))
            }
            None => Change::remove(&*uid),
        });
        let addresses = services.chain(workloads).collect();
        let (put, removed): (Vec<_>, Vec<_>) =
            resources.into_iter().partition(|(_, now)| now.is_some());
        self.send(ADDRESS_TYPE, addresses, since);
        // Listeners come last, and go first.
        self.send_resources(put, since, L7_TYPES.into_iter());
        self.send_resources(removed, since, L7_TYPES.into_iter().rev());
        self.send(
            AUTHORIZATION_TYPE,
            remove.into_iter().map(policy).collect(),
            since,
        );
        self.metrics
            .services
            .set(i64::try_from(self.services.len()).unwrap_or(i64::MAX));
        self.metrics
            .push_time
            .observe(begun.elapsed().as_secs_f64());
        let (workloads, services, policies) = counts;
        debug!(workloads, services, policies, took = ?begun.elapsed(), "published");
    }

    fn send_resources(
        &self,
        resources: Vec<(ResourceKey, Option<(Audience, Resource)>)>,
        since: Instant,
        order: impl Iterator<Item = &'static str>,
    ) {
        let mut by_type: HashMap<&str, Vec<Change>> = HashMap::new();
        for (key, now) in resources {
            let change = match now {
                None => Change::remove(&*key.name),
                Some((audience, resource)) => match tulle_proto::json::encode(&resource) {
                    Ok(body) => Change::put(&*key.name, body).for_audience(who(audience)),
                    Err(why) => {
                        error!(type_url = key.type_url, name = %key.name, "not published: {why}");
                        continue;
                    }
                },
            };
            by_type.entry(key.type_url).or_default().push(change);
        }
        for type_url in order {
            if let Some(changes) = by_type.remove(type_url) {
                self.send(type_url, changes, since);
            }
        }
        for type_url in by_type.into_keys() {
            error!(type_url, "resources of an unknown type: not published");
        }
    }

    fn send(&self, type_url: &'static str, changes: Vec<Change>, since: Instant) {
        if !changes.is_empty() && self.publisher.publish(type_url, changes) > 0 {
            self.convergence
                .published(type_url, self.publisher.sequence(), since);
            self.metrics
                .push_triggers
                .with(&[crate::metrics::short(type_url)])
                .inc();
        }
    }
}

fn who(audience: Audience) -> tulle_xds::server::Audience {
    match audience {
        Audience::Everyone => tulle_xds::server::Audience::AnyGateway,
        Audience::Gateways(names) => tulle_xds::server::Audience::Gateways(names),
    }
}

/// What on-demand clients ask for to get a service.
fn vips(service: &Service) -> Vec<String> {
    service.addresses.iter().map(written).collect()
}

/// What on-demand clients ask for to get a workload: its addresses, and its services.
fn places(workload: &Workload) -> Vec<String> {
    let network = &workload.network;
    let own = workload.addresses.iter().filter(|_| !workload.host_network);
    let own = own.map(|address| format!("{network}/{address}"));
    own.chain(
        workload
            .services
            .iter()
            .map(|(key, _)| key.as_str().to_owned()),
    )
    .collect()
}

/// `network/address` for a host, `network/address/length` for a range.
fn written(address: &NetworkAddress) -> String {
    let range = address.range;
    if range.prefix_len() == range.max_prefix_len() {
        format!("{}/{}", address.network, range.addr())
    } else {
        format!(
            "{}/{}/{}",
            address.network,
            range.addr(),
            range.prefix_len()
        )
    }
}
