//! The worker process: assembling its parts, and ending.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tulle_daemon::keeper::{Client, Restored};
use tulle_daemon::{
    Drain, DrainTrigger, Readiness, Signals, WorkerEnd, Workers, admin as pages, drain,
};
use tulle_identity::{Certificates, Epoch, IssueError, Observer, Settings, TlsSettings};
use tulle_linux::process::raise_open_files;
use tulle_model::Identity;
use tulle_telemetry::{ConnectionMetrics, Counter, GaugeFamily, Registry, register_log_metrics};
use tulle_xds::ca::CertificateAuthority;
use tulle_xds::client;

use crate::admin::{self, Admin};
use crate::bypass::BypassMetric;
use crate::discovery::Discovery;
use crate::dns::LookupMetric;
use crate::error::Error;
use crate::limits::WORKER_COMMANDS;
use crate::options::Options;
use crate::pods::Pods;
use crate::worker::{self, Command, Shared};
use crate::{sealed, zds};

/// Runs the node proxy until it is asked to end and has done so.
pub fn run(options: Options) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .map_err(|source| resource("start the main event loop", source))?;
    let outcome = runtime.block_on(serve(options));
    tulle_telemetry::flush_logs();
    outcome
}

fn resource(what: &'static str, source: std::io::Error) -> Error {
    Error::Resource { what, source }
}

async fn serve(options: Options) -> Result<(), Error> {
    let mut signals = Signals::listen().map_err(|e| resource("listen for signals", e))?;
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let (keeper, mut restored) = match Client::connect().await? {
        Some((keeper, restored)) => (Some(keeper), restored),
        None => (None, Restored::new()),
    };
    let (end, drain) = drain();
    let registry = registry();
    let (shared, certificates) = share(options, &registry, drain.clone());
    let (commands, mut workers) = start_workers(&shared)?;
    certificates.renewed_to(commands.clone());

    let readiness = Readiness::new();
    let (first_sync, synced) = oneshot::channel();
    let store = shared.certificates.clone();
    let mut discovery = Discovery::new(
        shared.state.clone(),
        &registry,
        readiness.condition("state manager"),
        first_sync,
        move || store.retry_now(),
    );
    let mut pods = Pods::new(
        shared.clone(),
        commands.clone(),
        keeper.clone(),
        &registry,
        readiness.condition("workload proxy manager"),
    );
    // First of all: whoever waits in the queues of a predecessor.
    let continued = take_over(&shared, &mut discovery, &mut pods, &mut restored).await;
    let shown = pods.shown();
    let admin = Admin {
        shared: shared.clone(),
        workers: commands,
        pods: shown,
        end: end.clone(),
    };
    serve_pages(&shared.options, admin, &registry, &readiness)?;
    if let Some(keeper) = keeper.clone() {
        let changed = certificates.changed.subscribe();
        let sealing = sealed::keep(
            keeper,
            shared.state.clone(),
            shared.certificates.clone(),
            changed,
        );
        tokio::spawn(sealing);
    }
    let config = client::Config {
        endpoint: shared.options.discovery.clone(),
        node: shared.options.node.clone(),
        types: client::default_types(),
    };
    tokio::spawn(client::run(config, discovery));
    tokio::spawn(tulle_daemon::settle());
    let agent_socket = shared.options.agent_socket.clone();
    let follow = async move {
        if !continued {
            // Before discovery is complete, a pod's connections would only wait. An error means the process ends.
            let _ = synced.await;
        }
        zds::follow(&agent_socket, &mut pods).await;
    };
    {
        // Ends with this block: a proxy that is ending must not promise the node agent to serve another pod.
        let follow = std::pin::pin!(follow);
        tokio::select! {
            () = follow => {}
            asked = until_asked(&mut workers, &drain, &end, &shared.options, &mut signals, keeper.as_ref()) => asked?,
        }
    }
    until_drained(&mut workers, &end, &mut signals).await
}

fn registry() -> Registry {
    let registry = Registry::new();
    registry.build_info("ztunnel", env!("CARGO_PKG_VERSION"));
    register_log_metrics(&registry);
    tulle_telemetry::register_process_metrics(&registry);
    registry
}

/// Serves what a predecessor left; false when there is nothing.
async fn take_over(
    shared: &Shared,
    discovery: &mut Discovery,
    pods: &mut Pods,
    restored: &mut Restored,
) -> bool {
    let Some((contents, credentials)) = sealed::take(restored) else {
        return false;
    };
    for refused in shared.certificates.restore(credentials) {
        tracing::warn!(error = %refused, "a certificate of the predecessor is not used");
    }
    discovery.restore(contents);
    let count = pods.restore(restored).await;
    tracing::info!(pods = count, "going on where the predecessor stopped");
    true
}

fn share(
    options: Options,
    registry: &Registry,
    drain: Drain,
) -> (Arc<Shared>, Arc<CertificateWatch>) {
    let watching = Arc::new(CertificateWatch::new(registry));
    let authority = Arc::new(CertificateAuthority::new(options.authority.clone()));
    let settings = Settings {
        lifetime: options.certificate_lifetime,
        tls: TlsSettings {
            post_quantum: options.post_quantum,
        },
    };
    let (certificates, renewal) = Certificates::new(authority, watching.clone(), settings);
    tokio::spawn(renewal.run());
    let shared = Shared {
        options,
        state: Arc::default(),
        certificates,
        connections: ConnectionMetrics::new(registry),
        bypass: BypassMetric::new(registry),
        dns: tulle_dns::Metrics::new(registry),
        lookups: LookupMetric::new(registry),
        drain,
    };
    (Arc::new(shared), watching)
}

