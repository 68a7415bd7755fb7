//! TLS of Istio's Gateways, and the Secrets that it needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_api::networking::{ServerTlsMode, ServerTlsSettings, TlsProtocol};
use tulle_route::resource::{ClientValidation, Termination, TlsVersion};

use super::Name;
use super::findings::Findings;
use crate::cluster::{self, Cluster};

/// Behind the name of a Secret: the one with roots for it.
pub(super) const CA_SUFFIX: &str = "-cacert";

impl Cluster {
    /// How TLS ends at a server; `None` when it cannot.
    pub(super) fn termination(
        &self,
        proxy: &Name,
        path: &str,
        tls: Option<&ServerTlsSettings>,
        findings: &mut Findings,
    ) -> Option<Termination> {
        let path = format!("{path}.tls");
        let Some(tls) = tls else {
            findings.invalid(
                &path,
                "must be there for this protocol, the server is left out",
            );
            return None;
        };
        let mode = tls.mode.unwrap_or(ServerTlsMode::Simple);
        if matches!(
            mode,
            ServerTlsMode::AutoPassthrough | ServerTlsMode::IstioMutual | ServerTlsMode::Unknown
        ) {
            findings.unsupported(
                format!("{path}.mode"),
                "this mode has no effect in ambient mode, the server is left out",
            );
            return None;
        }
        let names = tls.credential_names.iter().flat_map(|names| &names.0);
        let credentials: Vec<&String> = tls
            .credential_name
            .iter()
            .chain(names)
            .filter(|name| !name.is_empty())
            .collect();
        if credentials.is_empty() {
            findings.unsupported(
                &path,
                "certificates come from Secrets only: set credentialName; the server is left out",
            );
            return None;
        }
        for (field, set) in [
            ("cipherSuites", !tls.cipher_suites.is_empty()),
            (
                "verifyCertificateSpki",
                !tls.verify_certificate_spki.is_empty(),
            ),
            (
                "verifyCertificateHash",
                !tls.verify_certificate_hash.is_empty(),
            ),
            ("caCrl", tls.ca_crl.is_some()),
        ] {
            if set {
                findings.unsupported(format!("{path}.{field}"), "has no effect");
            }
        }
        let certificates: Vec<Arc<str>> = credentials
            .iter()
            .map(|name| credential(name, &proxy.0))
            .collect();
        let client = self.server_clients(proxy, &path, tls, mode, &certificates, findings)?;
        let version = |protocol: Option<TlsProtocol>, default| match protocol {
            Some(TlsProtocol::V13) => TlsVersion::V1_3,
            Some(TlsProtocol::V12) => TlsVersion::V1_2,
            _ => default,
        };
        Some(Termination {
            certificates,
            client,
            minimum: version(tls.min_protocol_version, TlsVersion::V1_2),
            maximum: version(tls.max_protocol_version, TlsVersion::V1_3),
        })
    }

    fn server_clients(
        &self,
        proxy: &Name,
        path: &str,
        tls: &ServerTlsSettings,
        mode: ServerTlsMode,
        certificates: &[Arc<str>],
        findings: &mut Findings,
    ) -> Option<ClientValidation> {
        let required = match mode {
            ServerTlsMode::Mutual => true,
            ServerTlsMode::OptionalMutual => false,
            _ => return Some(ClientValidation::None),
        };
        let own = tls
            .ca_cert_credential_name
            .as_deref()
            .filter(|name| !name.is_empty());
        let secrets = match own {
            Some(name) => vec![credential(name, &proxy.0)],
            None => {
                let beside = certificates
                    .iter()
                    .map(|name| Arc::from(format!("{name}{CA_SUFFIX}")));
                certificates.iter().cloned().chain(beside).collect()
            }
        };
        let Some(roots) = secrets.iter().find_map(|secret| self.secret_roots(secret)) else {
            findings.invalid(
                format!("{path}.credentialName"),
                "no Secret of that name with ca.crt, which mutual TLS needs: the server is left out",
            );
            return None;
        };
        let names = tls
            .subject_alt_names
            .iter()
            .map(|name| Arc::from(name.as_str()))
            .collect();
        Some(if required {
            ClientValidation::Required { roots, names }
        } else {
            ClientValidation::Optional { roots }
        })
    }

