//! Rate limits of requests.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::time::Duration;
use tulle_policy::jwt::Claims;
use tulle_route::rate::{Limited, Room, Subject};
use tulle_route::resource::ObjectKey;
use tulle_telemetry::{Counter, CounterFamily, Flag, Gauge, Registry};

use crate::canonical::Canonical;
use crate::exchange::Exchange;
use crate::headers::remote_ip;
use crate::pipeline::Ruled;
use crate::reply::Reply;
use crate::tokens;

// Names of draft-ietf-httpapi-ratelimit-headers-06: one value each, as clients know them.
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Counts a request; over a limit, it is answered with 429 (or what the user says).
pub(crate) fn limit(
    exchange: &mut Exchange,
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
    let shared = &exchange.worker.shared;
    let now = shared.destinations.now();
    let decision = limits.check(exchange.targets(), route, &subject, now);
    for policy in &decision.dry_run {
        shared.limited.refused(policy, None, true);
        tracing::debug!(%policy, source = %exchange.client.source, "would be limited by a rate limit that only watches");
    }
    let Some(limited) = decision.limited else {
        exchange.seen.room = decision.tightest;
        return Ok(());
    };
    shared
        .limited
        .refused(&limited.policy, limited.limit.as_deref(), false);
    Err(refusal(&limited))
}

fn refusal(limited: &Limited) -> Reply {
    let status = StatusCode::from_u16(limited.status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    let details = format!("rate_limited{{{}}}", limited.policy);
    let mut reply = Reply::new(status, "rate limited", &details).flagged(Flag::RateLimited);
    reply = reply
        .header(LIMIT, HeaderValue::from(limited.burst))
        .header(REMAINING, HeaderValue::from(0));
    if let Some(after) = limited.retry_after {
        // At least one: 0 would invite at once.
        let seconds = HeaderValue::from(seconds(after).max(1));
        reply = reply
            .header(RESET, seconds.clone())
            .header(header::RETRY_AFTER, seconds);
    }
    reply
}

/// Tells a client whose request passed how many more may.
pub(crate) fn tell(room: &Room, headers: &mut HeaderMap) {
    for (name, value) in [
        (LIMIT, room.limit),
        (REMAINING, room.remaining),
        (RESET, seconds(room.reset)),
    ] {
        // An endpoint may have limits of its own, which say more.
        headers
            .entry(name)
            .or_insert_with(|| HeaderValue::from(value));
    }
}

/// Whole ones, none too few.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What the limits did, and how replicas hear of each other.
pub(crate) struct Metrics {
    refused: CounterFamily,
    reached: Gauge,
    unreached: Gauge,
    untold: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let replicas = registry.gauge(
            "tulle_rate_limit_replicas",
            "Other replicas of this proxy, by whether they hear what this one lets through",
            &["state"],
        );
        Self {
            refused: registry.counter(
                "tulle_rate_limited",
                "Requests over a rate limit; refused is false where the policy only watches",
                &["policy_namespace", "policy_name", "limit", "refused"],
            ),
            reached: replicas.with(&["reached"]),
            unreached: replicas.with(&["unreached"]),
            untold: registry
                .counter(
                    "tulle_rate_limit_untold",
                    "Reports to other replicas that were dropped because they were not taken in time",
                    &[],
                )
                .get(),
        }
    }

    fn refused(&self, policy: &ObjectKey, limit: Option<&str>, dry_run: bool) {
        let refused = if dry_run { "false" } else { "true" };
        let labels = [
            policy.namespace(),
            policy.name(),
            limit.unwrap_or_default(),
            refused,
        ];
        self.refused.with(&labels).inc();
    }

    pub(crate) fn replicas(&self, reached: usize, unreached: usize) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.reached.set(number(reached));
        self.unreached.set(number(unreached));
    }

    pub(crate) fn untold(&self, reports: usize) {
        self.untold.inc_by(reports as u64);
    }
}
