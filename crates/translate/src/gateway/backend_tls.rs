//! BackendTLSPolicy: TLS to services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_api::gateway::{self as api, GROUP, ParentReference, PolicyTarget};
use tulle_model::ServiceKey;
use tulle_route::resource::{BackendTls, VerifyNames};

use super::state::{BackendTlsFacts, Named};
use super::status::{AncestorStatus, PolicyStatus, Status};
use super::{Class, Problem, condition, told};
use crate::cluster::{Cluster, Key, Outputs, Value};
use crate::condition::ObjectKind;
use crate::service::ServiceSource;
use tulle_api::contract::{CONTROLLER_GATEWAY, CONTROLLER_MESH};

/// A policy with one of its targets.
type Claim<'a> = (&'a Named, &'a BackendTlsFacts, &'a PolicyTarget);

/// Roots of a policy and the first problem with them.
struct Roots {
    /// PEM; `None` is the system's; empty when there is none that can be used, so that nothing is trusted.
    pem: Option<Arc<str>>,
    unresolved: Option<Problem>,
    refused: Option<Problem>,
}

impl Cluster {
    /// Policies of a namespace.
    pub(super) fn tls_policies_in(&self, namespace: &str) -> Vec<Named> {
        let from: Named = (namespace.into(), Arc::default());
        let policies = self.gateway.backend_tls.range(from..);
        let own = policies.take_while(|((ns, _), _)| **ns == *namespace);
        own.map(|(named, _)| named.clone()).collect()
    }

    /// Services that a policy is for.
    pub(super) fn tls_targets(&self, named: &Named) -> Vec<ServiceKey> {
        let facts = self.gateway.backend_tls.get(named);
        let targets = facts.into_iter().flat_map(|facts| &facts.spec.target_refs);
        targets
            .flat_map(|target| self.services_of_target(&named.0, target))
            .collect()
    }

