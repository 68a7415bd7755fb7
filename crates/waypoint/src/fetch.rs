//! Keys of issuers, from where their rules say.

use std::rc::Rc;

use tulle_policy::jwt::{JwtRule, Keys};

use crate::call;
use crate::worker::Worker;

/// The key set of a rule, as text.
pub(crate) async fn keys(
    worker: &Rc<Worker>,
    rule: &JwtRule,
    name: &str,
) -> Result<String, String> {
    let url = match &rule.keys {
        Keys::Discovery => discovered(worker, rule, name).await?,
        Keys::Uri(_) | Keys::Inline(_) => name.to_owned(),
    };
    text(call::get(worker, &url, rule.timeout).await?)
}

/// OpenID Connect Discovery: the issuer says where its keys are.
async fn discovered(worker: &Rc<Worker>, rule: &JwtRule, issuer: &str) -> Result<String, String> {
    let base = issuer.trim_end_matches('/');
    let url = format!("{base}/.well-known/openid-configuration");
    let found = text(call::get(worker, &url, rule.timeout).await?)?;
    let found: serde_json::Value =
        serde_json::from_str(&found).map_err(|_| format!("{url} is no JSON"))?;
    let place = found.get("jwks_uri").and_then(|uri| uri.as_str());
    place
        .map(str::to_owned)
        .ok_or_else(|| format!("{url} names no jwks_uri"))
}

fn text(bytes: bytes::Bytes) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "the answer is no text".to_owned())
}
