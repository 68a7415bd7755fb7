//! What policies of layer 7 are attached to: by `targetRefs`, or, on gateways, by selector.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_api::contract::{CLASS_WAYPOINT, CONDITION_WAYPOINT_ACCEPTED};
use tulle_api::selector::{PolicyTargetReference, WorkloadSelector};
use tulle_api::telemetry::TelemetrySpec;
use tulle_model::ServiceKey;
use tulle_policy::Target;

use super::Name;
use super::findings::listed;
use crate::cluster::Cluster;
use crate::condition::{Condition, reason};
use crate::labels::Labels;
use crate::resource::Audience;
use crate::service::ServiceSource;

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
const NETWORKING_GROUP: &str = "networking.istio.io";

/// Where a policy counts.
#[derive(Debug, Default)]
pub(super) struct Attachment {
    pub(super) targets: Vec<Target>,
    /// Every proxy: the policy is for all waypoints.
    everyone: bool,
    proxies: BTreeSet<Arc<str>>,
    /// For people: what it is bound to.
    pub(super) bound: Vec<String>,
    /// References that lead nowhere: reason and text.
    pub(super) missing: Vec<(&'static str, String)>,
}

impl Attachment {
    /// Who is told.
    pub(super) fn audience(&self) -> Audience {
        if self.everyone {
            Audience::Everyone
        } else {
            Audience::Gateways(self.proxies.clone())
        }
    }

    fn add(&mut self, target: Target, proxies: impl IntoIterator<Item = Arc<str>>) {
        if !self.targets.contains(&target) {
            self.targets.push(target);
        }
        self.proxies.extend(proxies);
    }

    fn add_gateway(&mut self, key: Arc<str>) {
        self.bound.push(key.to_string());
        self.add(Target::Gateway(key.clone()), [key]);
    }

    /// The one condition of a policy with references, `invalid` being what is wrong with the policy itself.
    pub(super) fn condition(
        &self,
        invalid: Option<String>,
        unsupported: &[String],
        generation: Option<i64>,
    ) -> Condition {
        let missing: Vec<String> = self.missing.iter().map(|(_, text)| text.clone()).collect();
        let (status, reason, message) = match (invalid, self.bound.is_empty(), self.missing.first())
        {
            (Some(why), ..) => (false, reason::INVALID, why),
            (None, true, Some((reason, _))) => (false, *reason, listed(&missing)),
            (None, true, None) => (
                false,
                reason::ANCESTOR_NOT_BOUND,
                "bound to nothing".to_owned(),
            ),
            (None, false, Some(_)) => {
                let message = format!(
                    "bound to {}; not bound: {}",
                    listed(&self.bound),
                    listed(&missing)
                );
                (true, reason::PARTIALLY_INVALID, message)
            }
            (None, false, None) if unsupported.is_empty() => (
                true,
                reason::ACCEPTED,
                format!("bound to {}", listed(&self.bound)),
            ),
            (None, false, None) => {
                let message = format!(
                    "bound to {}, without what is not supported: {}",
                    listed(&self.bound),
                    listed(unsupported)
                );
                (true, reason::PARTIALLY_INVALID, message)
            }
        };
        Condition {
            kind: CONDITION_WAYPOINT_ACCEPTED,
            status,
            reason,
            message,
            observed_generation: generation,
        }
    }
}

/// Both spellings of target references.
pub(super) fn both<'a>(
    one: Option<&'a PolicyTargetReference>,
    many: &'a [PolicyTargetReference],
) -> Vec<&'a PolicyTargetReference> {
    one.into_iter().chain(many).collect()
}

/// Those of a Telemetry.
pub(super) fn references(spec: &TelemetrySpec) -> Vec<&PolicyTargetReference> {
    both(spec.target_ref.as_ref(), &spec.target_refs)
}

impl Cluster {
    /// Where an object with references is attached. References stay in its namespace.
    pub(super) fn attach_references(
        &self,
        name: &Name,
        references: &[&PolicyTargetReference],
    ) -> Attachment {
        let mut attachment = Attachment::default();
        for reference in references {
            self.attach_one(name, reference, &mut attachment);
        }
        attachment
    }

