//! From a rule to an endpoint's answer: split, rewrite, mirror, choose, send, try again.

mod attempts;

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use tulle_http::body::Body;
use tulle_http::upgrade::Upgrade;
use tulle_policy::jwt::Claims;
use tulle_route::decide::{rewrite_path, split};
use tulle_route::resource::{BackendTarget, Balancing};
use tulle_route::{Filters, MatchedPath};
use tulle_telemetry::Flag;

use crate::authority::Addressed;
use crate::canonical::{Canonical, set_target};
use crate::destination::{self, Destination, DestinationKey, Endpoint};
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::inbound::Via;
use crate::pipeline::{self, Ruled};
use crate::reply::Reply;
use crate::{headers, mirror};
use attempts::{Attempts, Plan};

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

impl Way {
    /// A key of the request leads to the endpoint.
    fn is_consistent(&self) -> bool {
        match self {
            Self::Destination(destination) => {
                matches!(destination.policy.balancing, Some(Balancing::Consistent(_)))
            }
            Self::Workload(_) => false,
        }
    }
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
                .only(exchange, None, &head, body, upgrade, &endpoint)
                .await?
        }
        Way::Destination(destination) => {
            let attempts = Attempts { plan };
            let network = &exchange.worker.shared.network;
            let addressed = exchange.client.local;
            let original = destination.original(&exchange.snapshot, network, addressed);
            match original {
                Some(endpoint) => {
                    exchange.reached(&destination, &endpoint);
                    let to = Some(&destination);
                    attempts
                        .only(exchange, to, &head, body, upgrade, &endpoint)
                        .await?
                }
                None => {
                    attempts
                        .run(exchange, &destination, &head, body, upgrade)
                        .await?
                }
            }
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
                        workload: Some(workload.clone()),
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
    let found = exchange.worker.destination(&exchange.snapshot, &key);
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
        Failure::Overflow(_) => OVERFLOW,
        _ => "upstream_reset_before_response_started{connection_failure}",
    };
    let text = match failure {
        Failure::NoEndpoint(_) | Failure::Destination(_) => "no healthy upstream",
        Failure::Overflow(_) => {
            "upstream connect error or disconnect/reset before headers. reset reason: overflow"
        }
        _ => "upstream connect error or disconnect/reset before headers",
    };
    let mut reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, text, details);
    reply.upstream_failure = Some(failure.to_string().into());
    if let Failure::Overflow(_) = failure {
        reply = overloaded(reply);
    }
    reply.flagged(failure.flag())
}

/// Details of a request that was one too many.
const OVERFLOW: &str = "upstream_reset_before_response_started{overflow}";

/// Says so to clients that know how (as Envoy).
fn overloaded(reply: Reply) -> Reply {
    let name = HeaderName::from_static("x-envoy-overloaded");
    reply.header(name, HeaderValue::from_static("true"))
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
    let mut path = Cow::Borrowed(&*going.canonical.path);
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
            path = Cow::Owned(rewrite_path(change, matched, &path).into_owned());
            rewritten = true;
        }
    }
    if rewritten {
        headers::original_path(&mut head.headers, &going.canonical.target());
        let target = match (&going.canonical.query, path.contains('?')) {
            (Some(query), false) => format!("{path}?{query}"),
            _ => path.into_owned(),
        };
        set_target(head, &target)?;
    }
    headers::sent(exchange, &mut head.headers);
    Ok(())
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
    let worker = &exchange.worker;
    worker.destination(&exchange.snapshot, &key).ok()
}
