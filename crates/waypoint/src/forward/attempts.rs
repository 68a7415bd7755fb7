//! Attempts: to one endpoint after the other, as far as the rule allows.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use tokio::time::Instant;
use tulle_http::body::{Body, Replay};
use tulle_http::grpc;
use tulle_http::limits::REPLAY_BYTES;
use tulle_http::upgrade::Upgrade;
use tulle_route::balance::{Draw, Outcome, SetCookie, Use, hash_key};
use tulle_route::decide::{
    Attempted, Deadlines, Failure as Reason, deadlines, default_retry, retry,
};
use tulle_route::resource::{Balancing, Retry};
use tulle_telemetry::Flag;

use super::{Going, OVERFLOW, Way, overloaded, unavailable};
use crate::destination::{Destination, Endpoint};
use crate::exchange::{Exchange, status_of};
use crate::failure::Failure;
use crate::reply::Reply;
use crate::tokens;
use crate::upstream::{self, Answered, Ends, Sending, Unsent};

/// Details of a request that an endpoint answered.
static VIA_UPSTREAM: LazyLock<Arc<str>> = LazyLock::new(|| "via_upstream".into());

/// How often, how long, and with which key of a request.
pub(super) struct Plan {
    retry: Retry,
    deadlines: Deadlines,
    until: Option<Instant>,
    hash: Option<u64>,
    cookie: Option<SetCookie>,
}

impl Plan {
    pub(super) fn new(exchange: &Exchange, head: &Parts, going: &Going<'_>, way: &Way) -> Self {
        let rule = going.ruled.rule();
        let retry = match rule.and_then(|rule| rule.retry()) {
            Some(retry) => retry.clone(),
            None => Retry {
                attempts: exchange.snapshot.settings.default_retries,
                // Where a key leads to an endpoint, another one is not as good.
                avoid_tried: !way.is_consistent(),
                ..default_retry().clone()
            },
        };
        let timeouts = rule.map(|rule| rule.timeouts()).unwrap_or_default();
        let asked = exchange
            .grpc
            .then(|| grpc::timeout(&head.headers))
            .flatten();
        let deadlines = deadlines(&timeouts, Some(&retry), asked);
        let (hash, cookie) = match way {
            Way::Workload(_) => (None, None),
            Way::Destination(destination) => match &destination.policy.balancing {
                Some(Balancing::Consistent(consistent)) => {
                    let with_claims = tokens::Headers {
                        headers: &head.headers,
                        claims: going.claims,
                    };
                    let request = going.canonical.head(head, &with_claims, None);
                    let ip = exchange.client.source.ip();
                    let hashed = hash_key(&consistent.key, &request, ip, rand::random());
                    (hashed.hash, hashed.cookie)
                }
                _ => (None, None),
            },
        };
        Self {
            until: deadlines.request.map(|limit| Instant::now() + limit),
            retry,
            deadlines,
            hash,
            cookie,
        }
    }

    /// Whether there is time for another attempt after a pause.
    fn in_time(&self, pause: Duration) -> bool {
        let then = Instant::now() + pause;
        self.until.is_none_or(|until| then < until)
    }

    /// Until when one attempt must have answered.
    fn attempt_until(&self) -> Option<Instant> {
        let own = self.deadlines.attempt.map(|limit| Instant::now() + limit);
        match (own, self.until) {
            (Some(own), Some(all)) => Some(own.min(all)),
            (own, all) => own.or(all),
        }
    }
}

pub(super) struct Attempts {
    pub(super) plan: Plan,
}

impl Attempts {
    /// To the one endpoint there is.
    pub(super) async fn only(
        self,
        exchange: &mut Exchange,
        destination: Option<&Arc<Destination>>,
        head: &Parts,
        body: Body,
        upgrade: Option<Upgrade>,
        endpoint: &Endpoint,
    ) -> Result<Response<Body>, Reply> {
        let admitted = destination.map(|d| d.breaker.enter(Use::Request));
        let _admitted = admitted
            .transpose()
            .map_err(|refused| unavailable(&Failure::Overflow(refused)))?;
        let sending = Sending {
            destination,
            endpoint,
            request: request(exchange, head, body),
            assumed: upstream::assumed(exchange),
            upgrade: upgrade.as_ref().map(|u| u.protocol().into()),
            deadline: self.plan.attempt_until(),
            client: Some(ends(exchange)),
        };
        match self.attempt(exchange, sending).await {
            Ok(answered) => Ok(self.complete(exchange, answered, upgrade)),
            Err(unsent) => Err(failed(&unsent)),
        }
    }

