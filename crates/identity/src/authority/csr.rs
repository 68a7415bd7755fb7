//! What a certificate request must be.

use rcgen::SubjectPublicKeyInfo;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use tulle_model::Identity;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo as ParsedKey;

use crate::authority::SignRefused;
use crate::limits::{MAX_CSR, MAX_RSA_BITS, MIN_RSA_BITS};

/// The request's key, if the request is small, well-formed, signed by that key, and asks for nothing but `identity`.
pub(super) fn check(pem: &str, identity: &Identity) -> Result<SubjectPublicKeyInfo, SignRefused> {
    let refuse = |why: String| Err(SignRefused::Request(why));
    if pem.len() > MAX_CSR {
        return refuse(format!("{} bytes, at most {MAX_CSR} are read", pem.len()));
    }
    let der = match CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()) {
        Ok(der) => der,
        Err(error) => return refuse(format!("not PEM: {error}")),
    };
    let request = match X509CertificationRequest::from_der(&der) {
        Ok(([], request)) => request,
        Ok(_) => return refuse("bytes follow it".to_owned()),
        Err(error) => return refuse(format!("not PKCS #10: {error}")),
    };
    let key = &request.certification_request_info.subject_pki;
    acceptable_key(key)?;
    if request.verify_signature().is_err() {
        return refuse("its signature is not by the key in it".to_owned());
    }
    compare(&request, identity)?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|error| SignRefused::Request(error.to_string()))
}

fn acceptable_key(key: &ParsedKey<'_>) -> Result<(), SignRefused> {
    let refuse = |why: String| Err(SignRefused::Request(why));
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = rsa.key_size();
            if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                return refuse(format!(
                    "RSA with {bits} bits, between {MIN_RSA_BITS} and {MAX_RSA_BITS} are taken"
                ));
            }
            Ok(())
        }
        Ok(PublicKey::EC(_)) if key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
            let curve = key.algorithm.parameters.as_ref();
            match curve.and_then(|parameters| parameters.as_oid().ok()) {
                Some(oid) if oid == OID_EC_P256 => Ok(()),
                _ => refuse("an elliptic curve other than P-256".to_owned()),
            }
        }
        _ => refuse("its key is neither ECDSA P-256 nor RSA".to_owned()),
    }
}

/// Extensions of the request are never copied, but one that asks for more than it gets was not made in good faith.
fn compare(request: &X509CertificationRequest<'_>, identity: &Identity) -> Result<(), SignRefused> {
    let Some(extensions) = request.requested_extensions() else {
        return Ok(());
    };
    for extension in extensions {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                let wanted = identity.to_string();
                let same = |name: &GeneralName<'_>| matches!(name, GeneralName::URI(uri) if *uri == wanted);
                if let Some(other) = names.general_names.iter().find(|name| !same(name)) {
                    return Err(SignRefused::Request(format!(
                        "it names {other}, the certificate would be for {identity}"
                    )));
                }
            }
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                return Err(SignRefused::Request(
                    "it asks to become a certificate authority".to_owned(),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
