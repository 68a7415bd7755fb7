//! Copies of requests that go elsewhere, and whose answers nobody waits for.

use http::request::Parts;
use http::{HeaderValue, Request, header};
use tulle_http::body::{Body, tee};
use tulle_http::limits::MIRROR_BYTES;
use tulle_route::Filters;
use tulle_route::balance::Draw;

use crate::exchange::Exchange;
use crate::forward;
use crate::limits::{MIRROR_DEADLINE, MIRRORS_PER_WORKER};
use crate::pipeline::Ruled;
use crate::upstream::{self, Sending};

/// Sends the copies that the rule and its backend ask for; returns the body for the request itself.
pub(crate) fn copies(
    exchange: &Exchange,
    head: &Parts,
    mut body: Body,
    ruled: &Ruled,
    own: Option<&Filters>,
) -> Body {
    let rule = ruled.rule().map(|rule| rule.filters());
    for filters in [rule, own].into_iter().flatten() {
        for mirror in &filters.mirrors {
            if !mirror.fraction.hits(rand::random()) {
                continue;
            }
            let Some(destination) = forward::destination_of(exchange, &mirror.target) else {
                continue;
            };
            let worker = exchange.worker.clone();
            if worker.mirrors.get() >= MIRRORS_PER_WORKER {
                tracing::debug!("no copy of a request: too many are under way");
                continue;
            }
            let copy;
            (body, copy) = tee(body, MIRROR_BYTES);
            let request = request(head, copy);
            let assumed = upstream::assumed(exchange);
            tokio::task::spawn_local(async move {
                worker.mirrors.set(worker.mirrors.get() + 1);
                let draw = Draw {
                    now: worker.shared.destinations.now(),
                    dice: rand::random(),
                    hash: None,
                    tried: &[],
                };
                if let Some((at, _active)) = worker.choose(&destination, &draw)
                    && let Some(endpoint) = destination.endpoints.get(at)
                {
                    let sending = Sending {
                        destination: Some(&destination),
                        endpoint,
                        request,
                        assumed,
                        upgrade: None,
                        deadline: None,
                        client: None,
                    };
                    let answered = async {
                        if let Ok(answered) = upstream::send(&worker, sending).await {
                            let mut body = answered.response.into_body();
                            while let Some(Ok(_)) = body.frame().await {}
                        }
                    };
                    let _ = tokio::time::timeout(MIRROR_DEADLINE, answered).await;
                }
                worker.mirrors.set(worker.mirrors.get() - 1);
            });
        }
    }
    body
}

/// As Envoy does it, the host of a copy ends in `-shadow`.
fn request(head: &Parts, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    request.headers_mut().clone_from(&head.headers);
    let host = head.headers.get(header::HOST);
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        let shadow = match host.rsplit_once(':') {
            Some((name, port)) if !name.ends_with(']') || host.starts_with('[') => {
                format!("{name}-shadow:{port}")
            }
            _ => format!("{host}-shadow"),
        };
        if let Ok(value) = HeaderValue::from_str(&shadow) {
            request.headers_mut().insert(header::HOST, value);
        }
    }
    request
}