    /// Roots in a Secret (`namespace/name`).
    pub(super) fn secret_roots(&self, secret: &str) -> Option<Arc<str>> {
        let (namespace, name) = secret.split_once('/')?;
        self.gateway
            .secrets
            .get(&(namespace.into(), name.into()))?
            .roots
            .clone()
    }

    /// Proxies that need the certificate in a Secret.
    pub(crate) fn networking_certificate_users(&self, secret: &Name) -> BTreeSet<Arc<str>> {
        let name = format!("{}/{}", secret.0, secret.1);
        let named = self
            .networking_certificates()
            .into_iter()
            .filter(|(secret, _)| **secret == *name);
        let destinations = self
            .destination_certificates()
            .into_iter()
            .filter(|(secret, _)| **secret == *name);
        named.chain(destinations).map(|(_, proxy)| proxy).collect()
    }

    /// A Secret appeared, changed or went: listeners and destinations hold its roots, and conditions tell of it.
    pub(crate) fn mark_networking_of_secret(&mut self, secret: &Name) {
        let name = format!("{}/{}", secret.0, secret.1);
        let base = name.strip_suffix(CA_SUFFIX).unwrap_or(&name);
        let listeners = self.networking_certificates();
        if listeners.iter().any(|(used, _)| **used == *base) || self.names_client_roots(&name) {
            // Listeners come and go with their roots, and routes with listeners.
            self.mark_proxies();
        }
        for service in self.destinations_with_secrets() {
            self.dirty.insert(cluster::Source::Destination(service));
        }
    }

    /// Whether a Gateway names a Secret for the roots of clients.
    fn names_client_roots(&self, secret: &str) -> bool {
        let servers = self
            .networking
            .gateways
            .values()
            .flat_map(|object| &object.spec.servers);
        let mut names =
            servers.filter_map(|server| server.tls.as_ref()?.ca_cert_credential_name.as_deref());
        names.any(|name| secret.ends_with(&format!("/{name}")))
    }

    /// Certificates that objects here name, in any namespace, may have other receivers.
    pub(super) fn mark_certificates(&mut self) {
        let servers = self
            .networking
            .gateways
            .values()
            .flat_map(|object| &object.spec.servers);
        let tls = servers.filter_map(|server| server.tls.as_ref());
        let of_gateways = tls.flat_map(|tls| {
            let many = tls.credential_names.iter().flat_map(|names| &names.0);
            tls.credential_name.iter().chain(many).map(String::as_str)
        });
        let bare = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
        let names: BTreeSet<String> = of_gateways
            .chain(self.rule_credentials())
            .map(bare)
            .collect();
        if names.is_empty() {
            return;
        }
        let secrets = self
            .gateway
            .secrets
            .keys()
            .filter(|(_, name)| names.contains(&**name));
        let marked: Vec<crate::gateway::Source> = secrets
            .map(|(ns, name)| crate::gateway::Source::Certificate(ns.clone(), name.clone()))
            .collect();
        self.dirty
            .extend(marked.into_iter().map(cluster::Source::Gateway));
    }

    /// Certificates that proxies made by users need: name of the Secret, and whose it is.
    pub(super) fn networking_certificates(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let mut all = Vec::new();
        for object in self.networking.gateways.values() {
            for proxy in self.proxies_of(object) {
                let tls = object
                    .spec
                    .servers
                    .iter()
                    .filter_map(|server| server.tls.as_ref());
                for tls in tls {
                    let names = tls.credential_names.iter().flat_map(|names| &names.0);
                    for name in tls.credential_name.iter().chain(names) {
                        all.push((
                            credential(name, &proxy.0),
                            format!("{}/{}", proxy.0, proxy.1).into(),
                        ));
                    }
                }
            }
        }
        all
    }
}

/// `namespace/name` of a Secret that a proxy of `namespace` may use: its own namespace's, whatever is written before.
pub(super) fn credential(name: &str, namespace: &str) -> Arc<str> {
    let name = name.strip_prefix("kubernetes://").unwrap_or(name);
    let name = name.rsplit('/').next().unwrap_or(name);
    format!("{namespace}/{name}").into()
}
