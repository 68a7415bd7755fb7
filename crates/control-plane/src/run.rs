//! Starting the parts in order, and ending them in order.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info, warn};
use tulle_api::contract;
use tulle_api::k8s_openapi::api::core::v1::ConfigMap;
use tulle_api::mesh::MeshConfig;
use tulle_cluster::lease::{Candidate, Participation, take_part};
use tulle_cluster::{Api, Client, Connect};
use tulle_daemon::{Condition, Readiness, Signals, admin};
use tulle_identity::Authority;
use tulle_identity::grpc::ServerTls;
use tulle_translate::Settings;
use tulle_xds::server::{About, Counters, Publisher, ServeError, Server};

use crate::authority::Store;
use crate::ca::{CertificateService, Gate};
use crate::convergence::Convergence;
use crate::deployer::{Deployments, Plane};
use crate::impersonation::Rules;
use crate::limits::{CHANGES_WAITING, CONNECT_RETRY, CONNECT_WITHIN, DRAIN, REPORTS_WAITING};
use crate::mesh::Translation;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::pods::Pods;
use crate::serving::ServingError;
use crate::status::Statuses;
use crate::tokens::Tokens;
use crate::{
    classes, deployer, mesh, mesh_config, pages, roots, serving, status, unsupported, watches,
    webhook,
};

/// Name of the Lease whose holder writes status, and deploys waypoints and gateways.
const STATUS_LEASE: &str = "istio-status-leader";

/// Why the control plane ended, other than by request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is taken, or may not be used.
    #[error("cannot listen on port {port}: {why}. Stop what listens there, or choose another port")]
    Listen {
        /// The port.
        port: u16,
        /// The kernel's words.
        why: io::Error,
    },
    /// The runtime could not be made.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// No working connection to the API server.
    #[error(transparent)]
    Cluster(#[from] tulle_cluster::Error),
    /// No certificate for our own port.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// A port is served no longer.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A part that never ends has ended.
    #[error("{0} ended unexpectedly; see the log above")]
    Ended(&'static str),
}

/// Runs the control plane until SIGTERM or SIGINT, on this thread and one more.
///
/// # Errors
/// If it cannot start, or a part of it fails. After an orderly end there is none.
pub fn run(options: Options) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(Error::Start)?;
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(Error::Start)?;
        let (stop, stopped) = watch::channel(false);
        let serving = serve(options, stopped);
        tokio::pin!(serving);
        tokio::select! {
            ended = &mut serving => ended,
            signal = signals.next() => {
                info!(signal, "ending");
                stop.send_replace(true);
                serving.await
            }
        }
    })
}

/// What every part shares.
struct Parts {
    options: Options,
    client: Client,
    metrics: Arc<Metrics>,
    authority: Arc<ArcSwap<Authority>>,
    pods: Pods,
    publisher: Publisher,
    deployments: Deployments,
    /// The roots, for ConfigMaps and our own certificate.
    roots: watch::Sender<Arc<str>>,
}