    /// One endpoint after the other, as far as the rule allows.
    pub(super) async fn run(
        self,
        exchange: &mut Exchange,
        destination: &Arc<Destination>,
        head: &Parts,
        body: Body,
        upgrade: Option<Upgrade>,
    ) -> Result<Response<Body>, Reply> {
        let worker = exchange.worker.clone();
        let admitted = destination.breaker.enter(Use::Request);
        let admitted = admitted.map_err(|refused| unavailable(&Failure::Overflow(refused)))?;
        let mut source = Source::new(body, self.plan.retry.attempts > 0 && upgrade.is_none());
        let (mut tried, mut attempts) = (Vec::new(), 0);
        let mut retrying = None;
        loop {
            attempts += 1;
            let draw = Draw {
                now: worker.shared.destinations.now(),
                dice: rand::random(),
                hash: self.plan.hash,
                tried: if self.plan.retry.avoid_tried {
                    &tried
                } else {
                    &[]
                },
            };
            let none = || unavailable(&Failure::NoEndpoint(destination.cluster.clone()));
            let (at, active) = worker.choose(destination, &draw).ok_or_else(none)?;
            let endpoint = destination.endpoints.get(at).ok_or_else(none)?;
            let endpoint = destination.named(endpoint, host(head)).ok_or_else(none)?;
            exchange.reached(destination, &endpoint);
            let sending = Sending {
                destination: Some(destination),
                endpoint: &endpoint,
                request: request(exchange, head, source.next()),
                assumed: upstream::assumed(exchange),
                upgrade: upgrade.as_ref().map(|u| u.protocol().into()),
                deadline: self.plan.attempt_until(),
                client: Some(ends(exchange)),
            };
            let outcome = self.attempt(exchange, sending).await;
            if let Some(outcome) = outcome_of(&outcome) {
                worker.report(destination, at, outcome);
            }
            drop(retrying.take());
            let reason = self.reason(exchange, &outcome);
            let again = reason.and_then(|failure| {
                let attempted = Attempted {
                    failure,
                    attempts,
                    replayable: source.can_repeat() && upgrade.is_none(),
                    dice: rand::random(),
                };
                retry(&self.plan.retry, attempted)
            });
            if let Some(again) = again {
                if !self.plan.in_time(again.pause) {
                    source.last();
                    return Err(failed(&late()));
                }
                match destination.breaker.enter(Use::Retry) {
                    Ok(permit) => {
                        retrying = Some(permit);
                        tried.push(at);
                        drop((outcome, active));
                        tokio::time::sleep(again.pause).await;
                        continue;
                    }
                    Err(refused) => tracing::debug!(error = %refused, "no retry"),
                }
            } else if attempts > 1 && reason.is_some() {
                exchange.seen.flags.set(Flag::RetryLimit);
            }
            source.last();
            exchange.seen.held = Some((active, Some(admitted)));
            return match outcome {
                Ok(answered) => Ok(self.complete(exchange, answered, upgrade)),
                Err(unsent) => Err(failed(&unsent)),
            };
        }
    }

    async fn attempt(
        &self,
        exchange: &mut Exchange,
        sending: Sending<'_>,
    ) -> Result<Answered, Unsent> {
        let began = Instant::now();
        let worker = exchange.worker.clone();
        let answered = upstream::send(&worker, sending).await?;
        let took = began.elapsed();
        exchange.seen.upstream_time = Some(took);
        exchange.seen.details = Some(VIA_UPSTREAM.clone());
        Ok(Answered {
            response: upstream::received(answered.response, took),
            upgrade: answered.upgrade,
        })
    }

