//! Tokens, certificates, and what begins a handshake. Certificates and hellos are made anew with fresh keys, so these inputs
//! differ from run to run in the bytes of keys and times.

use tulle_identity::jwt::encode;

/// Key of RFC 8037, appendix A, and its token.
pub(crate) fn token() -> Vec<Vec<u8>> {
    let parts = [
        encode(br#"{"alg":"EdDSA","kid":"a"}"#),
        encode(br#"{"iss":"me","aud":["x"],"exp":4102444800}"#),
        encode(&[7; 64]),
    ];
    let key = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let rsa = format!(
        r#"{{"kty":"RSA","use":"sig","alg":"RS256","n":"{}","e":"AQAB"}}"#,
        encode(&[0x9f; 256])
    );
    let ec = format!(
        r#"{{"kty":"EC","crv":"P-256","x":"{0}","y":"{0}"}}"#,
        encode(&[5; 32])
    );
    let with = |alg: &str, key: &str| {
        let header = encode(format!(r#"{{"alg":"{alg}"}}"#).as_bytes());
        format!("{header}.{}.{}\n{{\"keys\":[{key}]}}", parts[1], parts[2]).into_bytes()
    };
    vec![
        format!("{}\n{{\"keys\":[{key}]}}", parts.join(".")).into_bytes(),
        with("RS256", &rsa),
        with("ES256", &ec),
        with("PS512", &format!("{rsa},{ec},{key}")),
    ]
}

pub(crate) fn certificate_request() -> Vec<Vec<u8>> {
    vec![tulle_identity::fuzz::request_seed().into_bytes()]
}

pub(crate) fn certificate() -> Vec<Vec<u8>> {
    vec![tulle_identity::fuzz::certificate_seed()]
}

/// The first flight of our own client, the half of it, and what is none.
pub(crate) fn handshake() -> Vec<Vec<u8>> {
    let hello = tulle_identity::fuzz::hello_seed();
    let cut = hello[..hello.len() / 2].to_vec();
    vec![
        hello,
        cut,
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![22, 3, 1, 0, 5, 1, 0, 0, 1, 9],
        vec![21, 3, 3, 0, 2, 2, 40],
    ]
}
