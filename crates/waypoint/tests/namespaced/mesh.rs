//! A waypoint, applications and clients, each in a network namespace of its own, behind one router. All namespaces are
//! anonymous: they end with this process.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tulle_linux::NetNs;
use tulle_model::{
    AppProtocol, GatewayAddress, GatewayDestination, Health, Identity, LoadBalancing, Locality,
    NetworkAddress, Port, Service, ServiceKey, Tunnel, Workload, WorkloadKind,
};
use tulle_policy::observe::{AccessLog, Observe, Telemetry};
use tulle_policy::settings::ProxySettings;
use tulle_proto::{GATEWAY_TYPE, PROXY_SETTINGS_TYPE, TELEMETRY_TYPE};
use tulle_route::resource::{Gateway, Role};

use crate::ROLE;
use crate::application;
use crate::control::{Control, epoch};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace with one address.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) netns: NetNs,
    pub(crate) ip: IpAddr,
}

impl Pod {
    pub(crate) fn identity(&self) -> Identity {
        Identity::new("cluster.local", "shop", self.name.as_str())
    }
}

/// A waypoint, and the rest of its world.
pub(crate) struct Mesh {
    pub(crate) node: NetNs,
    pub(crate) waypoint: Pod,
    pub(crate) control: Control,
    proxy: Option<Child>,
    directory: tempfile::TempDir,
    next: u8,
}

impl Mesh {
    /// A waypoint for services that is connected and ready, and serves nothing yet.
    pub(crate) fn waypoint() -> Self {
        Self::waypoint_with(&[])
    }

    /// The same, with more in its environment.
    pub(crate) fn waypoint_with(environment: &[(&str, &str)]) -> Self {
        let role = Role::Waypoint {
            services: true,
            workloads: false,
        };
        let gateway = Gateway {
            namespace: "shop".into(),
            name: "waypoint".into(),
            role,
            listeners: Vec::new(),
            backend_certificate: None,
            client_identity: false,
        };
        Self::start_with(&gateway, environment)
    }

    pub(crate) fn start(gateway: &Gateway) -> Self {
        Self::start_with(gateway, &[])
    }

    fn start_with(gateway: &Gateway, environment: &[(&str, &str)]) -> Self {
        assert_eq!(
            tulle_linux::process::effective_user(),
            0,
            "these tests make network namespaces: run them as root"
        );
        let node = NetNs::create().unwrap();
        node.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
            .unwrap()
            .unwrap();
        let mut next = 1;
        let waypoint = pod(&node, &mut next, "waypoint");
        run_in(&waypoint.netns, "ip link set lo up");
        let listener = waypoint
            .netns
            .enter(|| TcpListener::bind("127.0.0.1:15010"))
            .unwrap()
            .unwrap();
        let mut mesh = Self {
            control: Control::start(listener),
            directory: tempfile::tempdir().unwrap(),
            node,
            waypoint,
            proxy: None,
            next,
        };
        std::fs::write(mesh.directory.path().join("token"), "test-token").unwrap();
        let own = service(
            "waypoint",
            "10.96.0.200",
            &[(15008, 15008, AppProtocol::Unknown)],
        );
        let mut me = workload(&mesh.waypoint);
        me.services = [(own.key(), own.ports.clone())].into();
        mesh.control.service(&Service {
            waypoint: None,
            ..own
        });
        mesh.control.workload(&me);
        mesh.control
            .put(PROXY_SETTINGS_TYPE, "mesh", &ProxySettings::default());
        let telemetry = Telemetry {
            gateway: "shop/waypoint".into(),
            all: Observe {
                access_logs: vec![AccessLog {
                    provider: "envoy".into(),
                    filter: None,
                }],
                ..Observe::default()
            },
            ..Telemetry::default()
        };
        mesh.control
            .put(TELEMETRY_TYPE, "shop/waypoint", &telemetry);
        mesh.control.put(GATEWAY_TYPE, "shop/waypoint", gateway);
        mesh.start_proxy(environment);
        mesh.ready();
        mesh
    }

