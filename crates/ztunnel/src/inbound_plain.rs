//! Connections that come to a pod in plain TCP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tulle_hbone::relay;
use tulle_linux::socket;
use tulle_telemetry::Reporter;

use crate::connections::{Check, Shown};
use crate::dial::{dial, reset};
use crate::error::{Failure, relay_failure};
use crate::limits::CONNECTIONS_PER_WORKER;
use crate::pod::Pod;
use crate::report::{Known, Report, early_failure};
use crate::worker::Worker;

/// One plain connection, from accept to end. A denial ends in RST: the client sees that nothing was served.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    pod: Arc<Pod>,
    client: TcpStream,
    source: SocketAddr,
) {
    let began = Instant::now();
    let source = socket::unmap(source);
    let early = |at: SocketAddr, failure: Failure| {
        early_failure(Reporter::Destination, source, at, &failure);
    };
    let destination = match socket::original_destination(&client) {
        Ok(destination) if crate::is_own_port(destination.port()) => {
            early(destination, Failure::OwnPort(destination.port()));
            return reset(client);
        }
        Ok(destination) => destination,
        Err(error) => {
            early(source, Failure::Socket(Arc::new(error)));
            return reset(client);
        }
    };
    let workload = match pod.workload(&worker.shared.state, destination.ip()).await {
        Ok(workload) => workload,
        Err(failure) => {
            early(destination, failure);
            return reset(client);
        }
    };
    let snapshot = worker.shared.state.load();
    let report = Report::open(
        &worker.shard,
        began,
        Known {
            reporter: Reporter::Destination,
            source: (
                source,
                snapshot.mesh.workload_at(&workload.network, source.ip()),
            ),
            source_identity: None,
            destination: (destination, Some(&workload)),
            destination_identity: None,
            service: None,
            authority: None,
        },
    );
    let refuse = |client: TcpStream, report: Report, failure: Failure| {
        reset(client);
        report.end(&worker.shard, (0, 0), Some(&failure));
    };
    let check = Check::new(workload, None, source.ip(), destination);
    if let Err(denied) = check.judge(&snapshot, &worker.shared.bypass) {
        return refuse(client, report, denied);
    }
    let from = worker.original_source(source.ip(), destination.ip());
    let dialled = dial(
        &pod.netns,
        destination,
        from,
        worker.shared.options.mark,
        "",
    )
    .await;
    let app = match dialled {
        Ok(app) => app,
        Err(failure) => return refuse(client, report, failure),
    };
    let shown = Shown {
        pod: pod.uid.clone(),
        reporter: Reporter::Destination,
        source,
        original: Some(destination.to_string().into()),
        actual: destination,
        tunnel: false,
    };
    let series = report.series().clone();
    let Some(registered) = worker.connections.register(pod, shown, series, Some(check)) else {
        reset(app);
        return refuse(client, report, Failure::Full(CONNECTIONS_PER_WORKER));
    };
    // Policies that were published while the application was dialled.
    registered.check_again(&worker.shared.state.load());
    if let Some(reason) = registered.denial() {
        reset(app);
        return refuse(client, report, Failure::Denied(reason));
    }
    let end = relay::plain(client, app, registered.counters(), registered.stopped()).await;
    let failure = relay_failure(&end.reason, registered.denial());
    report.end(&worker.shard, registered.finish(), failure.as_ref());
}
