//! Ports at the edge of the mesh, and sidecars.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LabelSelector;
use super::destination_rule::ConnectionPoolSettings;
use super::virtual_service::Destination;
use crate::shape::{choice, shape};
use crate::status::IstioStatus;

shape! {
    /// Ports at the edge of the mesh.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io",
        version = "v1",
        kind = "Gateway",
        plural = "gateways",
        shortname = "gw",
        category = "istio-io",
        category = "networking-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "Ports at the edge of the mesh."
    )]
    GatewaySpec {
        servers: Vec<Server>,
        selector: BTreeMap<String, String>,
    }
}

shape! {
    /// A port with its hosts and TLS.
    Server {
        = port: ServerPort,
        = hosts: Vec<String>,
        bind: Option<String>,
        tls: Option<ServerTlsSettings>,
        default_endpoint: Option<String>,
        name: Option<String>,
    }
}

shape! {
    /// A port of a gateway.
    ServerPort {
        = number: u32,
        = protocol: String,
        = name: String,
        target_port: Option<u32>,
    }
}

shape! {
    /// TLS towards clients.
    ServerTlsSettings {
        https_redirect: Option<bool>,
        mode: Option<ServerTlsMode>,
        server_certificate: Option<String>,
        private_key: Option<String>,
        ca_certificates: Option<String>,
        ca_crl: Option<String>,
        credential_name: Option<String>,
        credential_names: Option<CredentialNames>,
        ca_cert_credential_name: Option<String>,
        tls_certificates: Option<TlsCertificates>,
        subject_alt_names: Vec<String>,
        verify_certificate_spki: Vec<String>,
        verify_certificate_hash: Vec<String>,
        min_protocol_version: Option<TlsProtocol>,
        max_protocol_version: Option<TlsProtocol>,
        cipher_suites: Vec<String>,
        insecure_skip_verify: Option<bool>,
    }
}

/// One or two secrets, for example an RSA and an ECDSA certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CredentialNames(#[schemars(length(min = 1, max = 2))] pub Vec<String>);

/// One or two certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TlsCertificates(#[schemars(length(min = 1, max = 2))] pub Vec<TlsCertificate>);

shape! {
    /// Paths of a certificate.
    TlsCertificate {
        server_certificate: Option<String>,
        private_key: Option<String>,
        ca_certificates: Option<String>,
    }
}

choice! {
    /// Kind of TLS.
    ServerTlsMode {
        Passthrough = "PASSTHROUGH",
        Simple = "SIMPLE",
        Mutual = "MUTUAL",
        AutoPassthrough = "AUTO_PASSTHROUGH",
        IstioMutual = "ISTIO_MUTUAL",
        OptionalMutual = "OPTIONAL_MUTUAL",
    }
}

choice! {
    /// Version of TLS.
    TlsProtocol {
        Auto = "TLS_AUTO",
        V10 = "TLSV1_0",
        V11 = "TLSV1_1",
        V12 = "TLSV1_2",
        V13 = "TLSV1_3",
    }
}

shape! {
    /// What a sidecar proxy sees. Without meaning in ambient mode.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io",
        version = "v1",
        kind = "Sidecar",
        plural = "sidecars",
        category = "istio-io",
        category = "networking-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "What a sidecar proxy sees. Without meaning in ambient mode."
    )]
    SidecarSpec {
        workload_selector: Option<LabelSelector>,
        ingress: Vec<IstioIngressListener>,
        egress: Vec<IstioEgressListener>,
        inbound_connection_pool: Option<ConnectionPoolSettings>,
        outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }
}

shape! {
    /// Traffic into the workload.
    IstioIngressListener {
        = port: SidecarPort,
        bind: Option<String>,
        capture_mode: Option<CaptureMode>,
        default_endpoint: Option<String>,
        tls: Option<ServerTlsSettings>,
        connection_pool: Option<ConnectionPoolSettings>,
    }
}

shape! {
    /// Traffic out of the workload.
    IstioEgressListener {
        = hosts: Vec<String>,
        port: Option<SidecarPort>,
        bind: Option<String>,
        capture_mode: Option<CaptureMode>,
    }
}

shape! {
    /// A port of a listener.
    SidecarPort {
        number: Option<u32>,
        protocol: Option<String>,
        name: Option<String>,
        target_port: Option<u32>,
    }
}

choice! {
    /// How traffic is captured.
    CaptureMode {
        Default = "DEFAULT",
        Iptables = "IPTABLES",
        None = "NONE",
    }
}

shape! {
    /// What happens to traffic to unknown hosts.
    OutboundTrafficPolicy {
        mode: Option<OutboundTrafficMode>,
        egress_proxy: Option<Destination>,
    }
}

choice! {
    /// What happens to traffic to unknown hosts.
    OutboundTrafficMode {
        RegistryOnly = "REGISTRY_ONLY",
        AllowAny = "ALLOW_ANY",
    }
}
