//! Servers, forwarding and lookups over real sockets, with a scripted resolver.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::LocalSet;
use tulle_model::{
    Health, LoadBalancing, Locality, Mesh, NetworkAddress, Service, Tunnel, Workload, WorkloadKind,
};
use tulle_telemetry::{Format, Registry};

use super::*;

pub(crate) fn service(name: &str, namespace: &str, vips: &[&str]) -> Service {
    let address = |text: &&str| NetworkAddress {
        network: Arc::default(),
        range: IpNet::from(text.parse::<IpAddr>().unwrap()),
    };
    Service {
        name: name.into(),
        namespace: namespace.into(),
        hostname: format!("{name}.{namespace}.svc.cluster.local").into(),
        addresses: vips.iter().map(address).collect(),
        ports: Vec::new(),
        subject_alt_names: Vec::new(),
        waypoint: None,
        waypoint_use: Default::default(),
        load_balancing: LoadBalancing::default(),
        canonical: false,
        families: Default::default(),
        visibility: Default::default(),
    }
}

pub(crate) fn workload(name: &str, namespace: &str, address: &str) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/{namespace}/{name}").into(),
        name: name.into(),
        namespace: namespace.into(),
        trust_domain: "cluster.local".into(),
        service_account: name.into(),
        node: "node-1".into(),
        network: "".into(),
        cluster: "Kubernetes".into(),
        addresses: vec![address.parse().unwrap()],
        hostname: "".into(),
        tunnel: Tunnel::Hbone,
        native_tunnel: false,
        health: Health::Healthy,
        host_network: false,
        canonical_name: name.into(),
        canonical_revision: "v1".into(),
        workload_name: name.into(),
        kind: WorkloadKind::Deployment,
        services: [].into(),
        policies: Vec::new(),
        locality: Locality::default(),
        capacity: 1,
        waypoint: None,
        waypoint_enforced: false,
        network_gateway: None,
    }
}

/// A pod with this mesh, in the test's own network namespace.
struct Pod(Mesh);

impl Network for Pod {
    fn udp(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        OwnNetwork.udp(server)
    }

    async fn tcp(&self, server: SocketAddr) -> io::Result<TcpStream> {
        OwnNetwork.tcp(server).await
    }
}

impl Client for Pod {
    async fn workload(&self) -> Option<Arc<Workload>> {
        Some(Arc::new(workload("client", "default", "10.0.0.1")))
    }

    fn with_mesh<T>(&self, look: impl FnOnce(&Mesh) -> T) -> T {
        look(&self.0)
    }
}

/// How the scripted resolver answers.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    /// One address, to be kept that long.
    Address(u32),
    /// Over UDP only that TCP is needed.
    Truncated,
    ServerFailure,
    NoSuchName,
    Silent,
    /// First somebody else's answer, then the right one.
    Forged,
}

struct Resolver {
    address: SocketAddr,
    script: Rc<Cell<Script>>,
    seen: Rc<RefCell<Vec<String>>>,
}

const ANSWER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

async fn resolver(script: Script) -> Resolver {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let (script, seen) = (
        Rc::new(Cell::new(script)),
        Rc::<RefCell<Vec<String>>>::default(),
    );
    let (s, n) = (script.clone(), seen.clone());
    tokio::task::spawn_local(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            for answer in scripted(&buffer[..length], s.get(), "udp", &n) {
                udp.send_to(&answer, from).await.unwrap();
            }
        }
    });
    let (s, n) = (script.clone(), seen.clone());
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            let script = match s.get() {
                Script::Truncated => Script::Address(60),
                other => other,
            };
            for answer in scripted(&query, script, "tcp", &n) {
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        }
    });
    Resolver {
        address,
        script,
        seen,
    }
}

