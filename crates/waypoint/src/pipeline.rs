//! What happens to a request, in order. [`answer`] is the list.

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use tulle_http::body::Body;
use tulle_http::grpc;
use tulle_http::server::Request;
use tulle_http::upgrade::Upgrade;
use tulle_model::{Mode, Service};
use tulle_policy::http::{Http, Outcome};
use tulle_policy::jwt::Claims;
use tulle_route::decide::{self, CorsDecision, CorsRequest};
use tulle_route::resource::{DirectResponse, HostPattern};
use tulle_route::{Answer, CompiledRedirect, CompiledRule, Lookup, MatchedPath, Scope};
use tulle_telemetry::Flag;

use crate::authority::Addressed;
use crate::authorize::{self, Seen};
use crate::canonical::Canonical;
use crate::exchange::Exchange;
use crate::forward::{self, Going};
use crate::inbound::{Client, Via};
use crate::reply::Reply;
use crate::worker::Worker;
use crate::{check, headers, tokens};

/// One request, from its head to its answer.
pub(crate) async fn handle(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    request: Request,
) -> Response<Body> {
    let Request {
        head,
        body,
        upgrade,
    } = request;
    let mut exchange = Exchange::begin(worker, client, &head);
    let body = exchange.watch_request(body);
    // A large future: on the heap once, rather than in every layer that holds it.
    let answered = Box::pin(answer(&mut exchange, head, body, upgrade)).await;
    let mut response = match answered {
        Ok(response) => response,
        Err(reply) => {
            let mut response = exchange.reply(reply);
            headers::answered(response.headers_mut());
            response
        }
    };
    if let Some(room) = &exchange.seen.room {
        crate::rate::tell(room, response.headers_mut());
    }
    exchange.finish(response)
}

/// The order of everything. A step that answers ends the list.
async fn answer(
    exchange: &mut Exchange,
    mut head: Parts,
    body: Body,
    upgrade: Option<Upgrade>,
) -> Result<Response<Body>, Reply> {
    let normalization = exchange.snapshot.settings.normalization;
    let client = exchange.client.clone();

    // 1. One form for everybody.
    let canonical = Canonical::judge(&mut head, normalization, &client)?;
    // 2. Headers that only we may set; the request's identity.
    headers::received(exchange, &mut head, &canonical);
    // 3. CUSTOM: somebody else decides. This and the next step are large: where nothing is to be asked, no request makes room.
    let (body, after) = if exchange.snapshot.policies.is_empty() {
        (body, check::After::default())
    } else {
        Box::pin(check::custom(exchange, &mut head, &canonical, body)).await?
    };
    // 4. Tokens.
    let claims = if exchange.snapshot.authentications.is_empty() {
        None
    } else {
        Box::pin(tokens::authenticate(exchange, &mut head, &canonical)).await?
    };
    // 5. DENY, then ALLOW.
    authorize(exchange, &head, &canonical, claims.as_ref())?;
    // 6. The rule of a route.
    let ruled = route(exchange, &head, &canonical, claims.as_ref())?;
    // 7. Rate limits.
    crate::rate::limit(exchange, &head, &canonical, claims.as_ref(), &ruled)?;
    // 8. Cross-origin requests.
    let cors = cors(&ruled, &head)?;
    // 9. Trouble on purpose.
    fault(exchange, &ruled).await?;
    // 10. What the rule says: an answer from here, or
    if let Some(response) = answered_here(&ruled, &head, &canonical)? {
        return Ok(decorated(response, &ruled, &cors));
    }
    // 11. forward: split, rewrite, mirror, choose an endpoint, send, try again.
    let going = Going {
        canonical: &canonical,
        claims: claims.as_ref(),
        ruled: &ruled,
    };
    let mut response = forward::forward(exchange, head, body, upgrade, going).await?;
    after.apply(response.headers_mut());
    Ok(decorated(response, &ruled, &cors))
}

/// The rule that a request falls under; a waypoint needs none.
pub(crate) struct Ruled {
    pub(crate) rule: Option<(CompiledRule, MatchedPath)>,
}

impl Ruled {
    pub(crate) fn rule(&self) -> Option<&CompiledRule> {
        self.rule.as_ref().map(|(rule, _)| rule)
    }
}

