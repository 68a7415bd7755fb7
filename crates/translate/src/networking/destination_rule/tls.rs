//! TLS to endpoints, and the Secrets that it needs.

use std::sync::Arc;

use tulle_api::networking::{ClientTlsMode, ClientTlsSettings, DestinationRuleSpec};
use tulle_route::resource::{BackendTls, VerifyNames};

use super::policy::Reader;
use crate::networking::secrets::{CA_SUFFIX, credential};

impl Reader<'_> {
    /// `None` for DISABLE, and for ISTIO_MUTUAL, which the tunnel gives anyway.
    pub(super) fn tls(&mut self, tls: &ClientTlsSettings, path: &str) -> Option<BackendTls> {
        let path = format!("{path}.tls");
        let mutual = match tls.mode {
            None | Some(ClientTlsMode::Disable | ClientTlsMode::IstioMutual) => return None,
            Some(ClientTlsMode::Simple) => false,
            Some(ClientTlsMode::Mutual) => true,
            Some(ClientTlsMode::Unknown) => {
                self.findings
                    .invalid(format!("{path}.mode"), "is not known");
                return None;
            }
        };
        let files = [
            ("clientCertificate", &tls.client_certificate),
            ("privateKey", &tls.private_key),
            ("caCrl", &tls.ca_crl),
        ];
        for (field, file) in files {
            if file.as_deref().is_some_and(|file| !file.is_empty()) {
                self.findings.unsupported(
                    format!("{path}.{field}"),
                    "waypoints have no such files: use credentialName",
                );
            }
        }
        if tls
            .ca_certificates
            .as_deref()
            .is_some_and(|file| !file.is_empty() && file != "system")
        {
            let why =
                "waypoints have no such files: use credentialName; the system's roots are used";
            self.findings
                .unsupported(format!("{path}.caCertificates"), why);
        }
        let secret = tls
            .credential_name
            .as_deref()
            .filter(|name| !name.is_empty())
            .map(|name| credential(name, self.client));
        let roots = secret.as_ref().and_then(|secret| {
            let own = self.cluster.secret_roots(secret);
            own.or_else(|| self.cluster.secret_roots(&format!("{secret}{CA_SUFFIX}")))
        });
        if mutual && secret.is_none() {
            self.findings.invalid(
                format!("{path}.credentialName"),
                "MUTUAL needs a Secret with the client's certificate",
            );
        }
        let names = tls.subject_alt_names.iter();
        let mut names: Vec<Arc<str>> = names.map(|name| name.as_str().into()).collect();
        if names.is_empty() {
            // A ServiceEntry can say it, too.
            names.clone_from(&self.service.subject_alt_names);
        }
        Some(BackendTls {
            sni: tls
                .sni
                .as_deref()
                .filter(|sni| !sni.is_empty())
                .map(Arc::from),
            roots,
            certificate: secret.filter(|_| mutual),
            gateway_certificate: false,
            verify: if tls.insecure_skip_verify == Some(true) {
                VerifyNames::Insecure
            } else if names.is_empty() {
                VerifyNames::Sni
            } else {
                VerifyNames::AnyOf(names)
            },
        })
    }
}

/// Whether any TLS of the rule names a Secret.
pub(super) fn names_secrets(spec: &DestinationRuleSpec) -> bool {
    credentials(spec).next().is_some()
}

/// Secrets with client certificates that the rule names.
pub(super) fn credentials(spec: &DestinationRuleSpec) -> impl Iterator<Item = &str> {
    let mutual = of_rule(spec).filter(|tls| tls.mode == Some(ClientTlsMode::Mutual));
    mutual.filter_map(credential_name)
}

/// Secrets that the rule names, those with roots alone included.
pub(super) fn all_credentials(spec: &DestinationRuleSpec) -> impl Iterator<Item = &str> {
    of_rule(spec).filter_map(credential_name)
}

fn credential_name(tls: &ClientTlsSettings) -> Option<&str> {
    tls.credential_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

fn of_rule(spec: &DestinationRuleSpec) -> impl Iterator<Item = &ClientTlsSettings> {
    let policies = spec.traffic_policy.iter().chain(
        spec.subsets
            .iter()
            .filter_map(|s| s.traffic_policy.as_ref()),
    );
    policies.flat_map(|policy| {
        let ports = policy
            .port_level_settings
            .iter()
            .filter_map(|port| port.tls.as_ref());
        policy.tls.iter().chain(ports)
    })
}