fn scripted(query: &[u8], script: Script, how: &str, seen: &RefCell<Vec<String>>) -> Vec<Vec<u8>> {
    let query = Message::from_vec(query).unwrap();
    let asked = query.queries[0].clone();
    seen.borrow_mut()
        .push(format!("{how} {} {}", asked.query_type(), asked.name()));
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.queries.push(asked.clone());
    match script {
        Script::Silent => return Vec::new(),
        Script::ServerFailure => answer.metadata.response_code = ResponseCode::ServFail,
        Script::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        Script::Truncated => answer.metadata.truncation = true,
        Script::Address(_) | Script::Forged if asked.query_type() != RecordType::A => {}
        Script::Address(ttl) => answer.answers.push(record(asked.name(), ttl, ANSWER)),
        Script::Forged => {
            let mut forged = answer.clone();
            forged.metadata.id ^= 1;
            let evil = Ipv4Addr::new(203, 0, 113, 66);
            forged.answers.push(record(asked.name(), 60, evil));
            answer.answers.push(record(asked.name(), 60, ANSWER));
            return vec![forged.to_vec().unwrap(), answer.to_vec().unwrap()];
        }
    }
    vec![answer.to_vec().unwrap()]
}

fn record(name: &Name, ttl: u32, address: Ipv4Addr) -> Record {
    Record::from_rdata(name.clone(), ttl, RData::A(A(address)))
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(name).unwrap();
    message.queries.push(Query::query(name, kind));
    message.to_vec().unwrap()
}

/// A running server and how to ask it.
struct Running {
    udp: SocketAddr,
    tcp: SocketAddr,
    end: tokio::sync::watch::Sender<bool>,
    registry: Registry,
}

impl Running {
    async fn start(mesh: Mesh, servers: Vec<SocketAddr>) -> Self {
        let registry = Registry::new();
        let zone = Zone {
            cluster_domain: "cluster.local".into(),
            ipv6: true,
            preferred_namespace: None,
        };
        let server = Server::new(
            Pod(mesh),
            zone,
            Resolvers { servers },
            Metrics::new(&registry),
        );
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at_udp, at_tcp) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let (end, ended) = tokio::sync::watch::channel(false);
        let until = |mut ended: tokio::sync::watch::Receiver<bool>| async move {
            let _ = ended.wait_for(|end| *end).await;
        };
        tokio::task::spawn_local(server.clone().serve_udp(udp, until(ended.clone())));
        tokio::task::spawn_local(server.serve_tcp(tcp, until(ended)));
        Self {
            udp: at_udp,
            tcp: at_tcp,
            end,
            registry,
        }
    }

    async fn ask(&self, query: &[u8]) -> Message {
        let socket = OwnNetwork.udp(self.udp).unwrap();
        socket.send(query).await.unwrap();
        let mut buffer = [0; 4096];
        let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer));
        let length = received.await.expect("no answer").unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn addresses(&self, name: &str) -> Vec<String> {
        let answer = self.ask(&query(name, RecordType::A)).await;
        assert_eq!(answer.metadata.id, 4711);
        let addresses = answer
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(A(v4)) => Some(v4.to_string()),
                _ => None,
            });
        addresses.collect()
    }
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn mesh() -> Mesh {
    let mut mesh = Mesh::default();
    mesh.insert_service(service("web", "default", &["10.96.0.1"]));
    mesh
}

#[test]
fn names_of_the_mesh_are_answered_and_all_else_is_forwarded_as_it_is() {
    local(async {
        let resolver = resolver(Script::Address(60)).await;
        let server = Running::start(mesh(), vec![resolver.address]).await;
        assert_eq!(
            server.addresses("web.default.svc.cluster.local.").await,
            ["10.96.0.1"]
        );
        assert_eq!(server.addresses("web.").await, ["10.96.0.1"]);
        assert!(resolver.seen.borrow().is_empty());
        assert_eq!(server.addresses("example.com.").await, [ANSWER.to_string()]);
        // Not an address: somebody else's to answer, also of a name that is ours.
        server
            .ask(&query("web.default.svc.cluster.local.", RecordType::SRV))
            .await;
        assert_eq!(
            *resolver.seen.borrow(),
            [
                "udp A example.com.",
                "udp SRV web.default.svc.cluster.local."
            ]
        );
        let metrics = server.registry.encode(Format::Prometheus);
        let labels = "request_protocol=\"udp\",source_canonical_service=\"client\",source_canonical_revision=\"v1\"";
        for line in [
            format!("istio_dns_requests_total{{request_query_type=\"a\",{labels}}} 3"),
            format!("istio_dns_requests_total{{request_query_type=\"srv\",{labels}}} 1"),
            format!("istio_dns_upstream_requests_total{{request_query_type=\"a\",{labels}}} 1"),
            format!(
                "istio_dns_upstream_request_duration_seconds_count{{request_query_type=\"a\",{labels}}} 1"
            ),
        ] {
            assert!(metrics.lines().any(|l| l == line), "no {line} in {metrics}");
        }
        assert!(
            !metrics.contains("istio_dns_upstream_failures_total{"),
            "{metrics}"
        );
    });
}