fn authorize(
    exchange: &mut Exchange,
    head: &Parts,
    canonical: &Canonical,
    claims: Option<&Claims>,
) -> Result<(), Reply> {
    if exchange.snapshot.policies.is_empty() {
        return Ok(());
    }
    let seen = Seen(&head.headers);
    let http = Http {
        method: head.method.as_str(),
        authority: &canonical.authority,
        path: &canonical.path,
        headers: &seen,
        claims,
    };
    let remote = headers::remote_ip(exchange);
    let client = exchange.client.clone();
    let question = authorize::question(&client, remote, Some(http));
    let decision = exchange
        .snapshot
        .policies
        .decide(exchange.targets(), &question);
    let shared = &exchange.worker.shared;
    if !decision.notes.is_empty() {
        let (host, path) = (&canonical.authority, &canonical.path);
        let what = format!("{} {host}{path}", head.method);
        authorize::note(shared, &client, &what, &decision.notes);
    }
    if let Outcome::Denied(cause) = &decision.outcome {
        authorize::refused(shared, cause);
    }
    exchange.seen.notes = decision.notes;
    match decision.outcome {
        Outcome::Allowed(_) => Ok(()),
        Outcome::Denied(cause) => {
            tracing::debug!(source = %client.source, path = &*canonical.path, "{cause}");
            Err(Reply::new(
                StatusCode::FORBIDDEN,
                "RBAC: access denied",
                &authorize::details(&cause),
            )
            .because(&cause))
        }
    }
}

fn route(
    exchange: &mut Exchange,
    head: &Parts,
    canonical: &Canonical,
    claims: Option<&Claims>,
) -> Result<Ruled, Reply> {
    let not_found =
        || Reply::new(StatusCode::NOT_FOUND, "", "route_not_found").flagged(Flag::NoRoute);
    let snapshot = exchange.snapshot.clone();
    let adaptor = claims.map(tokens::ForRoutes);
    let with_claims = tokens::Headers {
        headers: &head.headers,
        claims,
    };
    let request = canonical.head(
        head,
        &with_claims,
        adaptor.as_ref().map(|a| a as &dyn tulle_route::Claims),
    );
    let client = exchange.client.clone();
    let lookup = match &client.via {
        Via::Waypoint(target) => match &target.what {
            // Routes are for services.
            Addressed::Workload(_) => return Ok(Ruled { rule: None }),
            Addressed::Service(service) => {
                if !names(service, &canonical.host) {
                    return Err(not_found());
                }
                let key = service.key();
                let scope = Scope::Service {
                    service: &key,
                    port: client.port(),
                };
                match snapshot.routes.http(scope, &request) {
                    Lookup::Unrouted => return Ok(Ruled { rule: None }),
                    other => other,
                }
            }
        },
        Via::Listener { port, .. } => {
            let own = snapshot
                .gateways
                .get(&client.gateway)
                .ok_or_else(not_found)?;
            let listener = own.listener_of_host(*port, &canonical.host);
            misdirected(&snapshot, &client, *port, &canonical.host)?;
            let listener = listener.ok_or_else(not_found)?;
            let scope = Scope::Listener {
                gateway: &client.gateway,
                listener: &listener.name,
            };
            snapshot.routes.http(scope, &request)
        }
    };
    let routed = lookup.routed().ok_or_else(not_found)?;
    exchange.seen.route = Some(routed.rule.label().clone());
    Ok(Ruled {
        rule: Some((routed.rule.clone(), routed.matched)),
    })
}

/// Whether a host is one that a service stands for. Only wildcards are asked: their endpoint is whatever host a request names.
fn names(service: &Service, host: &str) -> bool {
    !service.hostname.starts_with('*')
        || service.load_balancing.mode == Mode::Passthrough
        || HostPattern(service.hostname.clone()).matches(host)
}

