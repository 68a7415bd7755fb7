//! From a rule to an endpoint's answer: split, rewrite, mirror, choose, send, try again.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use tokio::time::Instant;
use tulle_http::body::{Body, Replay};
use tulle_http::grpc;
use tulle_http::limits::REPLAY_BYTES;
use tulle_http::upgrade::Upgrade;
use tulle_policy::jwt::Claims;
use tulle_route::balance::{Draw, Outcome, SetCookie, Use, hash_key};
use tulle_route::decide::{
    Attempted, Deadlines, Failure as Reason, deadlines, default_retry, retry, rewrite_path, split,
};
use tulle_route::resource::{BackendTarget, Balancing, Retry};
use tulle_route::{Filters, MatchedPath};
use tulle_telemetry::Flag;

use crate::authority::Addressed;
use crate::canonical::{Canonical, set_target};
use crate::destination::{self, Destination, DestinationKey, Endpoint};
use crate::exchange::{Exchange, status_of};
use crate::failure::Failure;
use crate::inbound::Via;
use crate::pipeline::{self, Ruled};
use crate::reply::Reply;
use crate::upstream::{self, Answered, Sending, Unsent};
use crate::{headers, mirror, tokens};

/// What is known of a request when it goes on.
pub(crate) struct Going<'a> {
    pub(crate) canonical: &'a Canonical,
    pub(crate) claims: Option<&'a Claims>,
    pub(crate) ruled: &'a Ruled,
}

/// Where a request goes.
enum Way {
    /// To an endpoint of this; `backend` is its place in the rule.
    Destination(Arc<Destination>),
    /// To a workload that was addressed itself.
    Workload(Endpoint),
}

/// Sends a request on, and brings its answer.
pub(crate) async fn forward(
    exchange: &mut Exchange,
    mut head: Parts,
    body: Body,
    upgrade: Option<Upgrade>,
    going: Going<'_>,
) -> Result<Response<Body>, Reply> {
    let backend = chosen_backend(going.ruled)?;
    let way = way(exchange, going.ruled, backend)?;
    let own = going.ruled.rule().zip(backend);
    let own = own.map(|(rule, at)| rule.backend_filters(at));
    if let Some(filters) = own
        && filters.invalid.is_some()
    {
        return Err(Reply::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "invalid_filter",
        ));
    }
    if let Some(redirect) = own.and_then(|filters| filters.redirect.as_ref())
        && let Some((_, matched)) = &going.ruled.rule
    {
        return pipeline::redirected(redirect, &head, going.canonical, *matched);
    }
    let plan = Plan::new(exchange, &head, &going, &way);
    edit(exchange, &mut head, &going, own)?;
    let body = mirror::copies(exchange, &head, body, going.ruled, own);
    let mut response = match way {
        Way::Workload(endpoint) => {
            exchange.at(&endpoint);
            Attempts { plan }
                .only(exchange, &head, body, upgrade, &endpoint)
                .await?
        }
        Way::Destination(destination) => {
            let attempts = Attempts { plan };
            attempts
                .run(exchange, &destination, &head, body, upgrade)
                .await?
        }
    };
    if let Some(filters) = own {
        for edits in &filters.response_headers {
            edits.apply(response.headers_mut());
        }
    }
    Ok(response)
}

/// The backend's place in the rule; none when there is no rule.
fn chosen_backend(ruled: &Ruled) -> Result<Option<usize>, Reply> {
    let Some(rule) = ruled.rule() else {
        return Ok(None);
    };
    let chosen = split(rule.backends(), rand::random());
    let none = || {
        Reply::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "no_backend_has_weight",
        )
        .flagged(Flag::NoCluster)
    };
    chosen.map(Some).ok_or_else(none)
}