fn start_workers(shared: &Arc<Shared>) -> Result<(Vec<mpsc::Sender<Command>>, Workers), Error> {
    let count = shared.options.workers;
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::channel(WORKER_COMMANDS)).unzip();
    let receivers = Mutex::new(receivers.into_iter().map(Some).collect::<Vec<_>>());
    let shared = shared.clone();
    let workers = Workers::start("ztunnel", count, move |index| {
        let mine = receivers
            .lock()
            .ok()
            .and_then(|mut all| all.get_mut(index)?.take());
        let shared = shared.clone();
        async move {
            if let Some(commands) = mine {
                worker::run(shared, commands).await;
            }
        }
    });
    let workers = workers.map_err(|e| resource("start the worker threads", e))?;
    Ok((senders, workers))
}

fn serve_pages(
    options: &Options,
    admin: Admin,
    registry: &Registry,
    readiness: &Readiness,
) -> Result<(), Error> {
    let private = listening("admin pages", options.admin_port, pages::listen_locally)?;
    let metrics = listening("metrics", options.metrics_port, pages::listen_everywhere)?;
    let ready = listening("readiness", options.ready_port, pages::listen_everywhere)?;
    tokio::spawn(pages::serve(private, admin.private_pages()));
    tokio::spawn(pages::serve(metrics, admin::metrics_pages(registry)));
    tokio::spawn(pages::serve(ready, admin::ready_pages(readiness)));
    Ok(())
}

fn listening(
    what: &'static str,
    port: u16,
    listen: impl FnOnce(u16) -> std::io::Result<TcpListener>,
) -> Result<TcpListener, Error> {
    listen(port).map_err(|source| Error::Listen { what, port, source })
}

/// Waits to be asked to end, and begins the drain.
async fn until_asked(
    workers: &mut Workers,
    drain: &Drain,
    end: &DrainTrigger,
    options: &Options,
    signals: &mut Signals,
    keeper: Option<&Client>,
) -> Result<(), Error> {
    let by = tokio::select! {
        signal = signals.next() => signal,
        asked = terminated(keeper) => asked.map(|()| "the keeper")?,
        _ = drain.begun() => "an admin request",
        ended = workers.ended() => return failed(ended),
    };
    tracing::info!(by, deadline = ?options.drain, "ending: no new connections, waiting for live ones");
    end.begin(options.drain);
    Ok(())
}

/// Waits for the workers to have finished their connections, or cut them.
async fn until_drained(
    workers: &mut Workers,
    end: &DrainTrigger,
    signals: &mut Signals,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            ended = workers.ended() => match ended {
                None => break,
                Some(WorkerEnd::Finished(_)) => {}
                panicked => return failed(panicked),
            },
            signal = signals.next() => {
                tracing::info!(signal, "asked again: ending now");
                end.begin(Duration::ZERO);
            }
        }
    }
    tracing::info!("ended");
    Ok(())
}

async fn terminated(keeper: Option<&Client>) -> Result<(), Error> {
    match keeper {
        Some(keeper) => Ok(keeper.terminated().await?),
        None => std::future::pending().await,
    }
}

fn failed(end: Option<WorkerEnd>) -> Result<(), Error> {
    match end {
        Some(WorkerEnd::Finished(index) | WorkerEnd::Panicked(index)) => Err(Error::Worker(index)),
        None => Ok(()),
    }
}

/// Passes news of certificates on: to the sealed copy, to workers with tunnels of the old one, and to metrics.
struct CertificateWatch {
    changed: watch::Sender<u64>,
    workers: Mutex<Vec<mpsc::Sender<Command>>>,
    expiry: GaugeFamily,
    failures: Counter,
}

impl CertificateWatch {
    fn new(registry: &Registry) -> Self {
        Self {
            changed: watch::Sender::new(0),
            workers: Mutex::default(),
            expiry: registry.gauge(
                "istio_cert_expiry_seconds",
                "When the certificate of an identity expires, in seconds since 1970",
                &["identity"],
            ),
            failures: registry
                .counter(
                    "tulle_certificate_failures",
                    "Certificates that could not be fetched",
                    &[],
                )
                .get(),
        }
    }

    fn renewed_to(&self, workers: Vec<mpsc::Sender<Command>>) {
        if let Ok(mut to) = self.workers.lock() {
            *to = workers;
        }
    }
}

impl Observer for CertificateWatch {
    fn issued(&self, epoch: &Arc<Epoch>) {
        self.changed.send_modify(|count| *count += 1);
        let expires = epoch
            .not_after
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = i64::try_from(expires.as_secs()).unwrap_or(i64::MAX);
        self.expiry
            .with(&[&epoch.identity.to_string()])
            .set(seconds);
        for worker in self
            .workers
            .lock()
            .iter()
            .flat_map(|workers| workers.iter())
        {
            // A worker with a full queue keeps its old tunnels a little longer: their certificate is still valid.
            let _ = worker.try_send(Command::Renewed(epoch.identity.clone()));
        }
    }

    fn failed(&self, identity: &Identity, error: &IssueError, kept: Option<&Arc<Epoch>>) {
        self.failures.inc();
        tracing::warn!(%identity, %error, still_valid = kept.is_some(), "no certificate");
    }

    fn forgotten(&self, identity: &Identity) {
        self.changed.send_modify(|count| *count += 1);
        self.expiry.remove(&[&identity.to_string()]);
    }
}
