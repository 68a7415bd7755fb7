//! Certificates for tests: good ones, and bad ones that no authority of ours would sign.

use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tulle_model::Identity;

use crate::credentials::Credentials;
use crate::epoch::Epoch;
use crate::tls::TlsSettings;

/// An authority that signs whatever it is told to.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(name);
        let der = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { issuer, der }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(name);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { issuer, der }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub(crate) fn pem(&self) -> String {
        crate::certificate::write_pem("CERTIFICATE", &self.der)
    }

    /// A leaf valid for an hour, without names unless `edit` adds some.
    pub(crate) fn leaf(
        &self,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(3600)).into();
        edit(&mut params);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (der, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// Credentials with `names`, whatever they are, that claim to be `identity`.
    pub(crate) fn credentials(
        &self,
        identity: &Identity,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Credentials {
        let (leaf, key) = self.leaf(edit);
        let life = crate::certificate::life(&leaf).unwrap();
        Credentials {
            identity: identity.clone(),
            chain: vec![leaf],
            key,
            roots: vec![self.der.clone()],
            not_before: life.not_before,
            not_after: life.not_after,
            serial: life.serial,
        }
    }

    /// An ordinary epoch.
    pub(crate) fn epoch(&self, name: &str) -> Epoch {
        let identity: Identity = name.parse().unwrap();
        let credentials = self.credentials(&identity, |params| {
            params.subject_alt_names = vec![uri(name)];
        });
        Epoch::new(credentials, TlsSettings::default()).unwrap()
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(Ia5String::try_from(text).unwrap())
}

pub(crate) const SLEEP: &str = "spiffe://cluster.local/ns/default/sa/sleep";
pub(crate) const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";
