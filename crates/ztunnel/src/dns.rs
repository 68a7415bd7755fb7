//! Names: the DNS server of each pod, and the addresses of workloads that have only a name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tulle_api::contract::PORT_DNS;
use tulle_dns::{Client, Network, Server};
use tulle_linux::{NetNs, socket};
use tulle_model::{Mesh, Workload};
use tulle_telemetry::{CounterFamily, Registry};

use crate::error::Failure;
use crate::pod::Pod;
use crate::signal::Once;
use crate::worker::{Active, Shared, Worker};

/// Where a pod's queries arrive: its loopback addresses, so that nobody else can ask.
#[derive(Debug)]
pub(crate) struct DnsSockets {
    udp: Vec<std::net::UdpSocket>,
    tcp: Vec<std::net::TcpListener>,
}

impl DnsSockets {
    /// Opens them. IPv6 is served where the pod has it.
    pub(crate) fn open(netns: &NetNs) -> io::Result<Self> {
        let mut sockets = Self {
            udp: Vec::new(),
            tcp: Vec::new(),
        };
        for address in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ] {
            let at = SocketAddr::new(address, PORT_DNS);
            let both = || Ok((socket::udp_listen(netns, at)?, socket::listen(netns, at)?));
            match both() {
                Ok((udp, tcp)) => {
                    sockets.udp.push(udp);
                    sockets.tcp.push(tcp);
                }
                Err(error) if address.is_ipv4() => return Err(error),
                Err(error) => tracing::debug!(%error, "no DNS over IPv6 in a pod"),
            }
        }
        Ok(sockets)
    }
}

/// The pod whose queries are answered. What goes on to resolvers leaves from the pod, past the redirect.
struct PodClient {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
}

impl Network for PodClient {
    fn udp(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        let mark = self.shared.options.mark;
        UdpSocket::from_std(socket::udp_dial(&self.pod.netns, server, mark)?)
    }

    async fn tcp(&self, server: SocketAddr) -> io::Result<TcpStream> {
        let mark = self.shared.options.mark;
        let fd = socket::dial_socket(&self.pod.netns, server.ip(), None, mark)?;
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(fd));
        socket.connect(server).await
    }
}

impl Client for PodClient {
    async fn workload(&self) -> Option<Arc<Workload>> {
        self.pod.own_workload(&self.shared.state).await.ok()
    }

    fn with_mesh<T>(&self, look: impl FnOnce(&Mesh) -> T) -> T {
        look(&self.shared.state.load().mesh)
    }
}

/// Serves a pod's queries until one of the returned ends is told.
pub(crate) fn serve(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    sockets: DnsSockets,
) -> io::Result<Vec<Rc<Once<()>>>> {
    let shared = &worker.shared;
    let client = PodClient {
        shared: shared.clone(),
        pod: pod.clone(),
    };
    let (zone, resolvers) = (
        shared.options.zone.clone(),
        shared.options.resolvers.clone(),
    );
    let server = Server::new(client, zone, resolvers, shared.dns.clone());
    let mut ends = Vec::new();
    let mut end = || {
        let end = Rc::new(Once::default());
        ends.push(end.clone());
        async move { end.told().await }
    };
    for socket in sockets.udp {
        let socket = UdpSocket::from_std(socket)?;
        let serving = server.clone().serve_udp(socket, end());
        let active = Active::count(&worker.active, &worker.quiet);
        tokio::task::spawn_local(async move {
            serving.await;
            drop(active);
        });
    }
    for listener in sockets.tcp {
        let listener = TcpListener::from_std(listener)?;
        tokio::task::spawn_local(server.clone().serve_tcp(listener, end()));
    }
    Ok(ends)
}

/// Counts lookups for workloads that have only a name (Istio's metric).
#[derive(Clone, Debug)]
pub(crate) struct LookupMetric(CounterFamily);

impl LookupMetric {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self(registry.counter(
            "istio_on_demand_dns",
            "Connections to workloads whose address had to be looked up",
            &[
                "source_workload",
                "source_canonical_service",
                "source_canonical_revision",
                "source_workload_namespace",
                "source_principal",
                "source_app",
                "source_version",
                "source_cluster",
                "hostname",
            ],
        ))
    }

    fn count(&self, source: &Workload, hostname: &str) {
        let principal = source.identity().to_string();
        let values = [
            &*source.workload_name,
            &source.canonical_name,
            &source.canonical_revision,
            &source.namespace,
            &principal,
            &source.canonical_name,
            &source.canonical_revision,
            &source.cluster,
            hostname,
        ];
        let known = values.map(|v| if v.is_empty() { "unknown" } else { v });
        self.0.with(&known).inc();
    }
}

/// One of a host's addresses, at random, of the family that the client dialled if there is one.
pub(crate) async fn address(
    worker: &Worker,
    client: &Workload,
    hostname: &Arc<str>,
    like: IpAddr,
) -> Result<IpAddr, Failure> {
    worker.shared.lookups.count(client, hostname);
    let all = worker.lookup.addresses(hostname).await?;
    let same: Vec<IpAddr> = all
        .iter()
        .filter(|a| a.is_ipv4() == like.is_ipv4())
        .copied()
        .collect();
    let from = if same.is_empty() { &*all } else { &same };
    let index = rand::random::<u64>() % (from.len().max(1) as u64);
    from.get(usize::try_from(index).unwrap_or(0))
        .copied()
        .ok_or_else(|| Failure::NoAddress(hostname.clone()))
}