fn way(exchange: &Exchange, ruled: &Ruled, backend: Option<usize>) -> Result<Way, Reply> {
    let client = &exchange.client;
    let (service, port, subset) = match ruled.rule().zip(backend) {
        Some((rule, at)) => match rule.backends().get(at).map(|b| &b.target) {
            Some(BackendTarget::Service {
                service,
                port,
                subset,
            }) => (service.clone(), *port, subset.clone()),
            Some(BackendTarget::Unroutable(unroutable)) => {
                tracing::debug!(route = %rule.object(), why = &*unroutable.why, "a backend cannot be used");
                let status = StatusCode::from_u16(unroutable.status);
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return Err(
                    Reply::new(status, "", "backend_cannot_be_used").flagged(Flag::NoCluster)
                );
            }
            None => {
                return Err(Reply::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "",
                    "no_backend",
                ));
            }
        },
        None => match &client.via {
            Via::Waypoint(target) => match &target.what {
                Addressed::Service(service) => (service.key(), Some(client.port()), None),
                Addressed::Workload(workload) => {
                    let ip = Some(client.local.ip());
                    let hop = destination::hop(workload, None, ip, client.port());
                    let hop = hop.ok_or_else(|| unavailable(&Failure::NoEndpoint("it".into())))?;
                    return Ok(Way::Workload(Endpoint {
                        workload: workload.clone(),
                        port: client.port(),
                        hop,
                    }));
                }
            },
            Via::Listener { .. } => {
                return Err(
                    Reply::new(StatusCode::NOT_FOUND, "", "route_not_found").flagged(Flag::NoRoute)
                );
            }
        },
    };
    let port = port.unwrap_or_else(|| only_port(exchange, &service).unwrap_or(client.port()));
    let key = DestinationKey {
        service,
        port,
        subset,
    };
    let found = exchange
        .worker
        .shared
        .destinations
        .get(&exchange.snapshot, &key);
    found
        .map(Way::Destination)
        .map_err(|error| unavailable(&Failure::Destination(error)))
}

/// Where a route names no port: the one that was addressed, if the service has it, else its only one.
fn only_port(exchange: &Exchange, service: &tulle_model::ServiceKey) -> Option<u16> {
    let service = exchange.snapshot.mesh.service(service)?;
    let addressed = exchange.client.port();
    if service.ports.iter().any(|p| p.service_port == addressed) {
        return Some(addressed);
    }
    match &service.ports[..] {
        [only] => Some(only.service_port),
        _ => None,
    }
}

fn unavailable(failure: &Failure) -> Reply {
    let details = match failure {
        Failure::Destination(_) => "cluster_not_found",
        Failure::NoEndpoint(_) => "no_healthy_upstream",
        Failure::Overflow(_) => "upstream_reset_before_response_started{overflow}",
        _ => "upstream_reset_before_response_started{connection_failure}",
    };
    let text = match failure {
        Failure::NoEndpoint(_) | Failure::Destination(_) => "no healthy upstream",
        _ => "upstream connect error or disconnect/reset before headers",
    };
    let mut reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, text, details);
    reply.upstream_failure = Some(failure.to_string().into());
    reply.flagged(failure.flag())
}

/// Rewrites and header edits, of the rule and then of the backend.
fn edit(
    exchange: &mut Exchange,
    head: &mut Parts,
    going: &Going<'_>,
    own: Option<&Filters>,
) -> Result<(), Reply> {
    let Some((rule, matched)) = &going.ruled.rule else {
        headers::sent(exchange, &mut head.headers);
        return Ok(());
    };
    let all = [Some(rule.filters()), own];
    let mut path = going.canonical.path.to_string();
    let mut rewritten = false;
    for filters in all.into_iter().flatten() {
        for edits in &filters.request_headers {
            edits.apply(&mut head.headers);
        }
        let Some(rewrite) = &filters.rewrite else {
            continue;
        };
        if let Some(host) = &rewrite.host
            && let Ok(value) = HeaderValue::from_str(host)
        {
            head.headers.insert(header::HOST, value);
        }
        if let Some(change) = &rewrite.path {
            let matched = if rewritten {
                MatchedPath::Whole
            } else {
                *matched
            };
            path = rewrite_path(change, matched, &path).into_owned();
            rewritten = true;
        }
    }
    if rewritten {
        headers::original_path(&mut head.headers, &going.canonical.target());
        let target = match (&going.canonical.query, path.contains('?')) {
            (Some(query), false) => format!("{path}?{query}"),
            _ => path,
        };
        set_target(head, &target)?;
    }
    headers::sent(exchange, &mut head.headers);
    Ok(())
}

