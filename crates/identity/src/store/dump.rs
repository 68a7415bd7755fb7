//! What admin pages show of the store.

use std::time::SystemTime;

use tulle_model::Identity;

use crate::certificate;
use crate::store::{Due, Entry};

/// Where an identity stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first certificate has not come yet.
    Initializing,
    /// A certificate is in use.
    Available,
    /// There is none that is valid, and the last fetch failed.
    Unavailable,
}

/// One identity.
#[derive(Debug, Clone)]
pub struct Dump {
    /// Whose.
    pub identity: Identity,
    /// Where it stands.
    pub phase: Phase,
    /// Leaf first, then intermediates.
    pub chain: Vec<DumpedCertificate>,
    /// What peers are checked against.
    pub roots: Vec<DumpedCertificate>,
    /// When the next renewal begins; `None` while one is under way or a failure is waited out.
    pub renew_at: Option<SystemTime>,
    /// Failures since the last success.
    pub failures: u32,
    /// The last failure, if nothing succeeded since.
    pub error: Option<String>,
}

/// One certificate.
#[derive(Debug, Clone)]
pub struct DumpedCertificate {
    /// PEM.
    pub pem: String,
    /// Serial number, decimal: as ztunnel dumps it and istioctl reads it.
    pub serial: String,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
}

impl Dump {
    pub(super) fn of(identity: &Identity, entry: &Entry) -> Self {
        let now = SystemTime::now();
        let valid = entry
            .epoch
            .as_ref()
            .is_some_and(|epoch| now < epoch.not_after);
        let read = |list: &[rustls::pki_types::CertificateDer<'static>]| {
            list.iter().filter_map(DumpedCertificate::of).collect()
        };
        let credentials = entry.epoch.as_ref().map(|epoch| &epoch.credentials);
        Self {
            identity: identity.clone(),
            phase: match (valid, &entry.error) {
                (true, _) => Phase::Available,
                (false, None) => Phase::Initializing,
                (false, Some(_)) => Phase::Unavailable,
            },
            chain: credentials.map(|c| read(&c.chain)).unwrap_or_default(),
            roots: credentials.map(|c| read(&c.roots)).unwrap_or_default(),
            renew_at: match entry.due {
                Due::Renew(at) => Some(at),
                _ => None,
            },
            failures: entry.failures,
            error: entry.error.as_ref().map(ToString::to_string),
        }
    }
}

impl DumpedCertificate {
    fn of(der: &rustls::pki_types::CertificateDer<'static>) -> Option<Self> {
        let life = certificate::life(der).ok()?;
        Some(Self {
            pem: certificate::write_pem("CERTIFICATE", der),
            serial: decimal(&life.serial),
            not_before: life.not_before,
            not_after: life.not_after,
        })
    }
}

/// A number of any length in hexadecimal as a decimal one.
pub(super) fn decimal(hex: &str) -> String {
    // Least significant digit first.
    let mut digits: Vec<u32> = vec![0];
    for nibble in hex.chars().filter_map(|c| c.to_digit(16)) {
        let mut carry = nibble;
        for digit in &mut digits {
            carry += *digit * 16;
            *digit = carry % 10;
            carry /= 10;
        }
        while carry > 0 {
            digits.push(carry % 10);
            carry /= 10;
        }
    }
    let digits = digits.iter().rev();
    digits.filter_map(|d| char::from_digit(*d, 10)).collect()
}
