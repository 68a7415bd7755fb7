//! Connections of which only bytes are known: TCP, and TLS that ends elsewhere.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tulle_model::{Service, Workload};
use tulle_policy::http::{Custom, Outcome};
use tulle_route::balance::{Active, Draw, Permit, Use};
use tulle_route::canonical::sni;
use tulle_route::decide::split;
use tulle_route::resource::{Backend, BackendTarget, Gateway, Listener, Protocol};
use tulle_route::{Scope, StreamLookup, StreamRequest};
use tulle_telemetry::{Flag, Flags, Reporter, ResponseFlags};

use crate::authority::Addressed;
use crate::authorize;
use crate::destination::{self, Destination, DestinationKey, Endpoint, Hop};
use crate::dial::{self, Dialled, For};
use crate::failure::Failure;
use crate::inbound::{Client, Via};
use crate::io::Io;
use crate::limits::{BYTES_INTERVAL, ENDPOINT_ATTEMPTS, RELAY_BUFFER, STREAM_IDLE};
use crate::observe::{self, Known, Line, Series};
use crate::state::Snapshot;
use crate::worker::Worker;

/// Why a connection is not served.
#[derive(Clone, Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Denied(Arc<str>),
    #[error("no route for this connection")]
    NoRoute,
    #[error("the route's destination cannot be used: {0}")]
    Unroutable(Arc<str>),
    #[error("{0}")]
    Failed(#[from] Failure),
}

impl Refused {
    fn flags(&self) -> (ResponseFlags, Flags) {
        match self {
            Self::Denied(_) => (ResponseFlags::Denied, Flags::default()),
            Self::NoRoute => (ResponseFlags::Connect, Flag::NoRoute.into()),
            Self::Unroutable(_) => (ResponseFlags::Connect, Flag::NoCluster.into()),
            Self::Failed(failure) => (failure.flags(), failure.flag().into()),
        }
    }
}

/// Where a connection goes.
enum Way {
    Destination(Arc<Destination>),
    /// A workload that was addressed itself.
    Workload(Endpoint),
}

/// One connection, from its first byte to its last.
pub(crate) async fn serve(worker: &Rc<Worker>, client: &Client, mut io: Io, began: Instant) {
    let snapshot = worker.shared.state.load();
    let start = SystemTime::now() - began.elapsed();
    let mut reached = Reached::default();
    let outcome = reach(worker, &snapshot, client, &mut reached).await;
    let series = Series::of(worker, &snapshot, client, reached.known());
    series.open();
    worker.connections.sockets(reporter(client), 1);
    let moved = Rc::new(Moved::default());
    let failed = match outcome {
        Ok(dialled) => {
            let life = Life {
                idle: reached.idle.unwrap_or(STREAM_IDLE),
                longest: reached.longest,
            };
            relay(worker, &mut io, dialled.io, &moved, &series, life).await;
            None
        }
        Err(refused) => Some(refused),
    };
    let (received, sent) = moved.tell(&series);
    let mut flags = Flags::default();
    match &failed {
        None => series.close(),
        Some(refused) => {
            let (connection, line) = refused.flags();
            tracing::debug!(source = %client.source, destination = %client.local, error = %refused, "a connection is refused");
            series.fail(connection);
            flags = line;
            io.reset();
        }
    }
    worker.connections.sockets(reporter(client), -1);
    let details = match &failed {
        Some(Refused::Denied(details)) => Some(details.clone()),
        _ => None,
    };
    let upstream_failure = match &failed {
        Some(Refused::Failed(failure)) => Some(failure.to_string().into()),
        _ => None,
    };
    let line = Line {
        start,
        duration: began.elapsed(),
        known: reached.known(),
        received,
        sent,
        flags,
        details,
        upstream_failure,
    };
    observe::connection(worker, &snapshot, client, &line);
}

/// What was found out on the way, for metrics and log.
#[derive(Default)]
struct Reached {
    service: Option<Arc<Service>>,
    workload: Option<Arc<Workload>>,
    hop: Option<Hop>,
    cluster: Option<Arc<str>>,
    route: Option<Arc<str>>,
    idle: Option<Duration>,
    longest: Option<Duration>,
    /// Held for as long as the connection lives.
    _active: Option<Active>,
    _permit: Option<Permit>,
}

impl Reached {
    fn known(&self) -> Known<'_> {
        Known {
            service: self.service.as_ref(),
            workload: self.workload.as_ref(),
            hop: self.hop.as_ref(),
            cluster: self.cluster.as_ref(),
            route: self.route.as_ref(),
        }
    }
}

