//! An issuer of tokens, as far as proxies ask it: its keys, and where they are (OpenID Connect Discovery).

use http::StatusCode;
use serde_json::json;

use crate::app::{Reply, Request, Settings, json as json_reply, not_found, reply};

/// `/jwks` and `/.well-known/openid-configuration`. The key set comes from the environment: `JWKS`.
pub(crate) struct Issuer {
    keys: String,
    issuer: Option<String>,
}

impl Issuer {
    pub(crate) fn new(settings: &dyn Settings) -> Self {
        Self {
            keys: settings
                .get("JWKS")
                .unwrap_or_else(|| r#"{"keys": []}"#.to_owned()),
            issuer: settings.get("ISSUER"),
        }
    }

    pub(crate) fn answer(&self, request: &Request) -> Reply {
        eprintln!("{} {}", request.method, request.path);
        let own = format!("http://{}", request.header("host").unwrap_or("localhost"));
        match request.path.as_str() {
            "/jwks" => reply(StatusCode::OK, "application/json", self.keys.clone()),
            "/.well-known/openid-configuration" => {
                let issuer = self.issuer.as_ref().unwrap_or(&own);
                let keys = format!("{own}/jwks");
                json_reply(StatusCode::OK, &json!({"issuer": issuer, "jwks_uri": keys}))
            }
            _ => not_found(),
        }
    }
}