/// A request for a host whose listener is not the one that TLS chose.
fn misdirected(
    snapshot: &crate::state::Snapshot,
    client: &Client,
    port: u16,
    host: &str,
) -> Result<(), Reply> {
    let Via::Listener { tls: true, .. } = client.via else {
        return Ok(());
    };
    let found = snapshot.gateways.get(&client.gateway).and_then(|gateway| {
        let listener = gateway.listener_of_sni(port, client.server_name.as_deref())?;
        Some(gateway.is_misdirected(listener, host))
    });
    if found == Some(true) {
        return Err(Reply::new(
            StatusCode::MISDIRECTED_REQUEST,
            "",
            "misdirected_request",
        ));
    }
    Ok(())
}

fn cors(ruled: &Ruled, head: &Parts) -> Result<CorsDecision, Reply> {
    let Some(policy) = ruled.rule().and_then(|rule| rule.filters().cors.as_ref()) else {
        return Ok(CorsDecision::Pass);
    };
    let request = CorsRequest {
        method: &head.method,
        headers: &head.headers,
    };
    match decide::cors(policy, request) {
        CorsDecision::Answer(headers) => {
            let mut reply = Reply::new(StatusCode::OK, "", "cors_preflight");
            reply.headers = Box::new(headers);
            Err(reply)
        }
        other => Ok(other),
    }
}

async fn fault(exchange: &mut Exchange, ruled: &Ruled) -> Result<(), Reply> {
    let fault = ruled.rule().and_then(|rule| rule.filters().fault.as_ref());
    let Some(fault) = fault else {
        return Ok(());
    };
    let decision = fault.decide(rand::random(), rand::random());
    if let Some(delay) = decision.delay {
        exchange.seen.flags.set(Flag::DelayInjected);
        tokio::time::sleep(delay).await;
    }
    let Some(abort) = decision.abort else {
        return Ok(());
    };
    let status = StatusCode::from_u16(abort.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut reply =
        Reply::new(status, "fault filter abort", "fault_filter_abort").flagged(Flag::FaultInjected);
    reply.grpc = abort
        .grpc
        .and_then(|code| grpc::Code::from_number(code.into()));
    Err(reply)
}

/// Redirects, direct responses, and rules that cannot be used.
fn answered_here(
    ruled: &Ruled,
    head: &Parts,
    canonical: &Canonical,
) -> Result<Option<Response<Body>>, Reply> {
    let Some((rule, matched)) = &ruled.rule else {
        return Ok(None);
    };
    if let Some(why) = &rule.filters().invalid {
        tracing::debug!(route = %rule.object(), why = &**why, "a filter cannot be used");
        return Err(Reply::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "invalid_filter",
        ));
    }
    match rule.answer() {
        None => Ok(None),
        Some(Answer::Respond(respond)) => direct(respond).map(Some),
        Some(Answer::Redirect(redirect)) => {
            redirected(redirect, head, canonical, *matched).map(Some)
        }
    }
}

/// Elsewhere.
pub(crate) fn redirected(
    redirect: &CompiledRedirect,
    head: &Parts,
    canonical: &Canonical,
    matched: MatchedPath,
) -> Result<Response<Body>, Reply> {
    let bad = || Reply::new(StatusCode::INTERNAL_SERVER_ERROR, "", "invalid_redirect");
    let request = canonical.head(head, &head.headers, None);
    let (status, location) = decide::redirect(redirect, &request, matched);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| bad())?;
    let location = HeaderValue::from_str(&location).map_err(|_| bad())?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn direct(respond: &DirectResponse) -> Result<Response<Body>, Reply> {
    let mut response = Response::new(Body::full(respond.body.as_bytes().to_vec()));
    let bad = || {
        Reply::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "invalid_direct_response",
        )
    };
    *response.status_mut() = StatusCode::from_u16(respond.status).map_err(|_| bad())?;
    if !respond.body.is_empty() {
        let text = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
    }
    for (name, value) in &respond.headers {
        let name: header::HeaderName = name.parse().map_err(|_| bad())?;
        let value = HeaderValue::from_str(value).map_err(|_| bad())?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// What the rule does to answers.
fn decorated(mut response: Response<Body>, ruled: &Ruled, cors: &CorsDecision) -> Response<Body> {
    if let Some(rule) = ruled.rule() {
        for edits in &rule.filters().response_headers {
            edits.apply(response.headers_mut());
        }
    }
    cors.decorate(response.headers_mut());
    response
}
