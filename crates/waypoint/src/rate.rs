//! Rate limits of requests.

use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use tulle_policy::jwt::Claims;
use tulle_route::rate::Subject;
use tulle_telemetry::Flag;

use crate::canonical::Canonical;
use crate::exchange::Exchange;
use crate::headers::remote_ip;
use crate::pipeline::Ruled;
use crate::reply::Reply;
use crate::tokens;

/// Counts a request; over a limit, it is answered with 429 (or what the user says).
pub(crate) fn limit(
    exchange: &Exchange,
    head: &Parts,
    canonical: &Canonical,
    claims: Option<&Claims>,
    ruled: &Ruled,
) -> Result<(), Reply> {
    let limits = &exchange.snapshot.limits;
    if limits.is_empty() {
        return Ok(());
    }
    let with_claims = tokens::Headers {
        headers: &head.headers,
        claims,
    };
    let adaptor = claims.map(tokens::ForRoutes);
    let request = canonical.head(
        head,
        &with_claims,
        adaptor.as_ref().map(|a| a as &dyn tulle_route::Claims),
    );
    let subject = Subject {
        request: &request,
        identity: exchange.client.peer.as_ref(),
        address: remote_ip(exchange),
    };
    let route = ruled.rule().map(|rule| rule.object());
    let now = exchange.worker.shared.destinations.now();
    let decision = limits.check(&exchange.targets, route, &subject, now);
    for policy in &decision.dry_run {
        tracing::info!(%policy, source = %exchange.client.source, "would be limited by a rate limit that only watches");
    }
    let Some(limited) = decision.limited else {
        return Ok(());
    };
    let status = StatusCode::from_u16(limited.status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    let details = format!("rate_limited{{{}}}", limited.policy);
    let mut reply = Reply::new(status, "rate limited", &details).flagged(Flag::RateLimited);
    if let Some(after) = limited.retry_after {
        // At least one: 0 would invite at once.
        let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
        reply = reply.header(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Err(reply)
}
