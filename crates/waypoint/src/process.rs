//! The process: assembling its parts, and ending.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tulle_daemon::{
    Condition, DrainTrigger, Readiness, Signals, WorkerEnd, Workers, admin as pages, drain,
};
use tulle_identity::{Certificates, Epoch, IssueError, Observer, Settings, TlsSettings};
use tulle_linux::process::raise_open_files;
use tulle_model::Identity;
use tulle_telemetry::{
    ConnectionMetrics, Counter, GaugeFamily, Registry, RequestMetrics, register_log_metrics,
};
use tulle_xds::ca::CertificateAuthority;
use tulle_xds::client;

use crate::admin::{self, Admin};
use crate::board::Board;
use crate::destination::Destinations;
use crate::discovery::{Discovery, Me};
use crate::error::Error;
use crate::inbound::Arrival;
use crate::keyring::Keyring;
use crate::listener::ListenerTls;
use crate::options::Options;
use crate::rate;
use crate::state::State;
use crate::worker::{self, Shared};

/// Runs the proxy until it is asked to end and has done so.
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
    let (end, drain) = drain();
    let readiness = Readiness::new();
    let registry = registry();
    let state: Arc<State> = Arc::default();
    let certificates = certificates(&options, &registry, readiness.condition("certificate"));
    let (board, arrivals) = Board::new(options.workers);
    let shared = Arc::new(Shared {
        network: options.network.as_str().into(),
        destinations: Destinations::new(options.network.as_str().into()),
        keyring: Keyring::default(),
        keys_came: Notify::new(),
        listeners: ListenerTls::default(),
        limited: rate::Metrics::new(&registry),
        spans_dropped: registry
            .counter("tulle_spans_dropped", "Spans that no collector took", &[])
            .get(),
        logs_dropped: registry
            .counter(
                "tulle_access_logs_dropped",
                "Lines of the access log that no collector took",
                &[],
            )
            .get(),
        decisions: registry.counter(
            "tulle_authorization_decisions",
            "Requests that policies refused, or that dry-run and AUDIT policies noted",
            &["policy", "result"],
        ),
        state,
        certificates,
        requests: RequestMetrics::new(&registry),
        connections: ConnectionMetrics::new(&registry),
        board,
        drain: drain.clone(),
        options,
    });
    let mut workers = start_workers(&shared, arrivals)?;
    shared.certificates.prefetch(&shared.options.identity);

    let store = shared.certificates.clone();
    let me = Me {
        namespace: shared.options.node.namespace.clone(),
        pod: shared.options.node.pod.clone(),
    };
    let discovery = Discovery::new(
        me,
        shared.state.clone(),
        &registry,
        readiness.condition("discovery"),
        move || store.retry_now(),
    );
    tokio::spawn(ready_with_a_gateway(
        shared.state.clone(),
        readiness.condition("gateway"),
    ));
    let admin = Admin {
        shared: shared.clone(),
        end: end.clone(),
    };
    serve_pages(&shared.options, admin, &registry, &readiness)?;
    let config = client::Config {
        endpoint: shared.options.discovery.clone(),
        node: shared.options.node.clone(),
        types: client::gateway_types(),
    };
    tokio::spawn(client::run(config, discovery));
    tokio::spawn(tulle_daemon::settle());

    let by = tokio::select! {
        signal = signals.next() => signal,
        _ = drain.begun() => "an admin request",
        ended = workers.ended() => return failed(ended),
    };
    tracing::info!(by, deadline = ?shared.options.drain, "ending: no new connections, waiting for live requests");
    end.begin(shared.options.drain);
    until_drained(&mut workers, &end, &mut signals).await
}

fn registry() -> Registry {
    let registry = Registry::new();
    registry.build_info("proxy", env!("CARGO_PKG_VERSION"));
    register_log_metrics(&registry);
    tulle_telemetry::register_process_metrics(&registry);
    registry
}

fn certificates(options: &Options, registry: &Registry, condition: Condition) -> Certificates {
    let watch = CertificateWatch {
        condition,
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
    };
    let authority = Arc::new(CertificateAuthority::new(options.authority.clone()));
    let settings = Settings {
        lifetime: options.certificate_lifetime,
        tls: TlsSettings {
            post_quantum: options.post_quantum,
        },
    };
    let (certificates, renewal) = Certificates::new(authority, Arc::new(watch), settings);
    tokio::spawn(renewal.run());
    certificates
}

fn start_workers(
    shared: &Arc<Shared>,
    arrivals: Vec<mpsc::Receiver<Arrival>>,
) -> Result<Workers, Error> {
    let receivers = Mutex::new(arrivals.into_iter().map(Some).collect::<Vec<_>>());
    let count = shared.options.workers;
    let shared = shared.clone();
    let workers = Workers::start("waypoint", count, move |index| {
        let mine = receivers
            .lock()
            .ok()
            .and_then(|mut all| all.get_mut(index)?.take());
        let shared = shared.clone();
        async move {
            if let Some(arrivals) = mine {
                worker::run(shared, index, arrivals).await;
            }
        }
    });
    workers.map_err(|e| resource("start the worker threads", e))
}

/// Nobody is to be sent here before we know what we are.
async fn ready_with_a_gateway(state: Arc<State>, condition: Condition) {
    let mut published = state.subscribe();
    loop {
        published.borrow_and_update();
        if !state.load().gateways.is_empty() {
            return condition.set(true);
        }
        if published.changed().await.is_err() {
            return;
        }
    }
}

fn serve_pages(
    options: &Options,
    admin: Admin,
    registry: &Registry,
    readiness: &Readiness,
) -> Result<(), Error> {
    let private = listening("admin pages", options.admin_port, pages::listen_locally)?;
    tokio::spawn(pages::serve(private, admin.private_pages()));
    for port in options.metrics_ports {
        let metrics = listening("metrics", port, pages::listen_everywhere)?;
        tokio::spawn(pages::serve(metrics, admin::metrics_pages(registry)));
    }
    let ready = listening("readiness", options.ready_port, pages::listen_everywhere)?;
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

/// Waits for the workers to have finished their requests, or cut them.
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

fn failed(end: Option<WorkerEnd>) -> Result<(), Error> {
    match end {
        Some(WorkerEnd::Finished(index) | WorkerEnd::Panicked(index)) => Err(Error::Worker(index)),
        None => Ok(()),
    }
}

/// Passes news of our certificate on to readiness and metrics.
struct CertificateWatch {
    condition: Condition,
    expiry: GaugeFamily,
    failures: Counter,
}

impl Observer for CertificateWatch {
    fn issued(&self, epoch: &Arc<Epoch>) {
        self.condition.set(true);
        let expires = epoch
            .not_after
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = i64::try_from(expires.as_secs()).unwrap_or(i64::MAX);
        let identity = epoch.identity.to_string();
        self.expiry.with(&[&identity]).set(seconds);
    }

    fn failed(&self, identity: &Identity, error: &IssueError, kept: Option<&Arc<Epoch>>) {
        self.failures.inc();
        tracing::warn!(%identity, %error, still_valid = kept.is_some(), "no certificate");
    }
}