    fn start_proxy(&mut self, environment: &[(&str, &str)]) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "role", "--nocapture"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env(ROLE, "waypoint")
            .env("XDS_ADDRESS", "http://127.0.0.1:15010")
            .env("CA_ADDR", "http://127.0.0.1:15010")
            .env("AUTH_TOKEN", self.directory.path().join("token"))
            .env("PROXY_CONCURRENCY", "2")
            .env("TERMINATION_DRAIN_DURATION_SECONDS", "20")
            .env("RUST_LOG", "info,tulle_waypoint=debug")
            .env("POD_NAME", "waypoint")
            .env("POD_NAMESPACE", "shop")
            .env("SERVICE_ACCOUNT", "waypoint")
            .env("INSTANCE_IP", self.waypoint.ip.to_string())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let spawned = self.waypoint.netns.enter(|| command.spawn());
        self.proxy = Some(spawned.unwrap().unwrap());
    }

    /// Another pod.
    pub(crate) fn pod(&mut self, name: &str) -> Pod {
        pod(&self.node, &mut self.next, name)
    }

    /// A pod in the mesh with an application on port 8080 that belongs to `of`, known to the waypoint.
    pub(crate) fn application(&mut self, name: &str, of: &[&Service]) -> Pod {
        let pod = self.pod(name);
        application::in_mesh(&pod.netns, name, epoch(&pod.identity()));
        let mut known = workload(&pod);
        known.services = of.iter().map(|s| (s.key(), s.ports.clone())).collect();
        self.control.workload(&known);
        pod
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    /// Waits for a log line that holds all these texts.
    pub(crate) fn logged(&self, texts: &[&str]) -> String {
        self.eventually(&format!("a log line with {texts:?}"), || {
            let log = self.log();
            log.lines()
                .find(|l| texts.iter().all(|t| l.contains(t)))
                .map(str::to_owned)
        })
    }

    pub(crate) fn eventually<T>(&self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = probe() {
                return found;
            }
            assert!(Instant::now() < deadline, "not seen: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A page of the proxy: status and body.
    pub(crate) fn page(&self, port: u16, path: &str) -> Option<(u16, String)> {
        let connected = self
            .waypoint
            .netns
            .enter(|| TcpStream::connect(("127.0.0.1", port)));
        let mut stream = connected.unwrap().ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    fn ready(&self) {
        self.eventually("readiness", || {
            let (status, _) = self.page(15021, "/healthz/ready")?;
            (status == 200).then_some(())
        });
    }

    /// Waits until the proxy knows something: a text in its dump.
    pub(crate) fn knows(&self, text: &str) {
        self.eventually(&format!("{text} in the dump"), || {
            let (_, dump) = self.page(15000, "/config_dump")?;
            dump.contains(text).then_some(())
        });
    }

    /// Bytes that the proxy holds.
    pub(crate) fn memory(&self) -> u64 {
        let pid = self.proxy.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes << 10
    }

    pub(crate) fn terminate(&self) {
        let pid = self.proxy.as_ref().unwrap().id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success());
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut proxy = self.proxy.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = proxy.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the proxy does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some(mut proxy) = self.proxy.take() {
            let _ = proxy.kill();
            let _ = proxy.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the proxy:\n{}", self.log());
        }
    }
}

/// A namespace with a cable to the router.
fn pod(node: &NetNs, next: &mut u8, name: &str) -> Pod {
    let n = *next;
    *next += 1;
    let netns = NetNs::create().unwrap();
    let path = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        std::os::fd::AsFd::as_fd(&netns.fd()).as_raw_fd()
    );
    let ip = format!("10.78.{n}.2");
    run_in(
        node,
        &format!("ip link add veth{n} type veth peer name eth0 netns {path}"),
    );
    run_in(node, &format!("ip addr add 10.78.{n}.1/24 dev veth{n}"));
    run_in(node, &format!("ip link set veth{n} up"));
    run_in(&netns, &format!("ip addr add {ip}/24 dev eth0"));
    run_in(&netns, "ip link set eth0 up");
    run_in(&netns, &format!("ip route add default via 10.78.{n}.1"));
    Pod {
        name: name.to_owned(),
        netns,
        ip: ip.parse().unwrap(),
    }
}

fn run_in(netns: &NetNs, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let output = netns
        .enter(|| Command::new(words[0]).args(&words[1..]).output())
        .unwrap()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn workload(pod: &Pod) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/shop/{}", pod.name).into(),
        name: pod.name.as_str().into(),
        namespace: "shop".into(),
        trust_domain: "cluster.local".into(),
        service_account: pod.name.as_str().into(),
        node: "node-1".into(),
        network: "".into(),
        cluster: "Kubernetes".into(),
        addresses: vec![pod.ip],
        hostname: "".into(),
        tunnel: Tunnel::Hbone,
        native_tunnel: false,
        health: Health::Healthy,
        host_network: false,
        canonical_name: pod.name.as_str().into(),
        canonical_revision: "v1".into(),
        workload_name: pod.name.as_str().into(),
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

/// A service behind the waypoint; ports as service port, target port, protocol.
pub(crate) fn service(name: &str, vip: &str, ports: &[(u16, u16, AppProtocol)]) -> Service {
    Service {
        name: name.into(),
        namespace: "shop".into(),
        hostname: format!("{name}.shop.svc.cluster.local").into(),
        addresses: vec![NetworkAddress::host("".into(), vip.parse().unwrap())],
        ports: ports
            .iter()
            .map(|(service_port, target_port, protocol)| Port {
                service_port: *service_port,
                target_port: *target_port,
                protocol: *protocol,
            })
            .collect(),
        subject_alt_names: Vec::new(),
        waypoint: Some(Box::new(GatewayAddress {
            destination: GatewayDestination::Service(ServiceKey::new(
                "shop",
                "waypoint.shop.svc.cluster.local",
            )),
            hbone_port: 15008,
        })),
        waypoint_use: Default::default(),
        load_balancing: LoadBalancing::default(),
        canonical: true,
        families: Default::default(),
        visibility: Default::default(),
    }
}