    /// What is wrong with how an attempt ended, if anything.
    fn reason(&self, exchange: &Exchange, outcome: &Result<Answered, Unsent>) -> Option<Reason> {
        match outcome {
            Err(unsent) => unsent.reason,
            Ok(answered) => {
                let grpc = exchange
                    .grpc
                    .then(|| status_of(answered.response.headers()))
                    .flatten();
                let found = match grpc {
                    Some(code) => Reason::Grpc(code),
                    None => Reason::Status(answered.response.status().as_u16()),
                };
                self.plan.retry.on.covers(found).then_some(found)
            }
        }
    }

    /// The answer has until the deadline to come whole.
    fn complete(
        &self,
        exchange: &mut Exchange,
        answered: Answered,
        upgrade: Option<Upgrade>,
    ) -> Response<Body> {
        let mut response = answered.response;
        if let Some(cookie) = &self.plan.cookie
            && let Ok(value) = HeaderValue::from_str(&cookie.to_string())
        {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            exchange.seen.joined = upgrade.zip(answered.upgrade);
            return response;
        }
        match self.plan.until {
            Some(until) => response.map(|body| body.until(until)),
            None => response,
        }
    }
}

/// A request's body, for one attempt or for several.
enum Source {
    Once(Option<Body>),
    Repeated(Replay),
}

impl Source {
    fn new(body: Body, may_repeat: bool) -> Self {
        if may_repeat && !body.is_end() {
            Self::Repeated(Replay::new(body, REPLAY_BYTES))
        } else {
            Self::Once(Some(body))
        }
    }

    fn next(&mut self) -> Body {
        match self {
            Self::Once(body) => body.take().unwrap_or_default(),
            Self::Repeated(replay) => replay.body(),
        }
    }

    /// A body that was empty is whole again.
    fn can_repeat(&self) -> bool {
        match self {
            Self::Once(_) => true,
            Self::Repeated(replay) => replay.can_repeat(),
        }
    }

    /// Nothing is kept from here on.
    fn last(&self) {
        if let Self::Repeated(replay) = self {
            replay.last();
        }
    }
}

/// The request's host, without port.
fn host(head: &Parts) -> Option<&str> {
    let host = head.headers.get(header::HOST)?.to_str().ok()?;
    Some(host.split(':').next().unwrap_or(host))
}

/// What an attempt says of the endpoint; nothing when it was refused here.
fn outcome_of(outcome: &Result<Answered, Unsent>) -> Option<Outcome> {
    match outcome {
        Ok(answered) => Some(Outcome::Status(answered.response.status().as_u16())),
        Err(unsent) if unsent.flag == Flag::UpstreamOverflow => None,
        Err(_) => Some(Outcome::LocalFailure),
    }
}

fn ends(exchange: &Exchange) -> Ends {
    (exchange.client.source, exchange.client.local)
}

fn request(exchange: &Exchange, head: &Parts, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = exchange.seen.version;
    *request.headers_mut() = HeaderMap::clone(&head.headers);
    request
}

/// The request's time would end before another attempt begins: to the client that is a timeout, not the answer that was to be
/// bettered.
fn late() -> Unsent {
    Unsent {
        reason: Some(Reason::Timeout),
        flag: Flag::UpstreamTimeout,
        status: StatusCode::GATEWAY_TIMEOUT,
        text: "upstream request timeout",
        why: "no time is left for another attempt".into(),
    }
}

fn failed(unsent: &Unsent) -> Reply {
    let details = match unsent.flag {
        Flag::UpstreamTimeout => "response_timeout",
        Flag::UpstreamConnectFailure => {
            "upstream_reset_before_response_started{connection_failure}"
        }
        Flag::UpstreamTermination => {
            "upstream_reset_before_response_started{connection_termination}"
        }
        Flag::UpstreamReset => "upstream_reset_before_response_started{remote_reset}",
        Flag::UpstreamProtocol => "upstream_reset_before_response_started{protocol_error}",
        Flag::UpstreamOverflow => OVERFLOW,
        _ => "upstream_reset_before_response_started",
    };
    let mut reply = Reply::new(unsent.status, unsent.text, details);
    reply.upstream_failure = Some(unsent.why.clone());
    if unsent.flag == Flag::UpstreamOverflow {
        reply = overloaded(reply);
    }
    reply.flagged(unsent.flag)
}
