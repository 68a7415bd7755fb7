//! A node with pods: namespaces, cables, rules, and the proxy. All namespaces are anonymous: they end with this process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tulle_linux::{NetNs, Redirect, redirect};
use tulle_model::{
    Health, LoadBalancing, Locality, NetworkAddress, Port, Service, Tunnel, Workload, WorkloadKind,
};

use crate::ROLE;
use crate::control::{Control, Told};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn this_program() -> String {
    std::env::current_exe()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// A network namespace with one address, behind the node.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) netns: NetNs,
    pub(crate) ip: IpAddr,
}

/// One node, its proxy and its control plane.
pub(crate) struct Mesh {
    pub(crate) node: NetNs,
    pub(crate) control: Option<Control>,
    pods: Arc<Mutex<BTreeMap<String, Told>>>,
    proxy: Option<Child>,
    directory: tempfile::TempDir,
    enrolled: Vec<Workload>,
    next: u8,
}

impl Mesh {
    /// A node without pods, with a proxy that is connected.
    pub(crate) fn start() -> Self {
        assert_eq!(
            tulle_linux::process::effective_user(),
            0,
            "these tests make network namespaces: run them as root"
        );
        let mut mesh = Self {
            node: NetNs::create().unwrap(),
            control: None,
            pods: Arc::default(),
            proxy: None,
            directory: tempfile::tempdir().unwrap(),
            enrolled: Vec::new(),
            next: 1,
        };
        mesh.node
            .enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
            .unwrap()
            .unwrap();
        std::fs::write(mesh.directory.path().join("token"), "test-token").unwrap();
        // The first pod of a test may be the resolver.
        std::fs::write(mesh.resolv_conf(), "nameserver 10.77.1.2\n").unwrap();
        mesh.start_control();
        mesh.start_proxy();
        mesh
    }

    pub(crate) fn control(&self) -> &Control {
        self.control.as_ref().unwrap()
    }

    pub(crate) fn start_control(&mut self) {
        let listener = self
            .node
            .enter(|| TcpListener::bind("127.0.0.1:15010"))
            .unwrap()
            .unwrap();
        self.control = Some(Control::start(listener, self.socket(), &self.pods));
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("zds.sock")
    }

    pub(crate) fn start_proxy(&mut self) {
        let mut command = self.command();
        self.proxy = Some(self.node.enter(|| command.spawn()).unwrap().unwrap());
    }