    fn attach_one(
        &self,
        name: &Name,
        reference: &PolicyTargetReference,
        attachment: &mut Attachment,
    ) {
        let namespace = &name.0;
        let target = &reference.name;
        let mut miss = |reason, text: String| attachment.missing.push((reason, text));
        if !reference.namespace.is_empty() && *reference.namespace != **namespace {
            return miss(
                reason::INVALID,
                format!("{target}: references to other namespaces are not supported"),
            );
        }
        match (reference.group.as_str(), reference.kind.as_str()) {
            (GATEWAY_GROUP, "Gateway") => {
                let key: Arc<str> = format!("{namespace}/{target}").into();
                if self
                    .gateway
                    .gateways
                    .contains_key(&(namespace.clone(), target.as_str().into()))
                {
                    attachment.add_gateway(key);
                } else {
                    miss(
                        reason::TARGET_NOT_FOUND,
                        format!("there is no Gateway {key}"),
                    );
                }
            }
            (GATEWAY_GROUP, "GatewayClass") => {
                self.attach_class(namespace, target, attachment);
            }
            ("" | "core", "Service") => {
                let hostname = self.hostname(target, namespace);
                let key = ServiceKey::new(namespace, &hostname);
                let known = self
                    .services_of_host(&hostname)
                    .any(|s| s.key == key && s.id.source == ServiceSource::Kubernetes);
                self.attach_service(
                    known.then_some(key).into_iter().collect(),
                    "Service",
                    name,
                    target,
                    attachment,
                );
            }
            (NETWORKING_GROUP, "ServiceEntry") => {
                let state = self.namespace(namespace);
                let services = state.iter().flat_map(|state| state.services.values());
                let of_entry = services
                    .filter(|s| s.id.source == ServiceSource::Entry && *s.id.name == **target);
                let keys = of_entry
                    .filter(|s| self.wins(namespace, &s.id))
                    .map(|s| s.key.clone())
                    .collect();
                self.attach_service(keys, "ServiceEntry", name, target, attachment);
            }
            (group, kind) => {
                miss(
                    reason::INVALID,
                    format!(
                        "{kind}.{group} {target}: policies target Gateway, GatewayClass, Service and ServiceEntry"
                    ),
                );
            }
        }
    }

    /// All waypoints of the mesh: only the root namespace may speak for them.
    fn attach_class(&self, namespace: &str, class: &str, attachment: &mut Attachment) {
        let root = &self.settings.root_namespace;
        if *namespace != **root {
            let why = format!(
                "GatewayClass {class}: only policies of the root namespace {root} can target it"
            );
            attachment.missing.push((reason::INVALID, why));
        } else if class != CLASS_WAYPOINT {
            let why = format!("GatewayClass {class} is not {CLASS_WAYPOINT}");
            attachment.missing.push((reason::TARGET_NOT_FOUND, why));
        } else {
            attachment.everyone = true;
            attachment.add(Target::Waypoints, []);
            attachment.bound.push(format!("GatewayClass {class}"));
        }
    }

    fn attach_service(
        &self,
        keys: Vec<ServiceKey>,
        kind: &str,
        name: &Name,
        target: &str,
        attachment: &mut Attachment,
    ) {
        let text = format!("{kind} {}/{target}", name.0);
        if keys.is_empty() {
            attachment
                .missing
                .push((reason::TARGET_NOT_FOUND, format!("there is no {text}")));
            return;
        }
        let mut bound = BTreeSet::new();
        for key in keys {
            let waypoints = self.waypoints_of(&key);
            if !waypoints.is_empty() {
                bound.extend(waypoints.iter().map(ToString::to_string));
                attachment.add(Target::Service(key), waypoints);
            }
        }
        if bound.is_empty() {
            let why = format!(
                "{text} has no waypoint: label it, or its namespace, with istio.io/use-waypoint"
            );
            attachment.missing.push((reason::ANCESTOR_NOT_BOUND, why));
        }
        attachment.bound.extend(bound);
    }

    /// Gateways (not waypoints) that an object without references selects: of its namespace, or all for the root namespace.
    pub(super) fn attach_by_selector(
        &self,
        name: &Name,
        selector: Option<&WorkloadSelector>,
    ) -> Attachment {
        let mut attachment = Attachment::default();
        let selector =
            selector.map_or_else(Labels::default, |s| Labels::from_pairs(&s.match_labels));
        let root = name.0 == self.settings.root_namespace;
        for ((namespace, proxy), found) in self.networking.proxies.iter() {
            if (root || *namespace == name.0) && found.is_selected(&selector) {
                let key: Arc<str> = format!("{namespace}/{proxy}").into();
                attachment.add_gateway(key);
            }
        }
        attachment
    }

    /// Everything that reports: waypoints and gateways.
    pub(super) fn report_names(&self) -> BTreeSet<Name> {
        let managed = self.gateway.names().cloned();
        managed
            .chain(self.networking.proxies.iter().map(|(name, _)| name.clone()))
            .collect()
    }
}
