//! The certificates of a playground: one authority, one certificate for each part.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::limits;
use crate::network::Subnets;

/// Writes certificates and keys into one directory.
pub(crate) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority; also writes the key pair that signs service account tokens.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let mut params = parameters("playground", None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().context("making the authority's key")?;
        let certificate = params
            .self_signed(&key)
            .context("signing the authority's certificate")?;
        write(dir, "ca.crt", &certificate.pem())?;
        write(dir, "ca.key", &key.serialize_pem())?;
        let tokens = KeyPair::generate().context("making the key for service account tokens")?;
        write(dir, "tokens.key", &tokens.serialize_pem())?;
        write(dir, "tokens.pub", &tokens.public_key_pem())?;
        Ok(Authority {
            dir: dir.to_owned(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The API server's certificate, good for every name and address under which it is reached.
    pub(crate) fn api_server(&self, subnets: &Subnets) -> Result<()> {
        let mut params = parameters("kube-apiserver", None)?;
        for name in [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ] {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.try_into().context("a DNS name")?));
        }
        for address in [
            std::net::Ipv4Addr::LOCALHOST,
            subnets.api_service(),
            subnets.server(),
        ] {
            params
                .subject_alt_names
                .push(SanType::IpAddress(IpAddr::V4(address)));
        }
        self.sign("apiserver", params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client certificate: the API server reads user and group from its subject.
    pub(crate) fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<()> {
        self.sign(
            file,
            parameters(user, group)?,
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    fn sign(
        &self,
        file: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<()> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().with_context(|| format!("making the key of {file}"))?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("signing the certificate of {file}"))?;
        write(&self.dir, &format!("{file}.crt"), &certificate.pem())?;
        write(&self.dir, &format!("{file}.key"), &key.serialize_pem())
    }
}

fn parameters(name: &str, organization: Option<&str>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("certificate parameters")?;
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    let day = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    // Some slack for clocks that were just set back.
    params.not_before = (now - day).into();
    params.not_after = (now + day * limits::CERTIFICATE_DAYS).into();
    Ok(params)
}

/// Readable by root alone: all of it is as good as an administrator's key.
fn write(dir: &Path, file: &str, pem: &str) -> Result<()> {
    let path = dir.join(file);
    let open = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    open.and_then(|mut file| std::io::Write::write_all(&mut file, pem.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}
