//! What matters of an EndpointSlice: hand-written endpoints, and pods of services without a selector.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use tulle_api::contract::LABEL_SERVICE_NAME;
use tulle_model::{Health, Interner};

/// What matters of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceFacts {
    /// Name of its Service, in the same namespace.
    pub service: Arc<str>,
    /// TCP ports by name.
    pub ports: Box<[(Arc<str>, u16)]>,
    /// Endpoints that are no pods.
    pub endpoints: Box<[EndpointFacts]>,
    /// Names of the pods among its endpoints, which matter when the Service has no selector.
    pub pods: Box<[Arc<str>]>,
}

/// An endpoint that is no pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFacts {
    /// Its addresses, at least one.
    pub addresses: Vec<IpAddr>,
    /// A missing condition counts as ready.
    pub health: Health,
}

/// Takes what matters of a slice; `None` when it belongs to no Service or lists host names.
pub fn slice_facts(slice: &EndpointSlice, texts: &mut Interner) -> Option<SliceFacts> {
    let service = slice.metadata.labels.as_ref()?.get(LABEL_SERVICE_NAME)?;
    if slice.address_type == "FQDN" {
        return None;
    }
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        let tcp = port
            .protocol
            .as_deref()
            .is_none_or(|protocol| protocol == "TCP");
        let number = u16::try_from(port.port?).ok().filter(|_| tcp)?;
        Some((
            texts.intern(port.name.as_deref().unwrap_or_default()),
            number,
        ))
    });
    let ports = ports.collect();
    let mut pods: Vec<Arc<str>> = slice
        .endpoints
        .iter()
        .flatten()
        .filter_map(|endpoint| pod_name(endpoint).map(|name| texts.intern(name)))
        .collect();
    pods.sort();
    pods.dedup();
    let mut endpoints: Vec<EndpointFacts> = Vec::new();
    for endpoint in slice
        .endpoints
        .iter()
        .flatten()
        .filter(|e| pod_name(e).is_none())
    {
        let addresses: Result<Vec<IpAddr>, _> =
            endpoint.addresses.iter().map(|text| text.parse()).collect();
        let Ok(addresses) = addresses else { continue };
        let Some(first) = addresses.first() else {
            continue;
        };
        // The first address is part of the uid.
        if endpoints.iter().any(|e| e.addresses.first() == Some(first)) {
            continue;
        }
        let ready = endpoint
            .conditions
            .as_ref()
            .and_then(|c| c.ready)
            .unwrap_or(true);
        let health = if ready {
            Health::Healthy
        } else {
            Health::Unhealthy
        };
        endpoints.push(EndpointFacts { addresses, health });
    }
    let (endpoints, pods) = (endpoints.into(), pods.into());
    Some(SliceFacts {
        service: texts.intern(service),
        ports,
        endpoints,
        pods,
    })
}

fn pod_name(endpoint: &Endpoint) -> Option<&str> {
    let target = endpoint.target_ref.as_ref()?;
    (target.kind.as_deref() == Some("Pod")).then(|| target.name.as_deref().unwrap_or_default())
}