    fn services_of_target(&self, namespace: &Arc<str>, target: &PolicyTarget) -> Vec<ServiceKey> {
        match (target.group.as_str(), target.kind.as_str()) {
            ("", "Service") => vec![ServiceKey::new(
                namespace,
                &self.hostname(&target.name, namespace),
            )],
            ("networking.istio.io", "ServiceEntry") => {
                let name = target.name.as_str().into();
                let services = self.services_named(namespace, ServiceSource::Entry, &name);
                services
                    .iter()
                    .map(|id| ServiceKey::new(namespace, &id.hostname))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Services that policies are for.
    pub(crate) fn backend_tls_targets(&self) -> BTreeSet<ServiceKey> {
        let policies = self.gateway.backend_tls.keys();
        policies.flat_map(|named| self.tls_targets(named)).collect()
    }

    /// TLS to a service that policies ask for: for all its ports (`None`), and for single ones.
    pub(crate) fn backend_tls(&self, service: &ServiceKey) -> Vec<(Option<u16>, BackendTls)> {
        let Some((namespace, facts)) = self.winner(service) else {
            return Vec::new();
        };
        let sections = self.claims(namespace, service);
        let mut all = Vec::with_capacity(sections.len());
        for (section, (named, policy, _)) in sections {
            let port = match &section {
                None => None,
                Some(section) => {
                    let port = facts.ports.iter().find(|port| *port.name == **section);
                    // A port that does not exist needs no TLS.
                    let Some(port) = port else { continue };
                    Some(port.number)
                }
            };
            all.push((port, self.tls_of(named, policy)));
        }
        all
    }

    /// The policy in force for each section of a service: the oldest, then the first by name.
    fn claims(
        &self,
        namespace: &Arc<str>,
        service: &ServiceKey,
    ) -> BTreeMap<Option<Arc<str>>, Claim<'_>> {
        let mut winners: BTreeMap<Option<Arc<str>>, Claim<'_>> = BTreeMap::new();
        for (named, facts) in self
            .gateway
            .backend_tls
            .iter()
            .filter(|(named, _)| named.0 == *namespace)
        {
            for target in &facts.spec.target_refs {
                if !self.services_of_target(namespace, target).contains(service) {
                    continue;
                }
                let claim = (named, facts, target);
                let rank = |(named, facts, _): &Claim<'_>| (facts.meta.created, (*named).clone());
                let section = section(target);
                let wins = winners
                    .get(&section)
                    .is_none_or(|other| rank(&claim) < rank(other));
                if wins {
                    winners.insert(section, claim);
                }
            }
        }
        winners
    }

    fn tls_of(&self, named: &Named, policy: &BackendTlsFacts) -> BackendTls {
        let validation = &policy.spec.validation;
        let names = validation.subject_alt_names.iter();
        let names: Vec<Arc<str>> = names
            .filter_map(|name| match name.type_.as_str() {
                "URI" => name.uri.as_deref(),
                _ => name.hostname.as_deref(),
            })
            .map(Arc::from)
            .collect();
        BackendTls {
            sni: Some(validation.hostname.as_str().into()),
            roots: self.policy_roots(named, validation).pem,
            certificate: None,
            gateway_certificate: true,
            verify: if names.is_empty() {
                VerifyNames::Sni
            } else {
                VerifyNames::AnyOf(names)
            },
        }
    }

    fn policy_roots(&self, named: &Named, validation: &api::BackendTlsValidation) -> Roots {
        if validation.ca_certificate_refs.is_empty() {
            return match validation.well_known_ca_certificates.as_deref() {
                Some("System") => Roots {
                    pem: None,
                    unresolved: None,
                    refused: None,
                },
                other => {
                    let message = format!(
                        "wellKnownCACertificates {:?} is not supported",
                        other.unwrap_or_default()
                    );
                    Roots {
                        pem: Some(Arc::default()),
                        unresolved: None,
                        refused: Some(Problem::new("Invalid", message)),
                    }
                }
            };
        }
        let (mut pem, mut unresolved) = (String::new(), None);
        for reference in &validation.ca_certificate_refs {
            match self.roots("BackendTLSPolicy", &named.0, reference) {
                Ok(text) => {
                    pem.push_str(&text);
                    pem.push('\n');
                }
                Err(problem) => {
                    let reason = match problem.reason {
                        "InvalidCACertificateKind" => "InvalidKind",
                        reason => reason,
                    };
                    unresolved.get_or_insert(Problem { reason, ..problem });
                }
            }
        }
        let refused = pem.is_empty().then(|| {
            let message = unresolved
                .as_ref()
                .map_or("no roots", |problem| &problem.message);
            Problem::new("NoValidCACertificate", message)
        });
        Roots {
            pem: Some(pem.into()),
            unresolved,
            refused,
        }
    }

    /// Status of a policy: at each Gateway that sends to one of its targets.
    pub(super) fn backend_tls_status(&self, named: &Named) -> Option<Outputs> {
        let facts = self.gateway.backend_tls.get(named)?;
        if !self.is_discovered(&named.0) {
            return None;
        }
        let roots = self.policy_roots(named, &facts.spec.validation);
        let generation = facts.meta.generation;
        let mut lost = None;
        let mut gateways: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut won = false;
        for target in &facts.spec.target_refs {
            for service in self.services_of_target(&named.0, target) {
                if self.winner(&service).is_none() {
                    continue;
                }
                gateways.extend(self.users_of(&service));
                let claims = self.claims(&named.0, &service);
                match claims.get(&section(target)) {
                    Some((winner, ..)) if *winner != named => lost = Some((*winner).clone()),
                    _ => won = true,
                }
            }
        }
        let conflict = lost.filter(|_| !won).map(|(namespace, name)| {
            let message =
                format!("BackendTLSPolicy {namespace}/{name} is older and for the same target");
            Problem::new("Conflicted", message)
        });
        let accepted = conflict.as_ref().or(roots.refused.as_ref());
        let conditions = vec![
            condition(
                "Accepted",
                accepted,
                ("Accepted", "Configuration is valid"),
                generation,
            ),
            condition(
                "ResolvedRefs",
                roots.unresolved.as_ref(),
                ("ResolvedRefs", "All references resolved"),
                generation,
            ),
        ];
        let ancestors: Vec<AncestorStatus> = gateways
            .iter()
            .filter_map(|gateway| {
                let (namespace, name) = gateway.split_once('/')?;
                let view = self.gateway.views.get(&(namespace.into(), name.into()))?;
                Some(AncestorStatus {
                    ancestor: ParentReference {
                        group: Some(GROUP.to_owned()),
                        kind: Some("Gateway".to_owned()),
                        namespace: Some(namespace.to_owned()),
                        name: name.to_owned(),
                        ..ParentReference::default()
                    },
                    controller: match view.class {
                        Class::Gateway => CONTROLLER_GATEWAY,
                        Class::Waypoint => CONTROLLER_MESH,
                    },
                    conditions: conditions.clone(),
                })
            })
            .collect();
        if ancestors.is_empty() {
            return None;
        }
        let object = told::object(ObjectKind::BackendTlsPolicy, named);
        let status = Status::Policy(PolicyStatus { ancestors });
        Some(vec![(Key::Status(object), Value::Status(status))])
    }
}

fn section(target: &PolicyTarget) -> Option<Arc<str>> {
    target
        .section_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .map(Arc::from)
}