#[test]
fn over_tcp_several_queries_of_one_connection() {
    local(async {
        let resolver = resolver(Script::Address(60)).await;
        let server = Running::start(mesh(), vec![resolver.address]).await;
        let mut stream = TcpStream::connect(server.tcp).await.unwrap();
        for name in ["web.", "example.com."] {
            let query = query(name, RecordType::A);
            stream.write_u16(query.len() as u16).await.unwrap();
            stream.write_all(&query).await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut answer = vec![0; usize::from(length)];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
        }
        // What came over TCP goes on over TCP.
        assert_eq!(*resolver.seen.borrow(), ["tcp A example.com."]);
    });
}

#[test]
fn what_the_resolver_says_is_passed_on() {
    local(async {
        let resolver = resolver(Script::NoSuchName).await;
        let server = Running::start(mesh(), vec![resolver.address]).await;
        let ask = async || {
            server
                .ask(&query("example.com.", RecordType::A))
                .await
                .metadata
        };
        assert_eq!(ask().await.response_code, ResponseCode::NXDomain);
        resolver.script.set(Script::ServerFailure);
        assert_eq!(ask().await.response_code, ResponseCode::ServFail);
        resolver.script.set(Script::Truncated);
        assert!(ask().await.truncation);
        resolver.script.set(Script::Forged);
        assert_eq!(server.addresses("example.com.").await, [ANSWER.to_string()]);
    });
}

#[test]
fn the_next_resolver_is_asked_when_one_fails_or_is_gone() {
    local(async {
        let gone = {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.local_addr().unwrap()
        };
        let (failing, good) = (
            resolver(Script::ServerFailure).await,
            resolver(Script::Address(60)).await,
        );
        let servers = vec![gone, failing.address, good.address];
        let server = Running::start(mesh(), servers).await;
        assert_eq!(server.addresses("example.com.").await, [ANSWER.to_string()]);
        assert_eq!(failing.seen.borrow().len(), 1);
    });
}

#[test]
fn without_a_resolver_there_is_a_server_failure_and_a_metric() {
    local(async {
        let server = Running::start(mesh(), Vec::new()).await;
        let answer = server.ask(&query("example.com.", RecordType::A)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        let metrics = server.registry.encode(Format::Prometheus);
        assert!(
            metrics.contains("istio_dns_upstream_failures_total{request_query_type=\"a\""),
            "{metrics}"
        );
    });
}

#[test]
fn a_server_that_ends_answers_what_it_has() {
    local(async {
        let server = Running::start(mesh(), Vec::new()).await;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.udp).unwrap();
        // In the queue before the server gets a turn, and the end as well.
        socket.send(&query("web.", RecordType::A)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(socket).unwrap();
        server.end.send_replace(true);
        let mut buffer = [0; 512];
        let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer));
        assert!(received.await.unwrap().unwrap() > 0);
        // And then it is gone.
        let gone = async {
            loop {
                if TcpStream::connect(server.tcp).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone)
            .await
            .unwrap();
    });
}

fn lookup(servers: Vec<SocketAddr>) -> Lookup<OwnNetwork> {
    Lookup::new(Resolvers { servers }, OwnNetwork, true)
}

