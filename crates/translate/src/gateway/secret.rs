//! Certificates in Secrets, and roots in ConfigMaps.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::state::ConfigMapFacts;

/// Keys of a Secret that hold a certificate chain, by Kubernetes' and by Istio's name.
const CHAIN: [&str; 2] = ["tls.crt", "cert"];
/// Keys that hold the private key.
const KEY: [&str; 2] = ["tls.key", "key"];
/// Keys that hold roots.
const ROOTS: [&str; 2] = ["ca.crt", "cacert"];

/// What matters of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretFacts {
    /// Chain and key in PEM, or what is wrong with them.
    pub(crate) pair: Result<(Arc<str>, Arc<str>), &'static str>,
    /// Roots in PEM.
    pub(crate) roots: Option<Arc<str>>,
}

impl std::fmt::Debug for SecretFacts {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretFacts")
            .field("usable", &self.pair.is_ok())
            .finish_non_exhaustive()
    }
}

/// Takes what matters of a Secret; `None` when it is about something else.
pub(super) fn secret_facts(secret: &Secret) -> Option<SecretFacts> {
    let data = secret.data.as_ref()?;
    let roots = text(data, &ROOTS).filter(|text| has_pem(text, "CERTIFICATE"));
    let tls = secret.type_.as_deref() == Some("kubernetes.io/tls");
    let pair = match (text(data, &CHAIN), text(data, &KEY)) {
        (None, None) if !tls && roots.is_none() => return None,
        (None, _) => Err("it has no certificate (tls.crt)"),
        (_, None) => Err("it has no private key (tls.key)"),
        (Some(chain), _) if !has_pem(&chain, "CERTIFICATE") => {
            Err("tls.crt is no certificate in PEM")
        }
        (_, Some(key)) if !has_pem(&key, "PRIVATE KEY") => Err("tls.key is no private key in PEM"),
        (Some(chain), Some(key)) => Ok((chain, key)),
    };
    Some(SecretFacts { pair, roots })
}

fn text(data: &BTreeMap<String, ByteString>, keys: &[&str]) -> Option<Arc<str>> {
    let bytes = keys.iter().find_map(|key| data.get(*key))?;
    std::str::from_utf8(&bytes.0).ok().map(Arc::from)
}

/// What may matter of a ConfigMap: those with roots are trust anchors, those with overlays are parameters of Gateways. That it
/// exists is enough for the latter.
pub(super) fn config_map_facts(map: &ConfigMap) -> ConfigMapFacts {
    let roots = map.data.as_ref().and_then(|data| data.get("ca.crt"));
    ConfigMapFacts {
        roots: roots
            .filter(|text| has_pem(text, "CERTIFICATE"))
            .map(|text| text.as_str().into()),
    }
}

/// Whether there is a block of PEM whose label ends like this, and whose body is DER as far as its outermost length tells.
/// The proxy reads it for real; this is to tell the user early.
pub(super) fn has_pem(text: &str, label: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((name, body)) = after.split_once("-----") else {
            return false;
        };
        let Some((body, after)) = body.split_once("-----END ") else {
            return false;
        };
        if name.ends_with(label) {
            return is_der(body);
        }
        rest = after;
    }
    false
}

/// Base64 of a SEQUENCE whose length is that of the whole.
fn is_der(base64: &str) -> bool {
    // Lines such as `Proc-Type:` do not occur in unencrypted keys.
    let Some(bytes) = decode(base64) else {
        return false;
    };
    let [0x30, first, rest @ ..] = bytes.as_slice() else {
        return false;
    };
    match first {
        0..=0x7f => rest.len() == usize::from(*first),
        0x81..=0x84 => {
            let count = usize::from(first - 0x80);
            let (Some(length), Some(body)) = (rest.get(..count), rest.get(count..)) else {
                return false;
            };
            let length = length
                .iter()
                .fold(0usize, |sum, b| (sum << 8) | usize::from(*b));
            body.len() == length
        }
        _ => false,
    }
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(base64.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0u32);
    for c in base64
        .bytes()
        .filter(|c| !c.is_ascii_whitespace() && *c != b'=')
    {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}
