//! Connections that come to a pod in HBONE.

pub(crate) mod authority;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tulle_hbone::server::{self, Request};
use tulle_linux::socket;
use tulle_model::{Identity, Service, Workload};
use tulle_telemetry::Reporter;

use crate::connections::{Check, Shown};
use crate::dial::{dial, reset};
use crate::error::{Failure, relay_failure};
use crate::limits::{CONNECTIONS_PER_WORKER, PEER_AUTHORITY};
use crate::outbound::baggage;
use crate::pod::Pod;
use crate::report::{Known, Report, early_failure};
use crate::state::Snapshot;
use crate::worker::{Active, Worker};
use authority::Target;

/// One end of a tunnel: who is at the other end, and for whom it came.
struct Arrival {
    pod: Arc<Pod>,
    /// Where the tunnel arrived: the pod's own address, port 15008.
    local: SocketAddr,
    /// Where it comes from; its address is the client pod's.
    source: SocketAddr,
    peer: Identity,
    workload: Arc<Workload>,
}

/// One tunnel, from accept to end.
pub(crate) async fn serve(worker: Rc<Worker>, pod: Arc<Pod>, tcp: TcpStream, source: SocketAddr) {
    let source = socket::unmap(source);
    let local = tcp.local_addr().map_or(source, socket::unmap);
    let refuse = |failure: Failure| early_failure(Reporter::Destination, source, local, &failure);
    let workload = match pod.workload(&worker.shared.state, local.ip()).await {
        Ok(workload) => workload,
        Err(failure) => {
            reset(tcp);
            return refuse(failure);
        }
    };
    let epoch = match worker.shared.certificates.get(&workload.identity()).await {
        Ok(epoch) => epoch,
        Err(error) => {
            reset(tcp);
            return refuse(error.into());
        }
    };
    let accepted = server::accept(tcp, &epoch.server, &worker.shared.options.hbone).await;
    let mut tunnel = match accepted {
        Ok(tunnel) => tunnel,
        Err(error) => return refuse(Failure::Tunnel(error)),
    };
    let _listed = worker.tunnels.list(pod.serial, tunnel.handle());
    let arrival = Rc::new(Arrival {
        pod,
        local,
        source,
        peer: tunnel.peer().clone(),
        workload,
    });
    while let Some(request) = tunnel.next().await {
        let active = Active::count(&worker.active, &worker.quiet);
        let (worker, arrival) = (worker.clone(), arrival.clone());
        tokio::task::spawn_local(async move {
            serve_stream(worker, arrival, request).await;
            drop(active);
        });
    }
}

/// One connection in a tunnel, from CONNECT to end.
async fn serve_stream(worker: Rc<Worker>, arrival: Rc<Arrival>, request: Request) {
    let began = Instant::now();
    let snapshot = worker.shared.state.load();
    let workload = snapshot
        .again(&arrival.workload)
        .unwrap_or(&arrival.workload)
        .clone();
    let host = authority::forwarded_host(request.forwarded.as_deref());
    let target = authority::target(
        &snapshot,
        &workload,
        arrival.local,
        &request.authority,
        host,
    );
    let text: Arc<str> = request
        .authority
        .chars()
        .take(PEER_AUTHORITY)
        .collect::<String>()
        .into();
    let Target {
        destination,
        service,
        addressed,
    } = match target {
        Ok(target) => target,
        Err((status, failure)) => {
            early_failure(
                Reporter::Destination,
                arrival.source,
                arrival.local,
                &failure,
            );
            return request.refuse(status);
        }
    };
    let client = client(&snapshot, &workload, &arrival);
    let report = open_report(
        &worker,
        began,
        &arrival,
        &workload,
        client.as_ref(),
        service.as_ref(),
        text,
    );
    let peer_ip = arrival.source.ip();
    let check = Check::new(
        workload.clone(),
        Some(arrival.peer.clone()),
        peer_ip,
        destination,
    )
    .addressing(service.clone().filter(|_| addressed));
    if let Err(denied) = check.judge(&snapshot, &worker.shared.bypass) {
        report.end(&worker.shard, (0, 0), Some(&denied));
        return request.refuse(401);
    }
    let from = worker.original_source(peer_ip, destination.ip());
    let dialled = dial(
        &arrival.pod.netns,
        destination,
        from,
        worker.shared.options.mark,
        "",
    )
    .await;
    let app = match dialled {
        Ok(app) => app,
        Err(failure) => {
            report.end(&worker.shard, (0, 0), Some(&failure));
            return request.refuse(503);
        }
    };
    let shown = Shown {
        pod: arrival.pod.uid.clone(),
        reporter: Reporter::Destination,
        source: arrival.source,
        original: service.map(|s| s.hostname.clone()),
        actual: destination,
        tunnel: true,
    };
    let (pod, series) = (arrival.pod.clone(), report.series().clone());
    let Some(registered) = worker.connections.register(pod, shown, series, Some(check)) else {
        reset(app);
        report.end(
            &worker.shard,
            (0, 0),
            Some(&Failure::Full(CONNECTIONS_PER_WORKER)),
        );
        return request.refuse(503);
    };
    // Policies that were published while the application was dialled.
    registered.check_again(&worker.shared.state.load());
    if let Some(reason) = registered.denial() {
        reset(app);
        report.end(&worker.shard, (0, 0), Some(&Failure::Denied(reason)));
        return request.refuse(401);
    }
    let own = worker
        .shared
        .options
        .response_baggage
        .then(|| baggage(&workload))
        .flatten();
    let stream = request.accept(own.as_deref());
    let end = stream
        .relay(app, registered.counters(), registered.stopped())
        .await;
    let failure = relay_failure(&end.reason, registered.denial());
    report.end(&worker.shard, registered.finish(), failure.as_ref());
}

/// The client's workload, if the one at its address is who its certificate says.
fn client(snapshot: &Snapshot, own: &Workload, arrival: &Arrival) -> Option<Arc<Workload>> {
    let at = snapshot
        .mesh
        .workload_at(&own.network, arrival.source.ip())?;
    (at.identity() == arrival.peer).then(|| at.clone())
}

fn open_report(
    worker: &Worker,
    began: Instant,
    arrival: &Arrival,
    workload: &Arc<Workload>,
    client: Option<&Arc<Workload>>,
    service: Option<&Arc<Service>>,
    authority: Arc<str>,
) -> Report {
    let own = workload.identity();
    Report::open(
        &worker.shard,
        began,
        Known {
            reporter: Reporter::Destination,
            source: (arrival.source, client),
            source_identity: Some(&arrival.peer),
            destination: (arrival.local, Some(workload)),
            destination_identity: Some(&own),
            service,
            authority: Some(authority),
        },
    )
}

#[cfg(test)]
mod tests;
