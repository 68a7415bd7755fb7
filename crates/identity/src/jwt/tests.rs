use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

/// RFC 7515, appendix A.2: RS256.
const RFC_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzER",
    "at0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb",
    "1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlU",
    "PQGe77Rw"
);
const RFC_KEY: &str = concat!(
    r#"{"keys":[{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpR"#,
    r#"PEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGh"#,
    r#"yxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}"#
);

#[test]
fn the_example_of_the_specification() {
    let keys = Keys::parse(RFC_KEY).unwrap();
    let token = Token::parse(RFC_TOKEN).unwrap();
    assert_eq!(keys.verify(&token), Ok(()));
    assert!(token.payload.starts_with(b"{\"iss\":\"joe\""));
}

fn token(algorithm: &str, kid: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let header = json!({ "alg": algorithm, "kid": kid }).to_string();
    let signed = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(b"{\"iss\":\"me\"}")
    );
    let signature = encode(&sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn verify(jwks: &Value, token: &str) -> Result<(), TokenError> {
    Keys::parse(&jwks.to_string())
        .unwrap()
        .verify(&Token::parse(token).unwrap())
}

#[test]
fn elliptic_curves_of_each_size() {
    let random = SystemRandom::new();
    for (name, crv, algorithm, size) in [
        (
            "ES256",
            "P-256",
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            32,
        ),
        (
            "ES384",
            "P-384",
            &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            48,
        ),
        (
            "ES512",
            "P-521",
            &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
            66,
        ),
    ] {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(size);
        let jwks = json!({ "keys": [{ "kty": "EC", "crv": crv, "kid": "a", "x": encode(x), "y": encode(y) }] });
        let good = token(name, "a", |m| {
            pair.sign(&random, m).unwrap().as_ref().to_vec()
        });
        assert_eq!(verify(&jwks, &good), Ok(()), "{name}");
        let bad = token(name, "a", |_| {
            pair.sign(&random, b"something else")
                .unwrap()
                .as_ref()
                .to_vec()
        });
        assert_eq!(verify(&jwks, &bad), Err(TokenError::Signature), "{name}");
    }
}

#[test]
fn rsa_pss_ed25519_and_secrets() {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = rsa.public_key();
    let jwks = json!({ "keys": [{
        "kty": "RSA",
        "n": encode(public.modulus().big_endian_without_leading_zero()),
        "e": encode(public.exponent().big_endian_without_leading_zero()),
    }] });
    let signed = token("PS256", "x", |m| {
        let mut out = vec![0; rsa.public_modulus_len()];
        rsa.sign(&signature::RSA_PSS_SHA256, &random, m, &mut out)
            .unwrap();
        out
    });
    assert_eq!(verify(&jwks, &signed), Ok(()));

    let pair = Ed25519KeyPair::generate().unwrap();
    let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) }] });
    let signed = token("EdDSA", "x", |m| pair.sign(m).as_ref().to_vec());
    assert_eq!(verify(&jwks, &signed), Ok(()));

    let secret = b"a secret of some length";
    let jwks = json!({ "keys": [{ "kty": "oct", "k": encode(secret) }] });
    let key = hmac::Key::new(hmac::HMAC_SHA512, secret);
    let signed = token("HS512", "x", |m| hmac::sign(&key, m).as_ref().to_vec());
    assert_eq!(verify(&jwks, &signed), Ok(()));
}

#[test]
fn only_keys_of_the_token_s_id_and_algorithm_are_tried() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
    let signed = token("HS256", "b", |m| hmac::sign(&key, m).as_ref().to_vec());
    let set = |kid: &str, alg: &str| json!({ "keys": [{ "kty": "oct", "k": encode(b"secret"), "kid": kid, "alg": alg }] });
    assert_eq!(verify(&set("b", "HS256"), &signed), Ok(()));
    assert_eq!(verify(&set("a", "HS256"), &signed), Err(TokenError::Key));
    assert_eq!(verify(&set("b", "HS384"), &signed), Err(TokenError::Key));
}

#[test]
fn a_public_key_is_no_secret() {
    // The classic confusion: an HMAC over the public key must not pass for a signature.
    let keys: Value = serde_json::from_str(RFC_KEY).unwrap();
    let n = keys["keys"][0]["n"].as_str().unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &decode(n).unwrap());
    let forged = token("HS256", "", |m| hmac::sign(&key, m).as_ref().to_vec());
    assert_eq!(verify(&keys, &forged), Err(TokenError::Key));
}

#[test]
fn what_is_no_token_and_what_is_no_key_set() {
    let unsigned = format!("{}.{}.", encode(b"{\"alg\":\"none\"}"), encode(b"{}"));
    assert_eq!(Token::parse(&unsigned).unwrap_err(), TokenError::Algorithm);
    let critical = format!(
        "{}.{}.x",
        encode(b"{\"alg\":\"HS256\",\"crit\":[\"b64\"]}"),
        encode(b"{}")
    );
    assert_eq!(Token::parse(&critical).unwrap_err(), TokenError::Algorithm);
    for text in ["", "a", "a.b", "a.b.c", "a.b.c.d"] {
        assert_eq!(Token::parse(text).unwrap_err(), TokenError::Form, "{text}");
    }
    let long = "x".repeat(MAX_TOKEN + 1);
    assert_eq!(Token::parse(&long).unwrap_err(), TokenError::Size);
    assert!(matches!(Keys::parse("nonsense"), Err(KeysError::Form(_))));
    assert!(matches!(
        Keys::parse("{\"keys\":[{\"kty\":\"oct\",\"use\":\"enc\",\"k\":\"AAAA\"}]}"),
        Err(KeysError::Empty(_))
    ));
}
