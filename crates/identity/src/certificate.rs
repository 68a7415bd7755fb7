//! Reading certificates: PEM bundles, and the few fields of a leaf that we need.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tulle_model::Identity;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::limits::MAX_PEM;
use crate::verify::PeerError;

/// Validity and serial number of a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// Lower-case hex.
    pub(crate) serial: String,
}

/// The one identity that a leaf names.
pub(crate) fn spiffe(der: &CertificateDer<'_>) -> Result<Identity, PeerError> {
    let certificate = parse(der).map_err(PeerError::Malformed)?;
    let (mut uris, mut others, mut uri) = (0, 0, None);
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
            for name in &names.general_names {
                match name {
                    GeneralName::URI(text) => {
                        uris += 1;
                        uri = Some(*text);
                    }
                    _ => others += 1,
                }
            }
        }
    }
    match uri {
        Some(uri) if uris == 1 && others == 0 => Ok(uri.parse()?),
        _ => Err(PeerError::Names { uris, others }),
    }
}

/// The names in a leaf of a user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) uris: Vec<String>,
    /// In lower case.
    pub(crate) dns: Vec<String>,
    pub(crate) subject: String,
}

impl Names {
    /// Whether a DNS name fits; `*.a` stands for one label (RFC 6125 §6.4.3).
    pub(crate) fn fits_dns(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.dns.iter().any(|known| match known.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => *known == name,
        })
    }
}

/// All names in a leaf.
pub(crate) fn names(der: &CertificateDer<'_>) -> Result<Names, String> {
    let certificate = parse(der)?;
    let mut names = Names {
        subject: certificate.subject().to_string(),
        ..Names::default()
    };
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(found) = extension.parsed_extension() {
            for name in &found.general_names {
                match name {
                    GeneralName::URI(text) => names.uris.push((*text).to_owned()),
                    GeneralName::DNSName(text) => names.dns.push(text.to_ascii_lowercase()),
                    _ => {}
                }
            }
        }
    }
    Ok(names)
}

/// When a certificate is valid, and its number.
pub(crate) fn life(der: &CertificateDer<'_>) -> Result<Life, String> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    let serial = certificate.raw_serial();
    let serial = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    Ok(Life {
        not_before: instant(validity.not_before.timestamp()),
        not_after: instant(validity.not_after.timestamp()),
        serial: serial.iter().map(|b| format!("{b:02x}")).collect(),
    })
}

pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("bytes follow the certificate".to_owned());
    }
    Ok(certificate)
}

/// All certificates of a PEM text, in order; other sections are skipped.
pub(crate) fn read_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if pem.len() > MAX_PEM {
        return Err(format!("{} bytes of PEM, more than {MAX_PEM}", pem.len()));
    }
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("not valid PEM: {error}"))
}

/// A DER blob as a PEM section.
pub(crate) fn write_pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(der.len() * 4 / 3 + der.len() / 48 + 64);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group
                .iter()
                .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - group.len()));
            for place in 0..4 {
                text.push(if place <= group.len() {
                    ALPHABET[(bits >> (18 - 6 * place) & 63) as usize] as char
                } else {
                    '='
                });
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn instant(seconds: i64) -> SystemTime {
    match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => UNIX_EPOCH,
    }
}

#[cfg(test)]
mod tests;
