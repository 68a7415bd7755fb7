//! Signatures of tokens (JWT, RFC 7515 and 7519) against key sets (RFC 7517). What the claims mean is the policy's business.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use serde_json::Value;

use crate::limits::{MAX_JWKS, MAX_JWKS_KEYS, MAX_RSA_BITS, MAX_TOKEN, MIN_RSA_BITS};

/// Padding or none: issuers do both.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes as base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Base64url, with padding or without.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(text).ok()
}

/// Why a key set cannot be used. Its issuer erred.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// No JSON object with `keys`.
    #[error("the key set is no JSON object with a list named keys: {0}")]
    Form(String),
    /// Too large.
    #[error("the key set has {0} bytes, at most {MAX_JWKS} are read")]
    Size(usize),
    /// Nothing in it helps.
    #[error("the key set holds no key that we can use: {0}")]
    Empty(String),
}

/// Why a token is refused. Its bearer erred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts, or a part is no base64url JSON.
    #[error("the token is not of the form header.payload.signature")]
    Form,
    /// Larger than we take.
    #[error("the token is too large")]
    Size,
    /// `none`, or one that nobody should use.
    #[error("the token's algorithm is not supported")]
    Algorithm,
    /// No key with its `kid`, or of its kind.
    #[error("no key of the set fits the token's kid and algorithm")]
    Key,
    /// None of the keys that fit verifies it.
    #[error("the token's signature is wrong")]
    Signature,
}

/// A token that was taken apart, not yet verified.
#[derive(Clone, Debug)]
pub struct Token<'a> {
    signed: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
    /// The claims: a JSON object, as bytes.
    pub payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Rsa(&'static RsaParameters, &'static str),
    Ecdsa(Curve),
    Ed25519,
    Hmac(Hash),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256, "RS256"),
            "RS384" => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384, "RS384"),
            "RS512" => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512, "RS512"),
            "PS256" => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA256, "PS256"),
            "PS384" => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA384, "PS384"),
            "PS512" => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA512, "PS512"),
            "ES256" => Self::Ecdsa(Curve::P256),
            "ES384" => Self::Ecdsa(Curve::P384),
            "ES512" => Self::Ecdsa(Curve::P521),
            "EdDSA" => Self::Ed25519,
            "HS256" => Self::Hmac(Hash::Sha256),
            "HS384" => Self::Hmac(Hash::Sha384),
            "HS512" => Self::Hmac(Hash::Sha512),
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rsa(_, name) => name,
            Self::Ecdsa(Curve::P256) => "ES256",
            Self::Ecdsa(Curve::P384) => "ES384",
            Self::Ecdsa(Curve::P521) => "ES512",
            Self::Ed25519 => "EdDSA",
            Self::Hmac(Hash::Sha256) => "HS256",
            Self::Hmac(Hash::Sha384) => "HS384",
            Self::Hmac(Hash::Sha512) => "HS512",
        }
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// If it is no token, or signed in a way that cannot be verified.
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN {
            return Err(TokenError::Size);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Form)?;
        if payload.contains('.') {
            return Err(TokenError::Form);
        }
        let part = |text: &str| decode(text).ok_or(TokenError::Form);
        let header: Value = serde_json::from_slice(&part(header)?).map_err(|_| TokenError::Form)?;
        // RFC 7515 §4.1.11: what is critical and not understood makes the token invalid.
        if header.get("crit").is_some() {
            return Err(TokenError::Algorithm);
        }
        let algorithm = header.get("alg").and_then(Value::as_str);
        Ok(Self {
            signed,
            algorithm: algorithm
                .and_then(Algorithm::named)
                .ok_or(TokenError::Algorithm)?,
            key_id: header.get("kid").and_then(Value::as_str).map(str::to_owned),
            payload: part(payload)?,
            signature: part(signature)?,
        })
    }
}