    fn command(&self) -> Command {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = Command::new(this_program());
        command
            .args(["--exact", "role", "--nocapture"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env(ROLE, "keeper")
            .env("XDS_ADDRESS", "http://127.0.0.1:15010")
            .env("CA_ADDRESS", "http://127.0.0.1:15010")
            .env("AUTH_TOKEN", self.directory.path().join("token"))
            .env("INPOD_UDS", self.socket())
            .env("ZTUNNEL_WORKER_THREADS", "2")
            .env("CONNECTION_TERMINATION_DEADLINE", "20s")
            .env("RUST_LOG", "info,tulle_ztunnel=debug")
            .env("POD_NAME", "ztunnel-x")
            .env("POD_NAMESPACE", "istio-system")
            .env("NODE_NAME", "node-1")
            .env("INSTANCE_IP", "127.0.0.1")
            .env("TULLE_RESOLV_CONF", self.resolv_conf())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    fn resolv_conf(&self) -> PathBuf {
        self.directory.path().join("resolv.conf")
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
            assert!(
                Instant::now() < deadline,
                "not seen: {what}\n--- log of the proxy:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A namespace with a cable to the node. Not in the mesh yet.
    pub(crate) fn pod(&mut self, name: &str) -> Pod {
        let n = self.next;
        self.next += 1;
        let netns = NetNs::create().unwrap();
        let path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            std::os::fd::AsFd::as_fd(&netns.fd()).as_raw_fd()
        );
        let ip = format!("10.77.{n}.2");
        run_in(
            &self.node,
            &format!("ip link add veth{n} type veth peer name eth0 netns {path}"),
        );
        run_in(
            &self.node,
            &format!("ip addr add 10.77.{n}.1/24 dev veth{n}"),
        );
        run_in(&self.node, &format!("ip link set veth{n} up"));
        run_in(&netns, &format!("ip addr add {ip}/24 dev eth0"));
        run_in(&netns, "ip link set eth0 up");
        run_in(&netns, &format!("ip route add default via 10.77.{n}.1"));
        Pod {
            name: name.to_owned(),
            netns,
            ip: ip.parse().unwrap(),
        }
    }

    /// Puts a pod into the mesh as the node agent and the control plane do: proxy, rules, then the news that it has a tunnel.
    /// Waits until the proxy knows: connections before that are, rightly, not in the tunnel.
    pub(crate) fn enrol(&mut self, pod: &Pod) {
        self.enrolled.push(workload(pod));
        redirect::prepare(&pod.netns, "/proc/sys".as_ref()).unwrap();
        self.control().put_workload(&outside(pod));
        assert_eq!(self.control().add(told(pod)), "");
        redirect::install(&pod.netns, &Redirect::default()).unwrap();
        self.control().put_workload(&workload(pod));
        self.eventually("news of the tunnel", || {
            let dump: serde_json::Value =
                serde_json::from_str(&self.page(15000, "/config_dump")).unwrap();
            let mut known = dump["workloads"].as_array().into_iter().flatten();
            known.find_map(|w| (w["name"] == *pod.name && w["protocol"] == "HBONE").then_some(()))
        });
    }

    /// Takes it out again: no capture, the news, time for peers to hear it, then the proxy and the rest of the rules.
    pub(crate) fn leave(&mut self, pod: &Pod) {
        redirect::stop_capture(&pod.netns).unwrap();
        self.control().put_workload(&outside(pod));
        std::thread::sleep(Duration::from_millis(1000));
        assert_eq!(self.control().delete(&told(pod).uid), "");
        redirect::remove(&pod.netns).unwrap();
    }

    pub(crate) fn keeper(&self) -> u32 {
        self.proxy.as_ref().unwrap().id()
    }

    /// The worker process now.
    pub(crate) fn worker(&self) -> u32 {
        let tasks = format!("/proc/{}/task", self.keeper());
        self.eventually("a worker process", || {
            // The keeper runs on one of the test program's threads.
            let threads = std::fs::read_dir(&tasks).ok()?.flatten();
            let children =
                threads.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok());
            children
                .collect::<String>()
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
    }

    pub(crate) fn signal(&self, pid: u32, signal: &str) {
        assert!(
            Command::new("kill")
                .arg(signal)
                .arg(pid.to_string())
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut proxy = self.proxy.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = proxy.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the proxy does not end\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// An admin page: the body.
    pub(crate) fn page(&self, port: u16, path: &str) -> String {
        let mut stream = self
            .node
            .enter(|| TcpStream::connect(("127.0.0.1", port)))
            .unwrap()
            .unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    pub(crate) fn ready(&self) {
        self.eventually("readiness", || {
            let mut stream = self
                .node
                .enter(|| TcpStream::connect(("127.0.0.1", 15021)))
                .unwrap()
                .ok()?;
            write!(
                stream,
                "GET /healthz/ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
            )
            .ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.1 200 ").then_some(())
        });
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some(mut proxy) = self.proxy.take() {
            // Its worker dies with it.
            let _ = proxy.kill();
            let _ = proxy.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the proxy:\n{}", self.log());
        }
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

pub(crate) fn told(pod: &Pod) -> Told {
    Told {
        uid: format!("uid-{}", pod.name),
        name: pod.name.clone(),
        service_account: pod.name.clone(),
        netns: pod.netns.clone(),
    }
}

pub(crate) fn workload(pod: &Pod) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/default/{}", pod.name).into(),
        name: pod.name.as_str().into(),
        namespace: "default".into(),
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

/// The same before the pod is in the mesh.
pub(crate) fn outside(pod: &Pod) -> Workload {
    Workload {
        tunnel: Tunnel::None,
        ..workload(pod)
    }
}

/// Talks all the time, on a thread; returns how often it went well, and what did not.
pub(crate) struct Talking {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<(usize, Vec<String>)>,
}

impl Talking {
    pub(crate) fn start(netns: &NetNs, to: SocketAddr) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (told, netns) = (stop.clone(), netns.clone());
        let thread = std::thread::spawn(move || {
            let (mut good, mut bad) = (0, Vec::new());
            while !told.load(std::sync::atomic::Ordering::Relaxed) {
                match talk(&netns, to) {
                    Ok(_) => good += 1,
                    Err(error) => bad.push(error.to_string()),
                }
            }
            (good, bad)
        });
        Self { stop, thread }
    }

    pub(crate) fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A service with one address; port 80 leads to `target`.
pub(crate) fn service(name: &str, vip: &str, target: u16) -> Service {
    Service {
        name: name.into(),
        namespace: "default".into(),
        hostname: format!("{name}.default.svc.cluster.local").into(),
        addresses: vec![NetworkAddress::host("".into(), vip.parse().unwrap())],
        ports: vec![port(target)],
        subject_alt_names: Vec::new(),
        waypoint: None,
        waypoint_use: Default::default(),
        load_balancing: LoadBalancing::default(),
        canonical: true,
        families: Default::default(),
        visibility: Default::default(),
    }
}

pub(crate) fn port(target: u16) -> Port {
    Port {
        service_port: 80,
        target_port: target,
        protocol: tulle_model::AppProtocol::Unknown,
    }
}

/// An application that tells each client its address, then echoes. Ends with this process.
pub(crate) fn application(netns: &NetNs, port: u16) {
    let listener = netns
        .enter(|| TcpListener::bind(("0.0.0.0", port)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                // A client may be gone already.
                let Ok(peer) = stream.peer_addr() else { return };
                if writeln!(stream, "{}", peer.ip()).is_err() {
                    return;
                }
                let mut buffer = [0; 65536];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Connects from inside a namespace.
pub(crate) fn connect(netns: &NetNs, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = netns
        .enter(|| TcpStream::connect_timeout(&to, PATIENCE))
        .unwrap()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects, takes the application's greeting (the client's address as it sees it) and has something echoed.
pub(crate) fn talk(netns: &NetNs, to: SocketAddr) -> std::io::Result<String> {
    let mut stream = connect(netns, to)?;
    let greeting = greeting(&mut stream)?;
    echo(&mut stream, b"marker")?;
    Ok(greeting)
}

pub(crate) fn greeting(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        if byte[0] == b'\n' {
            return Ok(String::from_utf8(line).unwrap());
        }
        line.push(byte[0]);
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

pub(crate) fn echo(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, text);
    Ok(())
}

/// Whether a connection ends in a reset, as opposed to an orderly end or an answer.
pub(crate) fn is_reset(netns: &NetNs, to: SocketAddr) -> bool {
    match talk(netns, to) {
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        Ok(_) => false,
    }
}

/// A second proxy for the same pods, as in a rolling restart.
pub(crate) struct Surge {
    node: NetNs,
    proxy: Child,
    _control: Control,
}

impl Mesh {
    /// Starts a second proxy with a node namespace and a control plane of its own, for the same pods.
    pub(crate) fn surge(&mut self) -> Surge {
        let node = NetNs::create().unwrap();
        let listener = node
            .enter(|| TcpListener::bind("127.0.0.1:15010"))
            .unwrap()
            .unwrap();
        let socket = self.directory.path().join("surge.sock");
        let control = Control::start(listener, socket.clone(), &self.pods);
        for pod in self.pods.lock().unwrap().values() {
            let known = self.enrolled.iter().find(|w| *w.name == *pod.name).unwrap();
            control.put_workload(known);
        }
        let mut command = self.command();
        command.env("INPOD_UDS", socket);
        let proxy = node.enter(|| command.spawn()).unwrap().unwrap();
        Surge {
            node,
            proxy,
            _control: control,
        }
    }
}

impl Surge {
    /// Waits until it serves all pods.
    pub(crate) fn serving(&mut self, mesh: &Mesh) {
        mesh.eventually("readiness of the second proxy", || {
            let mut stream = self
                .node
                .enter(|| TcpStream::connect(("127.0.0.1", 15021)))
                .unwrap()
                .ok()?;
            write!(
                stream,
                "GET /healthz/ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
            )
            .ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.1 200 ").then_some(())
        });
    }

    pub(crate) fn end(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

impl Drop for Surge {
    fn drop(&mut self) {
        self.end();
    }
}
