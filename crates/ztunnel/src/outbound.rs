//! Connections that a pod opens.

mod headers;
pub(crate) mod route;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tulle_hbone::{Connect, EndReason, PoolError, Stream, client, relay};
use tulle_linux::socket;
use tulle_model::{Identity, Workload};
use tulle_telemetry::Reporter;

use crate::connections::Shown;
use crate::dial::{dial, refuse};
use crate::dns;
use crate::error::{Failure, NETWORK_POLICY_HINT, relay_failure};
use crate::limits::{CONNECTIONS_PER_WORKER, ENDPOINT_ATTEMPTS};
use crate::pod::Pod;
use crate::report::{Known, Report, early_failure};
use crate::worker::{TunnelKey, Worker};
use route::{Hop, Question, Route, route};

pub(crate) use headers::baggage;

/// A connection to where a pod wanted to go.
enum Upstream {
    Plain(TcpStream),
    Tunnel(Stream),
}

/// One outbound connection, from accept to end.
pub(crate) async fn serve(worker: Rc<Worker>, pod: Arc<Pod>, app: TcpStream, source: SocketAddr) {
    let began = Instant::now();
    let source = socket::unmap(source);
    let original = match destination(&app) {
        Ok(original) => original,
        Err((at, failure)) => {
            early_failure(Reporter::Source, source, at.unwrap_or(source), &failure);
            return refuse(app).await;
        }
    };
    let state = &worker.shared.state;
    let client = match pod.workload(state, source.ip()).await {
        Ok(client) => client,
        Err(failure) => {
            early_failure(Reporter::Source, source, original, &failure);
            return refuse(app).await;
        }
    };
    // An endpoint that does not answer is exchanged for another as long as no byte was taken from the application.
    let mut tried: Vec<Arc<str>> = Vec::new();
    let (report, shown, upstream) = loop {
        let asked = Question {
            client: &client,
            original,
            tried: &tried,
        };
        let mut route = match route(&state.load(), asked, &mut rand::random) {
            Ok(route) => route,
            Err(failure) => {
                early_failure(Reporter::Source, source, original, &failure);
                return refuse(app).await;
            }
        };
        let connecting = match look_up(&worker, &client, original, &mut route).await {
            Ok(()) => connect(&worker, &pod, &client, &route, source, &app).await,
            Err(failure) => Err(failure),
        };
        if let (Err(failure), Some(endpoint), true) = (&connecting, &route.workload, route.drawn)
            && failure.another_may_answer()
            && tried.len() + 1 < ENDPOINT_ATTEMPTS
        {
            tracing::debug!(endpoint = &*endpoint.name, error = %failure, "trying another endpoint");
            tried.push(endpoint.uid.clone());
            continue;
        }
        let report = open_report(&worker, began, &client, &route, source, original);
        let shown = show(&pod, &route, source, original);
        match connecting {
            Ok(upstream) => break (report, shown, upstream),
            Err(failure) => {
                report.end(&worker.shard, (0, 0), Some(&failure));
                return refuse(app).await;
            }
        }
    };
    let series = report.series().clone();
    let Some(registered) = worker.connections.register(pod, shown, series, None) else {
        report.end(
            &worker.shard,
            (0, 0),
            Some(&Failure::Full(CONNECTIONS_PER_WORKER)),
        );
        return refuse(app).await;
    };
    let stopped = registered.stopped();
    let end = match upstream {
        Upstream::Tunnel(stream) => stream.relay(app, registered.counters(), stopped).await,
        Upstream::Plain(peer) => relay::plain(app, peer, registered.counters(), stopped).await,
    };
    let failure = relay_failure(&end.reason, None);
    log_end(&end.reason);
    report.end(&worker.shard, registered.finish(), failure.as_ref());
}

/// Where a workload has only a name: finds the address for it.
async fn look_up(
    worker: &Worker,
    client: &Workload,
    original: SocketAddr,
    route: &mut Route,
) -> Result<(), Failure> {
    if let Hop::Named { hostname, .. } = &route.hop {
        let address = dns::address(worker, client, hostname, original.ip()).await?;
        route.hop = route.hop.at(address);
    }
    Ok(())
}

