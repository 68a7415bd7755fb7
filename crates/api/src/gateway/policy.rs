//! ReferenceGrant and BackendTLSPolicy.

use serde::{Deserialize, Serialize};

use super::{ObjectRefTo, part};

part!(
    /// Who may refer to objects of the grant's namespace.
    ReferenceGrantSpec {
        from: Vec<GrantFrom>,
        to: Vec<GrantTo>,
    }
);

part!(
    /// Objects that refer.
    GrantFrom {
        group: String,
        kind: String,
        namespace: String,
    }
);

part!(
    /// Objects that are referred to.
    GrantTo {
        group: String,
        kind: String,
        name: Option<String>,
    }
);

part!(
    /// How TLS to a backend is made.
    BackendTlsPolicySpec {
        target_refs: Vec<PolicyTarget>,
        validation: BackendTlsValidation,
        options: std::collections::BTreeMap<String, String>,
    }
);

part!(
    /// What a policy is for.
    PolicyTarget {
        group: String,
        kind: String,
        name: String,
        section_name: Option<String>,
    }
);

part!(
    /// What the certificate of a backend must say.
    BackendTlsValidation {
        #[serde(rename = "caCertificateRefs")]
        ca_certificate_refs: Vec<ObjectRefTo>,
        #[serde(rename = "wellKnownCACertificates")]
        well_known_ca_certificates: Option<String>,
        hostname: String,
        subject_alt_names: Vec<SubjectAltName>,
    }
);

part!(
    /// A name in a certificate.
    SubjectAltName {
        #[serde(rename = "type")]
        type_: String,
        hostname: Option<String>,
        uri: Option<String>,
    }
);