/// Authorization, route, choice, connection.
async fn reach(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    client: &Client,
    reached: &mut Reached,
) -> Result<Dialled, Refused> {
    if let Via::Waypoint(target) = &client.via {
        reached.service = target.service().cloned();
    }
    authorize(worker, snapshot, client, reached.service.as_deref())?;
    let way = way(worker, snapshot, client, reached)?;
    let destination = match way {
        Way::Workload(endpoint) => {
            reached.workload.clone_from(&endpoint.workload);
            reached.hop = Some(endpoint.hop.clone());
            let io = dial::open(worker, &endpoint.hop, crate::limits::DIAL_DEADLINE).await?;
            return Ok(Dialled { io });
        }
        Way::Destination(destination) => destination,
    };
    if reached.service.is_none() {
        reached.service = Some(destination.service.clone());
    }
    reached.cluster = Some(destination.cluster.clone());
    let tcp = destination.policy.tcp.unwrap_or_default();
    (reached.idle, reached.longest) = (tcp.idle_timeout, tcp.max_connection_duration);
    if let Some(endpoint) = destination.original(snapshot, &worker.shared.network, client.local) {
        reached.workload.clone_from(&endpoint.workload);
        reached.hop = Some(endpoint.hop.clone());
        return Ok(dial::connect(worker, &destination, &endpoint.hop, what(client)).await?);
    }
    let permit = destination.breaker.enter(Use::Connection);
    reached._permit = Some(permit.map_err(Failure::Overflow)?);
    connect(worker, client, &destination, reached).await
}

fn what(client: &Client) -> For<'_> {
    For {
        client: Some((client.source, client.local)),
        host: client.server_name.as_deref(),
        alpn: None,
    }
}

/// An endpoint that does not answer is exchanged for another.
async fn connect(
    worker: &Rc<Worker>,
    client: &Client,
    destination: &Destination,
    reached: &mut Reached,
) -> Result<Dialled, Refused> {
    let mut tried = Vec::new();
    loop {
        let draw = Draw {
            now: worker.shared.destinations.now(),
            dice: rand::random(),
            hash: observe::source_hash(destination, client),
            tried: &tried,
        };
        let chosen = worker.choose(destination, &draw);
        let chosen = chosen.ok_or_else(|| Failure::NoEndpoint(destination.cluster.clone()))?;
        let (at, active) = chosen;
        let Some(endpoint) = destination.endpoints.get(at) else {
            return Err(Failure::NoEndpoint(destination.cluster.clone()).into());
        };
        let named = destination.named(endpoint, client.server_name.as_deref());
        let endpoint = named.ok_or(Refused::NoRoute)?;
        reached.workload.clone_from(&endpoint.workload);
        reached.hop = Some(endpoint.hop.clone());
        match dial::connect(worker, destination, &endpoint.hop, what(client)).await {
            Ok(dialled) => {
                reached._active = Some(active);
                return Ok(dialled);
            }
            Err(failure) => {
                worker.report(destination, at, tulle_route::balance::Outcome::LocalFailure);
                tried.push(at);
                if !failure.another_may_answer() || tried.len() >= ENDPOINT_ATTEMPTS {
                    return Err(failure.into());
                }
                tracing::debug!(endpoint = ?endpoint.hop, error = %failure, "trying another endpoint");
            }
        }
    }
}

fn authorize(
    worker: &Worker,
    snapshot: &Snapshot,
    client: &Client,
    service: Option<&Service>,
) -> Result<(), Refused> {
    let key = service.map(Service::key);
    let targets = authorize::targets(client, key.as_ref());
    let question = authorize::question(client, client.source.ip(), None);
    match snapshot.policies.custom(&targets, &question) {
        Custom::Ask(asked) if asked.is_empty() => {}
        // Nobody outside can be asked about bytes: fail closed.
        Custom::Ask(asked) => {
            let counted = &worker.shared.decisions;
            asked.iter().for_each(|ask| {
                counted
                    .with(&[&ask.policy, authorize::PROVIDER_DENIED])
                    .inc();
            });
            return Err(Refused::Denied("ext_authz_denied".into()));
        }
        Custom::Refused(cause) => {
            authorize::refused(&worker.shared, &cause);
            return Err(Refused::Denied(authorize::details(&cause)));
        }
    }
    let decision = snapshot.policies.decide(&targets, &question);
    authorize::note(&worker.shared, client, "", &decision.notes);
    match decision.outcome {
        Outcome::Allowed(_) => Ok(()),
        Outcome::Denied(cause) => {
            tracing::info!(source = %client.source, destination = %client.local, "{cause}");
            authorize::refused(&worker.shared, &cause);
            Err(Refused::Denied(authorize::details(&cause)))
        }
    }
}

