//! TLS of listeners: certificates, and what clients must present.

use std::sync::Arc;

use tulle_api::gateway as api;
use tulle_route::resource::{ClientValidation, Protocol, Termination, TlsVersion};

use super::Problem;
use super::grants::{Referent, Referrer};
use super::state::{GatewayFacts, Named};
use crate::cluster::Cluster;

/// Option of a listener: `SIMPLE`, or `MUTUAL` with the roots in the Secret.
const OPTION_MODE: &str = "gateway.istio.io/tls-terminate-mode";

/// What became of a listener's TLS.
pub(super) struct ListenerTls {
    pub(super) protocol: Option<Protocol>,
    pub(super) unresolved: Option<Problem>,
    pub(super) unaccepted: Option<Problem>,
}

impl ListenerTls {
    fn unresolved(problem: Problem) -> Self {
        Self {
            protocol: None,
            unresolved: Some(problem),
            unaccepted: None,
        }
    }
}

impl Cluster {
    /// TLS of an HTTPS or TLS listener that belongs to `owner`, a Gateway or ListenerSet.
    pub(super) fn listener_tls(
        &self,
        kind: &str,
        owner: &Named,
        gateway: &Named,
        facts: &GatewayFacts,
        listener: &api::Listener,
    ) -> ListenerTls {
        let Some(tls) = &listener.tls else {
            return ListenerTls::unresolved(Problem::new(
                "InvalidCertificateRef",
                format!("protocol {} needs a tls section", listener.protocol),
            ));
        };
        let https = listener.protocol == "HTTPS";
        match tls.mode.as_deref().unwrap_or("Terminate") {
            "Terminate" => {}
            "Passthrough" if !https => {
                return ListenerTls {
                    protocol: Some(Protocol::Passthrough),
                    unresolved: None,
                    unaccepted: None,
                };
            }
            mode => {
                return ListenerTls {
                    protocol: None,
                    unresolved: None,
                    unaccepted: Some(Problem::new(
                        "UnsupportedValue",
                        format!(
                            "tls mode {mode:?} cannot be used with protocol {}",
                            listener.protocol
                        ),
                    )),
                };
            }
        }
        let (certificates, unresolved) = self.certificates(kind, owner, &tls.certificate_refs);
        if certificates.is_empty() {
            let nothing = || Problem::new("InvalidCertificateRef", "tls.certificateRefs is empty");
            return ListenerTls::unresolved(unresolved.unwrap_or_else(nothing));
        }
        let client = match self.client_validation(gateway, facts, listener, tls, &certificates) {
            Ok(client) => client,
            Err(problem) => {
                return ListenerTls {
                    protocol: None,
                    unaccepted: Some(Problem::new(
                        "NoValidCACertificate",
                        problem.message.clone(),
                    )),
                    unresolved: Some(problem),
                };
            }
        };
        let termination = Termination {
            certificates,
            client,
            minimum: TlsVersion::V1_2,
            maximum: TlsVersion::V1_3,
        };
        ListenerTls {
            protocol: Some(if https {
                Protocol::Https(termination)
            } else {
                Protocol::Tls(termination)
            }),
            unresolved,
            unaccepted: None,
        }
    }

    /// Those that can be used, and the first problem with the others.
    fn certificates(
        &self,
        kind: &str,
        owner: &Named,
        refs: &[api::ObjectRefTo],
    ) -> (Vec<Arc<str>>, Option<Problem>) {
        let (mut names, mut problem) = (Vec::new(), None);
        for reference in refs {
            match self.certificate(kind, &owner.0, reference) {
                Ok((namespace, name)) => names.push(format!("{namespace}/{name}").into()),
                Err(found) => problem = problem.or(Some(found)),
            }
        }
        (names, problem)
    }

    /// The Secret that a reference names, if it may be used and holds a certificate.
    fn certificate(
        &self,
        kind: &str,
        owner: &str,
        reference: &api::ObjectRefTo,
    ) -> Result<Named, Problem> {
        const INVALID: &str = "InvalidCertificateRef";
        let group = reference.group.as_deref().unwrap_or_default();
        let target = reference.kind.as_deref().unwrap_or("Secret");
        let namespace = reference.namespace.as_deref().unwrap_or(owner);
        let name = reference.name.as_str();
        if !group.is_empty() || target != "Secret" {
            return Err(Problem::new(
                INVALID,
                format!("certificate reference {name}: {group}/{target} is no Secret"),
            ));
        }
        let from = Referrer {
            kind,
            namespace: owner,
        };
        if !self.may_refer(
            from,
            Referent {
                group,
                kind: target,
                namespace,
                name,
            },
        ) {
            return Err(Problem::new(
                "RefNotPermitted",
                format!(
                    "certificateRef {namespace}/{name} not accessible to a {kind} in namespace {owner} \
                     (missing a ReferenceGrant?)"
                ),
            ));
        }
        let named: Named = (namespace.into(), name.into());
        match self.gateway.secrets.get(&named).map(|secret| &secret.pair) {
            None => Err(Problem::new(
                INVALID,
                format!("Secret {namespace}/{name} not found"),
            )),
            Some(Err(why)) => Err(Problem::new(
                INVALID,
                format!("Secret {namespace}/{name}: {why}"),
            )),
            Some(Ok(_)) => Ok(named),
        }
    }