/// Where the application wanted to go. The proxy's own ports are nobody's destination.
fn destination(app: &TcpStream) -> Result<SocketAddr, (Option<SocketAddr>, Failure)> {
    let failed = |error: std::io::Error| (None, Failure::Socket(Arc::new(error)));
    let original = socket::original_destination(app).map_err(failed)?;
    let local = socket::unmap(app.local_addr().map_err(failed)?);
    let own = original.ip().is_loopback() || original.ip() == local.ip();
    if own && crate::is_own_port(original.port()) {
        return Err((Some(original), Failure::OwnPort(original.port())));
    }
    Ok(original)
}

async fn connect(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    client: &Arc<Workload>,
    route: &Route,
    source: SocketAddr,
    app: &TcpStream,
) -> Result<Upstream, Failure> {
    let mark = worker.shared.options.mark;
    match &route.hop {
        Hop::Named { hostname, .. } => Err(Failure::NoAddress(hostname.clone())),
        Hop::Plain(to) => {
            let peer = dial(&pod.netns, *to, None, mark, "").await?;
            Ok(Upstream::Plain(peer))
        }
        Hop::Tunnel {
            to,
            authority,
            expected,
        } => {
            let request = Connect {
                authority: authority.to_string(),
                baggage: baggage(client),
                forwarded: Some(headers::forwarded(source, route.service.as_deref())),
                traceparent: Some(headers::traceparent(rand::random(), rand::random())),
            };
            let key = TunnelKey {
                pod: pod.netns.id(),
                source: client.identity(),
                to: *to,
                expected: expected.clone(),
            };
            let make = async || make_tunnel(worker, pod, &key.source, *to, expected).await;
            let opened = worker
                .pool
                .open_for(key.clone(), make, &request, Some(app))
                .await;
            match opened {
                Ok(opened) => Ok(Upstream::Tunnel(opened.stream)),
                Err(PoolError::Connect(failure)) => Err((*failure).clone()),
                Err(PoolError::Open(error)) => Err(Failure::Open(error)),
            }
        }
    }
}

async fn make_tunnel(
    worker: &Worker,
    pod: &Pod,
    source: &Identity,
    to: SocketAddr,
    expected: &Arc<[Identity]>,
) -> Result<client::Tunnel, Failure> {
    let shared = &worker.shared;
    let epoch = shared.certificates.get(source).await?;
    let tcp = dial(
        &pod.netns,
        to,
        None,
        shared.options.mark,
        NETWORK_POLICY_HINT,
    )
    .await?;
    client::connect(tcp, &epoch.client, expected.clone(), &shared.options.hbone)
        .await
        .map_err(Failure::Tunnel)
}

fn open_report(
    worker: &Worker,
    began: Instant,
    client: &Arc<Workload>,
    route: &Route,
    source: SocketAddr,
    original: SocketAddr,
) -> Report {
    let own = client.identity();
    let (to, tunnel) = match &route.hop {
        Hop::Plain(to) => (*to, None),
        Hop::Named { .. } => (original, None),
        Hop::Tunnel {
            to,
            authority,
            expected,
        } => (*to, Some((authority, expected.first()))),
    };
    Report::open(
        &worker.shard,
        began,
        Known {
            reporter: Reporter::Source,
            source: (source, Some(client)),
            source_identity: tunnel.map(|_| &own),
            destination: (to, route.workload.as_ref()),
            destination_identity: tunnel.and_then(|(_, identity)| identity),
            service: route.service.as_ref(),
            authority: tunnel.map(|(authority, _)| authority.to_string().into()),
        },
    )
}

fn show(pod: &Pod, route: &Route, source: SocketAddr, original: SocketAddr) -> Shown {
    let (actual, tunnel) = match &route.hop {
        Hop::Plain(to) => (*to, false),
        Hop::Named { .. } => (original, false),
        Hop::Tunnel { to, .. } => (*to, true),
    };
    Shown {
        pod: pod.uid.clone(),
        reporter: Reporter::Source,
        source,
        original: Some(original.to_string().into()),
        actual,
        tunnel,
    }
}

fn log_end(reason: &EndReason) {
    if !matches!(reason, EndReason::Clean) {
        tracing::debug!(?reason, "an outbound connection ended");
    }
}

#[cfg(test)]
mod tests;