/// How often, how long, and with which key of a request.
struct Plan {
    retry: Retry,
    deadlines: Deadlines,
    until: Option<Instant>,
    hash: Option<u64>,
    cookie: Option<SetCookie>,
}

impl Plan {
    fn new(exchange: &Exchange, head: &Parts, going: &Going<'_>, way: &Way) -> Self {
        let rule = going.ruled.rule().and_then(|rule| rule.rule());
        let retry = match rule.and_then(|rule| rule.retry.clone()) {
            Some(retry) => retry,
            None => {
                let mut retry = default_retry().clone();
                retry.attempts = exchange.snapshot.settings.default_retries;
                retry
            }
        };
        let timeouts = rule.map(|rule| rule.timeouts).unwrap_or_default();
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

struct Attempts {
    plan: Plan,
}

impl Attempts {
    /// To the one endpoint there is.
    async fn only(
        self,
        exchange: &mut Exchange,
        head: &Parts,
        body: Body,
        upgrade: Option<Upgrade>,
        endpoint: &Endpoint,
    ) -> Result<Response<Body>, Reply> {
        let sending = Sending {
            destination: None,
            endpoint,
            request: request(exchange, head, body),
            upgrade: upgrade.as_ref().map(|u| u.protocol().into()),
            deadline: self.plan.attempt_until(),
        };
        match self.attempt(exchange, sending).await {
            Ok(answered) => Ok(self.complete(exchange, answered, upgrade)),
            Err(unsent) => Err(failed(&unsent)),
        }
    }

    /// One endpoint after the other, as far as the rule allows.
    async fn run(
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
            exchange.reached(destination, endpoint);
            let sending = Sending {
                destination: Some(destination),
                endpoint,
                request: request(exchange, head, source.next()),
                upgrade: upgrade.as_ref().map(|u| u.protocol().into()),
                deadline: self.plan.attempt_until(),
            };
            let outcome = self.attempt(exchange, sending).await;
            worker.report(destination, at, outcome_of(&outcome));
            tried.push(at);
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
            if let Some(again) = again.filter(|again| self.plan.in_time(again.pause)) {
                match destination.breaker.enter(Use::Retry) {
                    Ok(permit) => {
                        retrying = Some(permit);
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
        exchange.seen.details = Some("via_upstream".into());
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

fn outcome_of(outcome: &Result<Answered, Unsent>) -> Outcome {
    match outcome {
        Ok(answered) => Outcome::Status(answered.response.status().as_u16()),
        Err(_) => Outcome::LocalFailure,
    }
}

fn request(exchange: &Exchange, head: &Parts, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = exchange.seen.version;
    *request.headers_mut() = HeaderMap::clone(&head.headers);
    request
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
        _ => "upstream_reset_before_response_started",
    };
    let mut reply = Reply::new(unsent.status, unsent.text, details);
    reply.upstream_failure = Some(unsent.why.clone());
    reply.flagged(unsent.flag)
}

/// For mirrors: the destination of a copy.
pub(crate) fn destination_of(
    exchange: &Exchange,
    target: &BackendTarget,
) -> Option<Arc<Destination>> {
    let BackendTarget::Service {
        service,
        port,
        subset,
    } = target
    else {
        return None;
    };
    let port = port.or_else(|| only_port(exchange, service));
    let key = DestinationKey {
        service: service.clone(),
        port: port.unwrap_or(exchange.client.port()),
        subset: subset.clone(),
    };
    let table = &exchange.worker.shared.destinations;
    table.get(&exchange.snapshot, &key).ok()
}