async fn serve(options: Options, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
    let started = Instant::now();
    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::new();
    let synced = readiness.condition("caches synced with the API server");
    let serving = readiness.condition("discovery is served");
    let listeners = Listeners::open(&options)?;
    let publisher = Publisher::held();
    let counters: Arc<Counters> = Arc::default();
    let mut tasks = JoinSet::new();
    let pages = pages::ready(&metrics.registry, &readiness);
    tasks.spawn(named(
        "readiness page",
        admin::serve(listeners.debug, pages),
    ));
    let pages = pages::local(Arc::clone(&counters), publisher.clone());
    tasks.spawn(named("debug pages", admin::serve(listeners.local, pages)));
    let pages = pages::metrics(&metrics.registry);
    tasks.spawn(named(
        "metrics pages",
        admin::serve(listeners.metrics, pages),
    ));
    tasks.spawn(named("giving memory back", tulle_daemon::settle()));

    let begin = async {
        let client = connect(&options).await?;
        let mesh = mesh_settings(&client, &options.namespace).await;
        let store = Store::new(client.clone(), &options.namespace);
        let authority = store.wait(&mesh.trust_domain).await;
        Ok::<_, Error>((client, mesh, store, authority))
    };
    let (client, mesh, store, authority) = tokio::select! {
        begun = begin => begun?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let tls = serving::start(&authority, &options.serving_names())?;
    let roots = watch::Sender::new(Arc::from(authority.root_pem()));
    let authority = Arc::new(ArcSwap::from_pointee(authority));
    let pods = Pods::new();
    let deployments = Deployments::new(Plane {
        namespace: options.namespace.clone(),
        revision: options.revision.clone(),
        trust_domain: mesh.trust_domain.clone(),
    });
    let parts = Parts {
        options,
        deployments,
        client,
        metrics,
        authority,
        pods,
        publisher,
        roots,
    };
    parts.metrics.observe(
        Arc::clone(&counters),
        parts.authority.clone(),
        parts.pods.clone(),
    );
    parts.keep_certificates(&mut tasks, store, tls.clone());
    parts.serve_webhooks(&mut tasks, listeners.webhook, tls.clone());
    let election = parts.translate(&mut tasks, &mesh, &counters, synced)?;
    let server = parts.server(counters);
    info!(ready_to_serve_after = ?started.elapsed(), "serving discovery and certificates");
    serving.set(true);
    let ended = parts
        .until_stopped(
            &server,
            listeners.xds,
            listeners.xds_plain,
            tls,
            &mut tasks,
            stop,
        )
        .await;
    serving.set(false);
    tasks.abort_all();
    election.resign().await;
    ended
}

impl Parts {
    /// Secret, ConfigMaps, and the certificate of our own port.
    fn keep_certificates(&self, tasks: &mut JoinSet<&'static str>, store: Store, tls: ServerTls) {
        let root = self.roots.subscribe();
        tasks.spawn(named(
            "root ConfigMaps",
            roots::distribute(self.client.clone(), root),
        ));
        let names = self.options.serving_names();
        let renewed = serving::renew(tls, self.authority.clone(), names, self.roots.subscribe());
        tasks.spawn(named("own certificate", renewed));
        let (authority, roots) = (self.authority.clone(), self.roots.clone());
        let current = authority.clone();
        let follow = store.follow(
            move || current.load_full(),
            move |new| {
                roots.send_replace(new.root_pem().into());
                authority.store(Arc::new(new));
            },
        );
        tasks.spawn(named("CA Secret", follow));
    }

    /// Gateways that users deploy themselves are completed when their pods are made.
    fn serve_webhooks(
        &self,
        tasks: &mut JoinSet<&'static str>,
        listener: TcpListener,
        tls: ServerTls,
    ) {
        let template = Arc::new(self.options.template.clone());
        let served = webhook::serve(listener, tls, template, self.deployments.clone());
        tasks.spawn(named("webhooks", served));
        let roots = webhook::keep_roots(self.client.clone(), self.roots.subscribe());
        tasks.spawn(named("roots of webhooks", roots));
    }

    /// What one replica makes: GatewayClasses, and what Gateways need to run.
    fn deploy(
        &self,
        tasks: &mut JoinSet<&'static str>,
        election: &Participation,
        inputs: mpsc::Sender<mesh::Input>,
    ) {
        let classes = classes::keep(self.client.clone(), election.leads());
        tasks.spawn(named("GatewayClasses", classes));
        let (deployments, template) = (self.deployments.clone(), self.options.template.clone());
        if template.image.is_empty() {
            warn!(
                "PROXY_TEMPLATE names no image: Gateways are programmed, and nothing is deployed for them"
            );
            return;
        }
        let errors = self.metrics.deploy_errors.clone();
        let (reports, reported) = mpsc::channel(REPORTS_WAITING);
        tasks.spawn(named(
            "reports of the deployer",
            mesh::hear(reported, inputs),
        ));
        let deployer = deployer::deploy(
            self.client.clone(),
            deployments,
            template,
            election.leads(),
            errors,
            reports,
        );
        tasks.spawn(named("the deployer", deployer));
    }

    /// Watches, the translating thread, and the writer of statuses.
    fn translate(
        &self,
        tasks: &mut JoinSet<&'static str>,
        mesh: &MeshConfig,
        counters: &Arc<Counters>,
        synced: Condition,
    ) -> Result<Participation, Error> {
        let (inputs, changes) = mpsc::channel(CHANGES_WAITING);
        let namespace = &self.options.namespace;
        let mut watches = watches::start(&self.client, namespace, &inputs, &self.metrics);
        tasks.spawn(async move {
            watches.join_next().await;
            "a watch"
        });
        let statuses = Statuses::default();
        let convergence = Convergence::default();
        let times = self.metrics.convergence_time.clone();
        let measuring = convergence.clone().measure(counters.clone(), times);
        tasks.spawn(named("convergence", measuring));
        let settings = Settings {
            cluster_id: self.options.cluster_id.as_str().into(),
            domain: self.options.domain.as_str().into(),
            system_namespace: namespace.as_str().into(),
            ..Settings::default()
        };
        let translation = Translation::new(
            settings,
            mesh,
            self.pods.clone(),
            statuses.clone(),
            self.deployments.clone(),
            self.publisher.clone(),
            self.authority.clone(),
            self.metrics.clone(),
            convergence,
        );
        let ended = mesh::start(translation, changes, synced).map_err(Error::Start)?;
        tasks.spawn(async move {
            // Sent or dropped, the thread is over.
            let _ = ended.await;
            "the translating thread"
        });
        let election = take_part(
            self.client.clone(),
            Candidate {
                namespace: namespace.clone(),
                lease: STATUS_LEASE.to_owned(),
                holder: self.options.pod_name.clone(),
            },
        );
        let errors = self.metrics.status_errors.clone();
        self.deploy(tasks, &election, inputs);
        unsupported::start(&self.client, &statuses, tasks);
        let writer = status::write(self.client.clone(), statuses, election.leads(), errors);
        tasks.spawn(named("status", writer));
        Ok(election)
    }

    fn server(&self, counters: Arc<Counters>) -> Server {
        let gate = Gate {
            tokens: Tokens::new(self.client.clone()),
            pods: self.pods.clone(),
            node_accounts: self.options.trusted_node_accounts.clone(),
            authority: self.authority.clone(),
            metrics: self.metrics.clone(),
        };
        let signer = CertificateService {
            rules: Rules {
                pods: self.pods.clone(),
                trusted: self.options.trusted_node_accounts.clone(),
            },
            authority: self.authority.clone(),
            metrics: self.metrics.clone(),
        };
        let mut server = Server::new(self.publisher.clone(), Arc::new(gate), Arc::new(signer));
        server.counters = counters;
        server.about = About {
            instance: self.options.pod_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            namespace: self.options.namespace.clone(),
        };
        server
    }

    async fn until_stopped(
        &self,
        server: &Server,
        secured: TcpListener,
        plain: TcpListener,
        tls: ServerTls,
        tasks: &mut JoinSet<&'static str>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let stopped = |mut stop: watch::Receiver<bool>| async move {
            // The sender lives as long as the process; its end is a stop too.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let secured = server.serve(secured, Some(tls), stopped(stop.clone()), DRAIN);
        let plain = server.serve(plain, None, stopped(stop.clone()), DRAIN);
        let both = async { tokio::try_join!(secured, plain) };
        let ended = tokio::select! {
            ended = both => ended,
            Some(part) = tasks.join_next() => {
                return Err(Error::Ended(part.unwrap_or("a part (it panicked)")));
            }
        };
        match ended {
            // Streams that did not end in time at an orderly end are no failure.
            Err(ServeError::Deadline(_)) if *stop.borrow() => {
                warn!("streams were still open at the end");
                Ok(())
            }
            other => Ok(other.map(|_| ())?),
        }
    }
}

/// All ports are taken first: a second instance fails at once and clearly.
struct Listeners {
    xds: TcpListener,
    xds_plain: TcpListener,
    metrics: TcpListener,
    debug: TcpListener,
    webhook: TcpListener,
    local: TcpListener,
}

impl Listeners {
    fn open(options: &Options) -> Result<Self, Error> {
        let open = |port| admin::listen_everywhere(port).map_err(|why| Error::Listen { port, why });
        let ports = options.ports;
        Ok(Self {
            xds: open(ports.xds)?,
            xds_plain: open(ports.xds_plain)?,
            metrics: open(ports.metrics)?,
            debug: open(ports.debug)?,
            webhook: open(ports.webhook)?,
            local: admin::listen_locally(ports.local).map_err(|why| Error::Listen {
                port: ports.local,
                why,
            })?,
        })
    }
}

/// The API server may start after us: a minute of patience, then the pod is restarted.
async fn connect(options: &Options) -> Result<Client, Error> {
    let connect = Connect {
        kubeconfig: options.kubeconfig.clone(),
        context: None,
    };
    let end = Instant::now() + CONNECT_WITHIN;
    loop {
        match tulle_cluster::connect(&connect).await {
            Ok(client) => return Ok(client),
            Err(why) if why.is_transient() && Instant::now() < end => {
                warn!("{why}; trying again");
                sleep(CONNECT_RETRY).await;
            }
            Err(why) => return Err(why.into()),
        }
    }
}

/// The trust domain is needed before anything is signed.
async fn mesh_settings(client: &Client, namespace: &str) -> MeshConfig {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let mut told = String::new();
    let map = loop {
        match tulle_cluster::get(&maps, contract::CONFIGMAP_MESH).await {
            Ok(map) => break map,
            Err(why) => {
                let text = why.to_string();
                if text != told {
                    error!("mesh configuration: {text}; trying again");
                    told = text;
                }
                sleep(CONNECT_RETRY).await;
            }
        }
    };
    let text = map
        .and_then(|map| map.data?.remove(contract::MESH_KEY))
        .unwrap_or_default();
    mesh_config::parse(&text, namespace).unwrap_or_else(|why| {
        error!("{why}; starting with the defaults");
        mesh_config::defaults(namespace)
    })
}

async fn named(name: &'static str, part: impl Future<Output = ()>) -> &'static str {
    part.await;
    name
}
