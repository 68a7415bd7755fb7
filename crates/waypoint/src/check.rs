//! CUSTOM authorization: somebody outside decides (Envoy's `ext_authz`, by HTTP or gRPC).

mod grpc;
mod http;

use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use tulle_http::body::Body;
use tulle_policy::http::{Custom, Http};
use tulle_policy::settings::{CheckBody, Provider};
use tulle_telemetry::Flag;

use crate::authorize::{self, Seen};
use crate::canonical::Canonical;
use crate::exchange::Exchange;
use crate::headers;
use crate::reply::Reply;

/// What an answer that allows wants to be done.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    /// Of the request: replaced.
    set: Vec<(HeaderName, HeaderValue)>,
    /// Of the request: added.
    add: Vec<(HeaderName, HeaderValue)>,
    /// Of the request: taken away.
    remove: Vec<HeaderName>,
    /// Of the answer, in the end.
    after: After,
}

/// Headers for the answer to the client.
#[derive(Debug, Default)]
pub(crate) struct After(Vec<(HeaderName, HeaderValue)>);

impl After {
    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            headers.append(name, value);
        }
    }
}

/// What somebody outside said.
enum Verdict {
    Allowed(Allowed),
    Denied(Reply),
    /// There was no usable answer.
    Silent(String),
}

/// Asks whom CUSTOM policies name, one after the other; each must allow.
pub(crate) async fn custom(
    exchange: &mut Exchange,
    head: &mut Parts,
    canonical: &Canonical,
    mut body: Body,
) -> Result<(Body, After), Reply> {
    let snapshot = exchange.snapshot.clone();
    let mut after = After::default();
    if snapshot.policies.is_empty() {
        return Ok((body, after));
    }
    let asked = {
        let seen = Seen(&head.headers);
        let http = Http {
            method: head.method.as_str(),
            authority: &canonical.authority,
            path: &canonical.path,
            headers: &seen,
            claims: None,
        };
        let remote = headers::remote_ip(exchange);
        let question = authorize::question(&exchange.client, remote, Some(http));
        snapshot.policies.custom(exchange.targets(), &question)
    };
    let asked = match asked {
        Custom::Ask(asked) => asked,
        Custom::Refused(cause) => {
            authorize::refused(&exchange.worker.shared, &cause);
            return Err(Reply::new(
                StatusCode::FORBIDDEN,
                "RBAC: access denied",
                &authorize::details(&cause),
            )
            .because(&cause));
        }
    };
    for ask in asked {
        let provider = snapshot.settings.providers.get(&ask.provider);
        let (verdict, fail_open, status) = match provider {
            Some(Provider::ExtAuthzHttp(http)) => {
                let (whole, text) = some(body, http.body).await?;
                body = whole;
                let verdict = http::ask(exchange, head, canonical, http, text).await;
                (verdict, http.fail_open, http.status_on_error)
            }
            Some(Provider::ExtAuthzGrpc(grpc)) => {
                let (whole, text) = some(body, grpc.body).await?;
                body = whole;
                let verdict = grpc::ask(exchange, head, canonical, grpc, text).await;
                (verdict, grpc.fail_open, grpc.status_on_error)
            }
            _ => {
                let why = format!("the mesh has no authorization provider {}", ask.provider);
                (Verdict::Silent(why), false, 403)
            }
        };
        let count = |result| {
            let decisions = &exchange.worker.shared.decisions;
            decisions.with(&[&ask.policy, result]).inc();
        };
        match verdict {
            Verdict::Allowed(allowed) => apply(head, &mut after, allowed),
            Verdict::Denied(mut reply) => {
                count(authorize::PROVIDER_DENIED);
                let why = format!(
                    "denied by provider {}, asked by policy {} rule {}",
                    ask.provider, ask.policy, ask.rule
                );
                reply.upstream_failure = Some(why.into());
                return Err(reply);
            }
            Verdict::Silent(why) => {
                tracing::warn!(
                    provider = &*ask.provider,
                    policy = &*ask.policy,
                    error = why,
                    fail_open,
                    "no authorization decision"
                );
                if fail_open {
                    count(authorize::PROVIDER_PASSED);
                    continue;
                }
                count(authorize::PROVIDER_SILENT);
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
                let mut reply =
                    Reply::new(status, "", "ext_authz_error").flagged(Flag::UnauthorizedExternal);
                let why = format!(
                    "no answer of provider {}, asked by policy {} rule {}: {why}",
                    ask.provider, ask.policy, ask.rule
                );
                reply.upstream_failure = Some(why.into());
                return Err(reply);
            }
        }
    }
    Ok((body, after))
}

fn apply(head: &mut Parts, after: &mut After, allowed: Allowed) {
    for name in allowed.remove {
        head.headers.remove(name);
    }
    for (name, value) in allowed.set {
        head.headers.insert(name, value);
    }
    for (name, value) in allowed.add {
        head.headers.append(name, value);
    }
    after.0.extend(allowed.after.0);
}

/// As much of a body as a check carries, and the whole body again.
async fn some(body: Body, wanted: Option<CheckBody>) -> Result<(Body, Option<Bytes>), Reply> {
    let Some(wanted) = wanted else {
        return Ok((body, None));
    };
    let limit = usize::try_from(wanted.max_bytes).unwrap_or(usize::MAX);
    let mut source = body;
    let mut read = bytes::BytesMut::new();
    while read.len() <= limit {
        match source.data().await {
            Some(Ok(data)) => read.extend_from_slice(&data),
            Some(Err(error)) => return Err(Reply::bad_request(error.to_string())),
            None => break,
        }
    }
    let read = read.freeze();
    if read.len() > limit && !wanted.partial {
        return Err(Reply::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "",
            "request_payload_too_large",
        ));
    }
    let shown = read.slice(..read.len().min(limit));
    Ok((crate::watch::followed(read, source), Some(shown)))
}

/// A denial as the client gets it.
fn denied(status: u16, headers: HeaderMap, body: String) -> Verdict {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    let mut reply =
        Reply::new(status, body, "ext_authz_denied").flagged(Flag::UnauthorizedExternal);
    reply.headers = Box::new(headers);
    Verdict::Denied(reply)
}

/// Whether a name is in a list whose entries may have a `*` at one end.
fn listed(list: &[std::sync::Arc<str>], name: &str) -> bool {
    list.iter().any(|entry| {
        if let Some(prefix) = entry.strip_suffix('*') {
            name.starts_with(prefix)
        } else if let Some(suffix) = entry.strip_prefix('*') {
            name.ends_with(suffix)
        } else {
            **entry == *name
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_headers_may_have_stars() {
        let list = ["x-a".into(), "x-b-*".into(), "*-id".into()];
        for (name, expected) in [
            ("x-a", true),
            ("x-ab", false),
            ("x-b-c", true),
            ("my-id", true),
            ("my-ids", false),
        ] {
            assert_eq!(listed(&list, name), expected, "{name}");
        }
    }
}