#[test]
fn a_host_is_asked_for_once_and_remembered() {
    local(async {
        let resolver = resolver(Script::Address(60)).await;
        let lookup = lookup(vec![resolver.address]);
        let host: Arc<str> = "db.example.com".into();
        let (a, b) = tokio::join!(lookup.addresses(&host), lookup.addresses(&host));
        assert_eq!(*a.unwrap(), [IpAddr::from(ANSWER)]);
        assert_eq!(*b.unwrap(), [IpAddr::from(ANSWER)]);
        lookup.addresses(&host).await.unwrap();
        let mut seen = resolver.seen.borrow().clone();
        seen.sort();
        assert_eq!(seen, ["udp A db.example.com.", "udp AAAA db.example.com."]);
        let literal = lookup.addresses(&"192.0.2.9".into()).await.unwrap();
        assert_eq!(*literal, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
    });
}

#[test]
fn whoever_waits_takes_over_from_one_that_left() {
    local(async {
        let resolver = resolver(Script::Silent).await;
        let lookup = Rc::new(lookup(vec![resolver.address]));
        let host: Arc<str> = "db.example.com".into();
        let (leader, name) = (lookup.clone(), host.clone());
        let leader = tokio::task::spawn_local(async move { leader.addresses(&name).await });
        tokio::task::yield_now().await;
        let (follower, name) = (lookup.clone(), host.clone());
        let follower = tokio::task::spawn_local(async move { follower.addresses(&name).await });
        tokio::task::yield_now().await;
        resolver.script.set(Script::Address(60));
        leader.abort();
        assert_eq!(*follower.await.unwrap().unwrap(), [IpAddr::from(ANSWER)]);
    });
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp() {
    local(async {
        let resolver = resolver(Script::Truncated).await;
        let found = lookup(vec![resolver.address])
            .addresses(&"db.example.com".into())
            .await;
        assert_eq!(*found.unwrap(), [IpAddr::from(ANSWER)]);
        assert!(
            resolver
                .seen
                .borrow()
                .iter()
                .any(|s| s.starts_with("tcp A "))
        );
    });
}

#[test]
fn no_such_name_is_an_error_that_says_so() {
    local(async {
        let resolver = resolver(Script::NoSuchName).await;
        let lookup = lookup(vec![resolver.address]);
        let error = lookup
            .addresses(&"db.example.com".into())
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("db.example.com has no address"),
            "{error}"
        );
        let again = lookup
            .addresses(&"db.example.com".into())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), again.to_string());
        assert_eq!(
            resolver.seen.borrow().len(),
            2,
            "failures are remembered, too"
        );
        assert!(matches!(
            lookup.addresses(&"a..b".into()).await,
            Err(LookupError::Name(_))
        ));
    });
}

#[test]
fn addresses_out_of_date_serve_while_nobody_answers() {
    local(async {
        let resolver = resolver(Script::Address(0)).await;
        let lookup = lookup(vec![resolver.address]);
        let host: Arc<str> = "db.example.com".into();
        lookup.addresses(&host).await.unwrap();
        resolver.script.set(Script::Silent);
        tokio::time::pause();
        tokio::time::advance(limits::REMEMBERED_LEAST + Duration::from_millis(1)).await;
        assert_eq!(
            *lookup.addresses(&host).await.unwrap(),
            [IpAddr::from(ANSWER)]
        );
        tokio::time::advance(limits::STALE).await;
        assert!(matches!(
            lookup.addresses(&host).await,
            Err(LookupError::Forward { .. })
        ));
    });
}

#[test]
fn resolvers_of_a_resolv_conf() {
    let text = "# comment\nsearch a b\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\nnameserver fd00::10\n\
                options ndots:5\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n";
    let servers = Resolvers::parse(text).servers;
    let expected = ["10.96.0.10:53", "[fd00::10]:53", "192.0.2.1:53"];
    assert_eq!(servers, expected.map(|s| s.parse::<SocketAddr>().unwrap()));
    assert!(Resolvers::parse("").servers.is_empty());
}
