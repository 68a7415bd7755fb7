//! Where a Gateway can be reached, and whether anybody answers there.

use std::net::IpAddr;
use std::sync::Arc;

use tulle_api::contract::ANNOTATION_GATEWAY_NAME_OVERRIDE;
use tulle_model::Health;

use super::Problem;
use super::listeners::View;
use super::state::{GatewayFacts, Named};
use super::status::{Class, StatusAddress};
use crate::cluster::Cluster;

/// Longest name of a Service.
const LONGEST_NAME: usize = 63;

/// What was found out about a Gateway's Services.
pub(super) struct Reached {
    /// Where it can be reached.
    pub(super) addresses: Vec<StatusAddress>,
    /// `host:port` of Services that serve it.
    pub(super) services: Vec<String>,
    /// What is missing.
    pub(super) missing: Vec<String>,
    /// An address that was asked for will never be given.
    pub(super) unusable: bool,
}

impl Cluster {
    /// Services of the user's, addresses that are asked for, and what is wrong with them.
    #[expect(clippy::type_complexity, reason = "three parts of a View")]
    pub(super) fn addresses(
        &self,
        named: &Named,
        facts: &GatewayFacts,
    ) -> (Option<Vec<Arc<str>>>, Vec<Arc<str>>, Option<Problem>) {
        let (mut services, mut asked, mut odd) = (Vec::new(), Vec::new(), Vec::new());
        for address in &facts.spec.addresses {
            match address.type_.as_deref().unwrap_or("IPAddress") {
                "Hostname" if address.value.contains('.') => {
                    services.push(address.value.as_str().into())
                }
                "Hostname" if !address.value.is_empty() => {
                    services.push(self.hostname(&address.value, &named.0))
                }
                "IPAddress" if address.value.is_empty() => {}
                "IPAddress" => asked.push(address.value.as_str().into()),
                other => odd.push(other),
            }
        }
        let problem = (!odd.is_empty()).then(|| {
            let message = format!(
                "addresses of type {} are not supported: use IPAddress or Hostname",
                odd.join(", ")
            );
            Problem::new("UnsupportedAddress", message)
        });
        ((!services.is_empty()).then_some(services), asked, problem)
    }

    /// Parameters that cannot be used.
    pub(super) fn parameters_problem(
        &self,
        named: &Named,
        facts: &GatewayFacts,
    ) -> Option<Problem> {
        let parameters = facts
            .spec
            .infrastructure
            .as_ref()?
            .parameters_ref
            .as_ref()?;
        let name = &parameters.name;
        if !parameters.group.is_empty() || parameters.kind != "ConfigMap" {
            let message = format!("infrastructure.parametersRef {name} must be a ConfigMap");
            return Some(Problem::new("InvalidParameters", message));
        }
        let map = (named.0.clone(), name.as_str().into());
        (!self.gateway.config_maps.contains_key(&map)).then(|| {
            let message = format!(
                "infrastructure.parametersRef: ConfigMap {}/{name} not found",
                named.0
            );
            Problem::new("InvalidParameters", message)
        })
    }

    /// Some pod of the Gateway is ready.
    pub(super) fn has_ready_pod(&self, named: &Named) -> bool {
        let Some(state) = self.namespaces.get(&named.0) else {
            return false;
        };
        let mut pods = self.gateway.pods.get(named).into_iter().flatten();
        pods.any(|pod| {
            state
                .pods
                .get(pod)
                .is_some_and(|pod| pod.health == Health::Healthy)
        })
    }

    /// Where a Gateway can be reached now.
    pub(super) fn reached(&self, named: &Named, facts: &GatewayFacts, view: &View) -> Reached {
        let mut reached = Reached {
            addresses: Vec::new(),
            services: Vec::new(),
            missing: Vec::new(),
            unusable: false,
        };
        let ready = view.unmanaged.is_some() || self.has_ready_pod(named);
        for hostname in &view.services {
            self.reach(hostname, ready, view, &mut reached);
        }
        for (place, asked) in view.addresses.iter().enumerate() {
            let given = reached.addresses.iter().any(|given| given.value == *asked);
            if given {
                continue;
            }
            if !reached.addresses.is_empty() {
                reached.unusable = true;
                reached
                    .missing
                    .push(format!("address {asked} was not given"));
            } else if place > 0 {
                // A Service asks its load balancer for one address: the first.
                reached.unusable = true;
                reached.missing.push(format!(
                    "address {asked} cannot be had beside {}",
                    view.addresses[0]
                ));
            }
        }
        if reached.addresses.is_empty() {
            reached.addresses.clone_from(&facts.reported);
        }
        reached.addresses.sort();
        reached.addresses.dedup();
        reached
    }

    fn reach(&self, hostname: &Arc<str>, ready: bool, view: &View, reached: &mut Reached) {
        let mut claims = self.hostnames.get(hostname).into_iter().flatten();
        let service = claims.find_map(|(namespace, id)| {
            let service = self.namespace(namespace)?.services.get(id)?;
            Some((namespace, id, service))
        });
        let Some((namespace, id, service)) = service else {
            reached
                .missing
                .push(format!("hostname {hostname:?} not found"));
            return;
        };
        if !ready {
            reached
                .missing
                .push(format!("no instances found for hostname {hostname:?}"));
            return;
        }
        let mut any = false;
        for port in service.ports.iter().filter(|port| {
            view.listeners
                .iter()
                .any(|l| l.takes_routes() && l.port == port.number)
        }) {
            reached.services.push(format!("{hostname}:{}", port.number));
            any = true;
        }
        if !any {
            reached.services.push(hostname.to_string());
        }
        let named = (namespace.clone(), id.name.clone());
        match self.gateway.load_balancers.get(&named) {
            Some(given) if given.is_empty() => {
                reached
                    .missing
                    .push(format!("address pending for hostname {hostname:?}"));
            }
            Some(given) => reached.addresses.extend(given.iter().cloned()),
            None => {
                reached.addresses.push(StatusAddress::hostname(hostname));
                if view.class == Class::Waypoint {
                    let hosts = service.addresses.iter().map(|net| net.addr());
                    reached.addresses.extend(hosts.map(StatusAddress::ip));
                }
            }
        }
    }
}

impl StatusAddress {
    pub(super) fn hostname(value: &Arc<str>) -> Self {
        Self {
            kind: "Hostname",
            value: value.clone(),
        }
    }

    pub(super) fn ip(address: IpAddr) -> Self {
        Self {
            kind: "IPAddress",
            value: address.to_string().into(),
        }
    }
}

/// Name of Deployment and Service. One that would be too long ends in a fingerprint.
pub(super) fn workload_name(named: &Named, facts: &GatewayFacts, class: Class) -> Arc<str> {
    if let Some(name) = facts.annotations.get(ANNOTATION_GATEWAY_NAME_OVERRIDE) {
        return name.clone();
    }
    if class == Class::Waypoint {
        return named.1.clone();
    }
    let suffix = format!("-{}", facts.spec.gateway_class_name);
    if named.1.len() + suffix.len() <= LONGEST_NAME {
        return format!("{}{suffix}", named.1).into();
    }
    let print = named
        .1
        .bytes()
        .chain(suffix.bytes())
        .fold(0x811c_9dc5u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
    let kept: String = named.1.chars().take(LONGEST_NAME - 9).collect();
    format!("{kept}-{print:08x}").into()
}
