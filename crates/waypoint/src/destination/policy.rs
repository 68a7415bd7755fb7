//! What counts for a destination: all layers of its policy, and TLS made of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_identity::backend::{self, ClientTls};
use tulle_route::resource::{DestinationPolicy, TrafficPolicy, VerifyNames};

use super::{DestinationKey, MadeOf, NoDestination, Tls};

pub(super) type Uids = BTreeSet<Arc<str>>;

/// The policy that counts, and the only endpoints that do.
pub(super) fn policy(
    made_of: &MadeOf,
    key: &DestinationKey,
) -> Result<(TrafficPolicy, Option<Uids>), NoDestination> {
    let missing = |subset: &Arc<str>| NoDestination::Subset(key.service.clone(), subset.clone());
    let Some(policy) = &made_of.policy else {
        return match &key.subset {
            Some(subset) => Err(missing(subset)),
            None => Ok((TrafficPolicy::default(), None)),
        };
    };
    let only = match &key.subset {
        None => None,
        Some(subset) => {
            let found = policy.subsets.iter().find(|s| s.name == *subset);
            let found = found.ok_or_else(|| missing(subset))?;
            Some(found.workloads.iter().cloned().collect())
        }
    };
    let merged = merged(policy, key.port, key.subset.as_deref()).unwrap_or_default();
    Ok((merged, only))
}

/// Subset's port, subset, service's port, service: the first that sets a field counts.
pub(super) fn merged(
    policy: &DestinationPolicy,
    port: u16,
    subset: Option<&str>,
) -> Option<TrafficPolicy> {
    let of_port = |ports: &[tulle_route::resource::PortPolicy]| {
        let found = ports.iter().find(|p| p.port == port);
        found.map(|p| p.policy.clone())
    };
    let subset = match subset {
        None => None,
        Some(name) => Some(policy.subsets.iter().find(|s| *s.name == *name)?),
    };
    let mut layers = Vec::new();
    layers.extend(subset.and_then(|s| of_port(&s.ports)));
    layers.extend(subset.map(|s| s.policy.clone()));
    layers.extend(of_port(&policy.ports));
    layers.push(policy.policy.clone());
    layers.into_iter().reduce(or)
}

fn or(first: TrafficPolicy, then: TrafficPolicy) -> TrafficPolicy {
    TrafficPolicy {
        balancing: first.balancing.or(then.balancing),
        locality: first.locality.or(then.locality),
        warm_up: first.warm_up.or(then.warm_up),
        breaker: first.breaker.or(then.breaker),
        tcp: first.tcp.or(then.tcp),
        http: first.http.or(then.http),
        outliers: first.outliers.or(then.outliers),
        tls: first.tls.or(then.tls),
        proxy_protocol: first.proxy_protocol.or(then.proxy_protocol),
        protocol: first.protocol.or(then.protocol),
    }
}

pub(super) fn tls(policy: &TrafficPolicy, made_of: &MadeOf) -> Result<Tls, Arc<str>> {
    let Some(wanted) = &policy.tls else {
        return Err("no TLS is asked for".into());
    };
    let certificate = match (&made_of.wanted, &made_of.certificate) {
        (Some(name), None) => {
            return Err(format!("the certificate {name} has not come").into());
        }
        (_, found) => found.as_ref().map(|c| (&*c.chain, &*c.key)),
    };
    let expected = match &wanted.verify {
        VerifyNames::Sni => backend::Expected::ServerName,
        VerifyNames::AnyOf(names) => backend::Expected::AnyOf(names.clone()),
        VerifyNames::Insecure => backend::Expected::Anything,
    };
    let config = ClientTls::new(&backend::Settings {
        roots: wanted.roots.as_deref(),
        certificate,
        expected,
        alpn: &[],
    });
    let bytes = config.map_err(|error| Arc::<str>::from(error.to_string()))?;
    Ok(Tls {
        http1: bytes.offering(&[b"http/1.1"]),
        http2: bytes.offering(&[b"h2"]),
        bytes,
        name: wanted.sni.clone(),
    })
}