    /// What clients must present, by `spec.tls.frontend` of the Gateway or by Istio's option.
    fn client_validation(
        &self,
        gateway: &Named,
        facts: &GatewayFacts,
        listener: &api::Listener,
        tls: &api::ListenerTls,
        certificates: &[Arc<str>],
    ) -> Result<ClientValidation, Problem> {
        if let Some(mode @ ("MUTUAL" | "OPTIONAL_MUTUAL")) =
            tls.options.get(OPTION_MODE).map(String::as_str)
        {
            let secret = certificates.first().and_then(|name| name.split_once('/'));
            let secret =
                secret.and_then(|(ns, name)| self.gateway.secrets.get(&(ns.into(), name.into())));
            let roots = secret
                .and_then(|secret| secret.roots.clone())
                .ok_or_else(|| {
                    Problem::new(
                        "InvalidCACertificateRef",
                        format!("{mode}: the Secret has no roots (ca.crt)"),
                    )
                })?;
            return Ok(match mode {
                "MUTUAL" => ClientValidation::Required {
                    roots,
                    names: Vec::new(),
                },
                _ => ClientValidation::Optional { roots },
            });
        }
        let Some(frontend) = facts
            .spec
            .tls
            .as_ref()
            .and_then(|tls| tls.frontend.as_ref())
        else {
            return Ok(ClientValidation::None);
        };
        let of_port = frontend
            .per_port
            .iter()
            .find(|port| port.port == listener.port);
        let config = of_port.map_or(&frontend.default, |port| &port.tls);
        let Some(validation) = &config.validation else {
            return Ok(ClientValidation::None);
        };
        let mut roots = String::new();
        let mut problem = None;
        for reference in &validation.ca_certificate_refs {
            match self.roots("Gateway", &gateway.0, reference) {
                Ok(text) => {
                    roots.push_str(&text);
                    roots.push('\n');
                }
                Err(found) => problem = problem.or(Some(found)),
            }
        }
        if roots.is_empty() {
            let nothing = || Problem::new("InvalidCACertificateRef", "caCertificateRefs is empty");
            return Err(problem.unwrap_or_else(nothing));
        }
        Ok(match validation.mode.as_deref() {
            Some("AllowInsecureFallback") => ClientValidation::Unverified,
            _ => ClientValidation::Required {
                roots: roots.into(),
                names: Vec::new(),
            },
        })
    }

    /// Roots in a ConfigMap, or in a Secret.
    pub(super) fn roots(
        &self,
        kind: &str,
        owner: &str,
        reference: &api::ObjectRefTo,
    ) -> Result<Arc<str>, Problem> {
        let group = reference.group.as_deref().unwrap_or_default();
        let target = reference.kind.as_deref().unwrap_or_default();
        let namespace = reference.namespace.as_deref().unwrap_or(owner);
        let name = reference.name.as_str();
        if !group.is_empty() || !matches!(target, "ConfigMap" | "Secret") {
            return Err(Problem::new(
                "InvalidCACertificateKind",
                format!(
                    "{group}/{target} {name} can hold no roots; use a ConfigMap with key ca.crt"
                ),
            ));
        }
        let from = Referrer {
            kind,
            namespace: owner,
        };
        if !self.may_refer(
            from,
            Referent {
                group,
                kind: target,
                namespace,
                name,
            },
        ) {
            return Err(Problem::new(
                "RefNotPermitted",
                format!(
                    "caCertificateRef {namespace}/{name} not accessible to a {kind} in namespace {owner} \
                     (missing a ReferenceGrant?)"
                ),
            ));
        }
        let named: Named = (namespace.into(), name.into());
        let roots = match target {
            "ConfigMap" => self
                .gateway
                .config_maps
                .get(&named)
                .and_then(|map| map.roots.clone()),
            _ => self
                .gateway
                .secrets
                .get(&named)
                .and_then(|secret| secret.roots.clone()),
        };
        roots.ok_or_else(|| {
            Problem::new(
                "InvalidCACertificateRef",
                format!("{target} {namespace}/{name} not found, or without PEM certificates in key ca.crt"),
            )
        })
    }

    /// What the Gateway presents to backends.
    pub(super) fn backend_certificate(
        &self,
        gateway: &Named,
        spec: &api::GatewaySpec,
    ) -> Result<Option<Arc<str>>, Problem> {
        let backend = spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
        let Some(reference) = backend.and_then(|b| b.client_certificate_ref.as_ref()) else {
            return Ok(None);
        };
        match self.certificate("Gateway", &gateway.0, reference) {
            Ok((namespace, name)) => Ok(Some(format!("{namespace}/{name}").into())),
            Err(problem) if problem.reason == "RefNotPermitted" => Err(problem),
            Err(problem) => Err(Problem::new("InvalidClientCertificateRef", problem.message)),
        }
    }
}