fn way(
    worker: &Worker,
    snapshot: &Snapshot,
    client: &Client,
    reached: &mut Reached,
) -> Result<Way, Refused> {
    let name = client
        .server_name
        .as_deref()
        .and_then(|name| sni(name).ok());
    let namespace = client.peer.as_ref().map(|peer| &*peer.namespace);
    let request = StreamRequest {
        sni: name.as_deref(),
        destination: Some(client.local.ip()),
        port: client.port(),
        source_namespace: namespace,
    };
    let get = |key: DestinationKey| {
        let found = worker.destination(snapshot, &key);
        found
            .map(Way::Destination)
            .map_err(|error| Refused::Failed(Failure::Destination(error)))
    };
    match &client.via {
        Via::Waypoint(target) => match &target.what {
            Addressed::Workload(workload) => {
                let hop = destination::hop(workload, None, Some(client.local.ip()), client.port());
                let hop = hop.ok_or(Refused::NoRoute)?;
                Ok(Way::Workload(Endpoint {
                    workload: Some(workload.clone()),
                    port: client.port(),
                    hop,
                }))
            }
            Addressed::Service(service) => {
                let key = service.key();
                let scope = Scope::Service {
                    service: &key,
                    port: client.port(),
                };
                match snapshot.routes.stream(scope, &request) {
                    StreamLookup::NoMatch => Err(Refused::NoRoute),
                    StreamLookup::Unrouted => get(DestinationKey {
                        service: key,
                        port: client.port(),
                        subset: None,
                    }),
                    StreamLookup::Routed(found) => {
                        reached.route = Some(found.route.object.text().clone());
                        get(backend(found.backends(), client.port())?)
                    }
                }
            }
        },
        Via::Listener { port, .. } => {
            let found = snapshot.gateways.values().find_map(|gateway| {
                let listener = listener(gateway, *port, name.as_deref())?;
                let key = format!("{}/{}", gateway.namespace, gateway.name);
                let scope = Scope::Listener {
                    gateway: &key,
                    listener: &listener.name,
                };
                snapshot.routes.stream(scope, &request).routed()
            });
            let found = found.ok_or(Refused::NoRoute)?;
            reached.route = Some(found.route.object.text().clone());
            get(backend(found.backends(), client.port())?)
        }
    }
}

/// By server name where there is TLS, else the only one there can be on a port.
fn listener<'g>(gateway: &'g Gateway, port: u16, name: Option<&str>) -> Option<&'g Listener> {
    let mut plain = gateway.listeners.iter();
    let plain = plain.find(|l| l.port == port && l.protocol == Protocol::Tcp);
    plain.or_else(|| gateway.listener_of_sni(port, name))
}

fn backend(backends: &[Backend], port: u16) -> Result<DestinationKey, Refused> {
    let chosen = split(backends, rand::random()).and_then(|at| backends.get(at));
    match &chosen.ok_or(Refused::NoRoute)?.target {
        BackendTarget::Service {
            service,
            port: own,
            subset,
        } => Ok(DestinationKey {
            service: service.clone(),
            port: own.unwrap_or(port),
            subset: subset.clone(),
        }),
        BackendTarget::Unroutable(unroutable) => Err(Refused::Unroutable(unroutable.why.clone())),
    }
}

/// Bytes from client to server, and back.
#[derive(Default)]
struct Moved {
    received: Cell<u64>,
    sent: Cell<u64>,
    /// What the series knows already.
    told: Cell<(u64, u64)>,
}

impl Moved {
    fn all(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }

    fn tell(&self, series: &Series) -> (u64, u64) {
        let (received, sent) = self.all();
        let (old_received, old_sent) = self.told.replace((received, sent));
        if (received, sent) != (old_received, old_sent) {
            series.bytes(received - old_received, sent - old_sent);
        }
        (received, sent)
    }
}

/// How long bytes are moved.
struct Life {
    /// Without any.
    idle: Duration,
    longest: Option<Duration>,
}

/// Moves bytes both ways until both have ended, one fails, its life is over, or the proxy ends.
async fn relay(
    worker: &Worker,
    client: &mut Io,
    server: Io,
    moved: &Rc<Moved>,
    series: &Series,
    life: Life,
) {
    let mut client = Counted(client, &moved.received);
    let mut server = server;
    let outcome = {
        let mut counted = Counted(&mut server, &moved.sent);
        let copying =
            copy_bidirectional_with_sizes(&mut client, &mut counted, RELAY_BUFFER, RELAY_BUFFER);
        let mut copying = std::pin::pin!(copying);
        let mut ticks = tokio::time::interval(BYTES_INTERVAL);
        let (mut last, mut quiet_since) = (moved.all(), Instant::now());
        let end = async {
            match life.longest {
                Some(longest) => tokio::time::sleep(longest).await,
                None => std::future::pending().await,
            }
        };
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                copied = &mut copying => break copied.map(drop),
                _ = ticks.tick() => {
                    moved.tell(series);
                    if moved.all() != last {
                        (last, quiet_since) = (moved.all(), Instant::now());
                    } else if quiet_since.elapsed() >= life.idle {
                        break Err(io::ErrorKind::TimedOut.into());
                    }
                }
                () = &mut end => break Err(io::ErrorKind::TimedOut.into()),
                () = worker.shared.drain.expired() => break Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    };
    if outcome.is_err() {
        // A failure must not look like an end to the other side.
        server.reset();
    }
}

/// Counts what is read.
struct Counted<'a>(&'a mut Io, &'a Cell<u64>);

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *self.0).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        self.1.set(self.1.get() + read as u64);
        polled
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

/// A waypoint reports for both sides, a gateway for its own.
pub(crate) fn reporter(client: &Client) -> Reporter {
    match client.via {
        Via::Waypoint(_) => Reporter::Waypoint,
        Via::Listener { .. } => Reporter::Source,
    }
}