/// The keys of an issuer.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed point.
    Ec(Curve, Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

impl std::fmt::Debug for Key {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads a key set. Keys that are not for signatures, or of a kind that we do not know, are left out.
    ///
    /// # Errors
    /// If no usable key is left.
    pub fn parse(jwks: &str) -> Result<Self, KeysError> {
        if jwks.len() > MAX_JWKS {
            return Err(KeysError::Size(jwks.len()));
        }
        let form = |why: String| KeysError::Form(why);
        let value: Value = serde_json::from_str(jwks).map_err(|e| form(e.to_string()))?;
        let list = value.get("keys").and_then(Value::as_array);
        let list = list.ok_or_else(|| form("there is no such list".to_owned()))?;
        let mut keys = Vec::new();
        let mut last = "the list is empty".to_owned();
        for key in list.iter().take(MAX_JWKS_KEYS) {
            match Key::read(key) {
                Ok(key) => keys.push(key),
                Err(why) => last = why.to_owned(),
            }
        }
        if keys.is_empty() {
            return Err(KeysError::Empty(last));
        }
        Ok(Self(keys))
    }

    /// Whether one of the keys signed the token.
    ///
    /// # Errors
    /// If none did.
    pub fn verify(&self, token: &Token<'_>) -> Result<(), TokenError> {
        let mut outcome = TokenError::Key;
        for key in self.0.iter().filter(|key| key.may_fit(token)) {
            match key.verifies(token) {
                Some(true) => return Ok(()),
                Some(false) => outcome = TokenError::Signature,
                None => {}
            }
        }
        Err(outcome)
    }
}

impl Key {
    fn read(key: &Value) -> Result<Self, &'static str> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            text(name)
                .and_then(decode)
                .filter(|b| !b.is_empty())
                .ok_or("a member is missing or no base64url")
        };
        if text("use").is_some_and(|usage| usage != "sig") {
            return Err("it is not for signatures");
        }
        let material = match text("kty") {
            Some("RSA") => {
                let n = bytes("n")?;
                let bits = n.len() * 8;
                if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                    return Err("an RSA key must have 2048 to 8192 bits");
                }
                Material::Rsa { n, e: bytes("e")? }
            }
            Some("EC") => {
                let (curve, size) = match text("crv") {
                    Some("P-256") => (Curve::P256, 32),
                    Some("P-384") => (Curve::P384, 48),
                    Some("P-521") => (Curve::P521, 66),
                    _ => return Err("an unknown curve"),
                };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() > size || y.len() > size {
                    return Err("a coordinate is too long");
                }
                let mut point = vec![4; 1 + 2 * size];
                point[1..].fill(0);
                point[1 + size - x.len()..=size].copy_from_slice(&x);
                let end = point.len();
                point[end - y.len()..].copy_from_slice(&y);
                Material::Ec(curve, point)
            }
            Some("OKP") if text("crv") == Some("Ed25519") => Material::Ed25519(bytes("x")?),
            Some("oct") => Material::Secret(bytes("k")?),
            _ => return Err("an unknown kind of key"),
        };
        Ok(Self {
            id: text("kid").map(str::to_owned),
            algorithm: text("alg").map(str::to_owned),
            material,
        })
    }

    fn may_fit(&self, token: &Token<'_>) -> bool {
        let same_id = match (&self.id, &token.key_id) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        let algorithm = self.algorithm.as_deref();
        same_id && algorithm.is_none_or(|own| own == token.algorithm.name())
    }

    /// `None`: the key is of another kind.
    fn verifies(&self, token: &Token<'_>) -> Option<bool> {
        let message = token.signed.as_bytes();
        let signature = &token.signature[..];
        let verified = match (&self.material, token.algorithm) {
            (Material::Rsa { n, e }, Algorithm::Rsa(parameters, _)) => {
                RsaPublicKeyComponents { n, e }
                    .verify(parameters, message, signature)
                    .is_ok()
            }
            (Material::Ec(curve, point), Algorithm::Ecdsa(wanted)) if *curve == wanted => {
                let algorithm = match curve {
                    Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED,
                    Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED,
                    Curve::P521 => &signature::ECDSA_P521_SHA512_FIXED,
                };
                UnparsedPublicKey::new(algorithm, point)
                    .verify(message, signature)
                    .is_ok()
            }
            (Material::Ed25519(x), Algorithm::Ed25519) => {
                UnparsedPublicKey::new(&signature::ED25519, x)
                    .verify(message, signature)
                    .is_ok()
            }
            (Material::Secret(secret), Algorithm::Hmac(hash)) => {
                let algorithm = match hash {
                    Hash::Sha256 => hmac::HMAC_SHA256,
                    Hash::Sha384 => hmac::HMAC_SHA384,
                    Hash::Sha512 => hmac::HMAC_SHA512,
                };
                let key = hmac::Key::new(algorithm, secret);
                hmac::verify(&key, message, signature).is_ok()
            }
            _ => return None,
        };
        Some(verified)
    }
}

#[cfg(test)]
mod tests;
