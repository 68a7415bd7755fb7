//! Tokens (JWT) of requests: found and judged by policies, verified here.

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tulle_identity::jwt;
use tulle_policy::http::Cause;
use tulle_policy::jwt::{Candidate, Carrier, Claims, Location, Plan, Refusal, TokenError};
use tulle_route::Values;

use crate::canonical::{Canonical, set_target};
use crate::exchange::Exchange;
use crate::reply::Reply;
use crate::{authorize, keyring};

/// The claims of the request's token, if it has one; what only we may say of it is put into its headers.
pub(crate) async fn authenticate(
    exchange: &mut Exchange,
    head: &mut Parts,
    canonical: &Canonical,
) -> Result<Option<Claims>, Reply> {
    let snapshot = exchange.snapshot.clone();
    if snapshot.authentications.is_empty() {
        return Ok(None);
    }
    for name in snapshot.authentications.own_headers(exchange.targets()) {
        head.headers.remove(&**name);
    }
    let carrier = Carried {
        headers: &head.headers,
        query: canonical.query.as_deref(),
    };
    let plan = snapshot
        .authentications
        .plan(exchange.targets(), &carrier, jwt::decode);
    let candidates = match plan {
        Plan::Pass => return Ok(None),
        Plan::Refuse(Refusal::Token { policy, error }) => {
            return Err(refused(exchange, &policy, &error));
        }
        Plan::Refuse(Refusal::Unenforceable { policy, why }) => {
            let cause = Cause::Unenforceable { policy, why };
            authorize::refused(&exchange.worker.shared, &cause);
            let details = authorize::details(&cause);
            let reply = Reply::new(StatusCode::FORBIDDEN, "RBAC: access denied", &details);
            return Err(reply.because(&cause));
        }
        Plan::Verify(candidates) => candidates,
    };
    let mut first: Option<Reply> = None;
    for candidate in candidates {
        match verify(exchange, &candidate).await {
            Ok(claims) => {
                pass_on(head, canonical, &candidate, &claims)?;
                return Ok(Some(claims));
            }
            Err(error) => {
                first.get_or_insert_with(|| refused(exchange, &candidate.policy, &error));
            }
        }
    }
    // A plan to verify has somebody to verify.
    let none = || Reply::new(StatusCode::UNAUTHORIZED, "", "jwt_authn_access_denied");
    Err(first.unwrap_or_else(none))
}

/// 401, in Envoy's words; the log also names the RequestAuthentication.
fn refused(exchange: &Exchange, policy: &Arc<str>, error: &TokenError) -> Reply {
    let text = error.as_str();
    let details = format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_"));
    let mut reply = Reply::new(StatusCode::UNAUTHORIZED, text, &details);
    let why = format!("denied by request authentication {policy}: {text}");
    reply.upstream_failure = Some(why.into());
    let decisions = &exchange.worker.shared.decisions;
    decisions.with(&[policy, authorize::TOKEN_REFUSED]).inc();
    let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
    reply.header(header::WWW_AUTHENTICATE, challenge)
}

async fn verify(exchange: &Exchange, candidate: &Candidate) -> Result<Claims, TokenError> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let claims = candidate.claims.clone().accept(&candidate.rule, now)?;
    let token = jwt::Token::parse(&candidate.token).map_err(|error| match error {
        jwt::TokenError::Form | jwt::TokenError::Size => TokenError::Malformed,
        _ => TokenError::Signature,
    })?;
    let (worker, rule) = (&exchange.worker, &candidate.rule);
    let keys = keyring::keys(worker, rule).await;
    let mut verified = keys.ok_or(TokenError::NoKeys)?.verify(&token);
    if verified == Err(jwt::TokenError::Key) {
        // The issuer may have a new key.
        let keys = keyring::newer(worker, rule).await;
        verified = keys.map_or(verified, |keys| keys.verify(&token));
    }
    match verified {
        Ok(()) => Ok(claims),
        Err(jwt::TokenError::Key) => Err(TokenError::UnknownKey),
        Err(_) => Err(TokenError::Signature),
    }
}

/// What the application sees of a verified token.
fn pass_on(
    head: &mut Parts,
    canonical: &Canonical,
    candidate: &Candidate,
    claims: &Claims,
) -> Result<(), Reply> {
    let rule = &candidate.rule;
    if !rule.forward {
        match &candidate.location {
            Location::Header(place) => {
                head.headers.remove(&*place.name);
            }
            Location::Cookie(name) => without_cookie(&mut head.headers, name),
            Location::Param(name) => {
                let query = canonical.query.as_deref().unwrap_or_default();
                let kept: Vec<&str> = query
                    .split('&')
                    .filter(|pair| pair.split('=').next() != Some(name))
                    .collect();
                let target = match kept.is_empty() {
                    true => canonical.path.to_string(),
                    false => format!("{}?{}", canonical.path, kept.join("&")),
                };
                set_target(head, &target)?;
            }
        }
    }
    let mut set = |name: &str, value: String| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            head.headers.insert(name, value);
        }
    };
    if let Some(name) = &rule.payload_header
        && let Some(payload) = candidate.token.split('.').nth(1)
    {
        set(name, payload.to_owned());
    }
    for copied in &rule.claim_headers {
        if let Some(value) = claims.header_value(&copied.claim, jwt::encode) {
            set(&copied.header, value);
        }
    }
    Ok(())
}

fn without_cookie(headers: &mut HeaderMap, gone: &str) {
    let lines: Vec<String> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .map(|line| {
            let kept = line
                .split(';')
                .map(str::trim)
                .filter(|pair| pair.split('=').next() != Some(gone));
            kept.collect::<Vec<_>>().join("; ")
        })
        .filter(|line| !line.is_empty())
        .collect();
    headers.remove(header::COOKIE);
    for line in lines {
        if let Ok(value) = HeaderValue::try_from(line) {
            headers.append(header::COOKIE, value);
        }
    }
}

struct Carried<'a> {
    headers: &'a HeaderMap,
    query: Option<&'a str>,
}

impl Carrier for Carried<'_> {
    fn header(&self, name: &str) -> Vec<Cow<'_, str>> {
        let values = self.headers.get_all(name).iter();
        values
            .filter_map(|v| v.to_str().ok())
            .map(Cow::Borrowed)
            .collect()
    }

    fn query(&self) -> Option<&str> {
        self.query
    }
}

/// Claims as routes see them.
pub(crate) struct ForRoutes<'a>(pub(crate) &'a Claims);

impl tulle_route::Claims for ForRoutes<'_> {
    fn any(&self, path: &[&str], visit: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.any(path, visit)
    }
}

/// Headers as routes see them: VirtualServices match claims by names that begin with `@request.auth.claims`.
pub(crate) struct Headers<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) claims: Option<&'a Claims>,
}

const CLAIMS: &str = "@request.auth.claims";

impl tulle_route::Headers for Headers<'_> {
    fn values(&self, name: &str) -> Values<'_> {
        let Some(path) = name.strip_prefix(CLAIMS) else {
            return tulle_route::Headers::values(self.headers, name);
        };
        let Some(claims) = self.claims else {
            return Values::None;
        };
        let path: Vec<&str> = match path.strip_prefix('.') {
            Some(dotted) => dotted.split('.').collect(),
            None => path
                .split(['[', ']'])
                .filter(|part| !part.is_empty())
                .collect(),
        };
        let mut found: Vec<Vec<u8>> = Vec::new();
        claims.any(&path, &mut |value| {
            found.push(value.as_bytes().to_vec());
            false
        });
        match found.is_empty() {
            true => Values::None,
            false => Values::Joined(found.join(&b',')),
        }
    }
}
