//! A client and a pod joined by a veth pair in namespaces without names, which vanish with their last descriptor, and
//! a proxy that does what the real one does with redirected connections.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tulle_api::contract::{MARK_PROXY, PORT_HBONE, PORT_INBOUND_PLAIN, PORT_OUTBOUND};
use tulle_linux::{NetNs, socket};

pub(crate) const CLIENT_V4: &str = "10.9.0.2";
pub(crate) const POD_V4: &str = "10.9.0.5";
pub(crate) const CLIENT_V6: &str = "fd00:9::2";
pub(crate) const POD_V6: &str = "fd00:9::5";
pub(crate) const APP: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Net {
    pub(crate) client: NetNs,
    pub(crate) pod: NetNs,
}

impl Net {
    pub(crate) fn up() -> Self {
        let net = Self {
            client: NetNs::create().unwrap(),
            pod: NetNs::create().unwrap(),
        };
        let pod = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            net.pod.fd().as_raw_fd()
        );
        ip(
            &net.client,
            &format!("link add eth0 type veth peer name eth0 netns {pod}"),
        );
        let ends = [
            (&net.client, CLIENT_V4, CLIENT_V6),
            (&net.pod, POD_V4, POD_V6),
        ];
        for (ns, v4, v6) in ends {
            ip(ns, &format!("addr add {v4}/24 dev eth0"));
            ip(ns, &format!("addr add {v6}/64 dev eth0 nodad"));
            ip(ns, "link set eth0 up");
        }
        ip(&net.pod, &format!("route add default via {CLIENT_V4}"));
        ip(&net.pod, &format!("-6 route add default via {CLIENT_V6}"));
        net
    }
}

pub(crate) fn ip(ns: &NetNs, arguments: &str) {
    run(ns, "ip", arguments);
}

pub(crate) fn nft(ns: &NetNs, arguments: &str) -> String {
    run(ns, "nft", arguments)
}

fn run(ns: &NetNs, program: &str, arguments: &str) -> String {
    let words = arguments.split_whitespace();
    let output = ns
        .enter(|| Command::new(program).args(words).output())
        .unwrap()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments}: {complaint}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Answers each connection with `name`, a blank and the peer's address, then echoes until the peer closes.
pub(crate) fn serve(ns: &NetNs, port: u16, name: &'static str) -> Arc<AtomicUsize> {
    let listener = socket::listen(ns, at("::", port)).unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    accept_forever(listener, move |mut stream, peer| {
        counter.fetch_add(1, Ordering::SeqCst);
        let _gone = writeln!(stream, "{name} {}", peer.ip().to_canonical());
        echo(stream);
    });
    seen
}

pub(crate) fn accept_forever(
    listener: TcpListener,
    handle: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
) {
    listener.set_nonblocking(false).unwrap();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        while let Ok((stream, peer)) = listener.accept() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let handle = handle.clone();
            std::thread::spawn(move || handle(stream, peer));
        }
    });
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 || stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// What the proxy saw: (port it came in at, original destination).
pub(crate) type Seen = Arc<Mutex<Vec<(u16, SocketAddr)>>>;

/// Inbound plaintext goes on to the application with the client's address; outbound and HBONE are answered.
pub(crate) fn proxy(pod: &NetNs) -> Seen {
    let seen = Seen::default();
    for port in [PORT_INBOUND_PLAIN, PORT_OUTBOUND, PORT_HBONE] {
        let listener = socket::listen(pod, at("::", port)).unwrap();
        let (seen, pod) = (seen.clone(), pod.clone());
        accept_forever(listener, move |mut stream, peer| {
            let original = socket::original_destination(&stream).unwrap();
            seen.lock().unwrap().push((port, original));
            if port == PORT_INBOUND_PLAIN {
                forward(&pod, stream, peer.ip().to_canonical(), original);
            } else {
                let _gone = writeln!(stream, "proxy {port} {original}");
                echo(stream);
            }
        });
    }
    seen
}

fn forward(pod: &NetNs, client: TcpStream, from: IpAddr, to: SocketAddr) {
    let raw = socket::dial_socket(pod, to.ip(), Some(from), MARK_PROXY).unwrap();
    let dialled = socket2::Socket::from(raw);
    dialled.set_nonblocking(false).unwrap();
    if dialled.connect_timeout(&to.into(), PATIENCE).is_err() {
        let _gone = socket::reset_on_close(&client);
        return;
    }
    let app = TcpStream::from(dialled);
    let (mut up, mut down) = (
        (client.try_clone().unwrap(), app.try_clone().unwrap()),
        (app, client),
    );
    std::thread::spawn(move || {
        let _ended = std::io::copy(&mut up.0, &mut up.1);
        let _gone = up.1.shutdown(Shutdown::Write);
    });
    let _ended = std::io::copy(&mut down.0, &mut down.1);
    let _gone = down.1.shutdown(Shutdown::Write);
}

/// A connection from `ns`, and the first line that the other end says.
pub(crate) struct Call {
    pub(crate) stream: TcpStream,
    pub(crate) greeting: String,
}

pub(crate) fn call(ns: &NetNs, to: SocketAddr) -> std::io::Result<Call> {
    call_from(ns, None, to)
}

pub(crate) fn call_from(ns: &NetNs, from: Option<&str>, to: SocketAddr) -> std::io::Result<Call> {
    greeting(ns.enter(|| open(from, to, PATIENCE)).unwrap()?)
}

/// Connects in the namespace that the thread is in.
pub(crate) fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    open(None, to, PATIENCE)
}

/// For a connection that is expected to be swallowed: does not wait for long.
pub(crate) fn connect_briefly(
    ns: &NetNs,
    from: &str,
    to: SocketAddr,
) -> std::io::Result<TcpStream> {
    ns.enter(|| open(Some(from), to, Duration::from_millis(500)))
        .unwrap()
}

fn open(from: Option<&str>, to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(to),
        socket2::Type::STREAM,
        None,
    )?;
    if let Some(from) = from {
        socket.bind(&at(from, 0).into())?;
    }
    socket.connect_timeout(&to.into(), patience)?;
    Ok(socket.into())
}

/// Reads the first line.
pub(crate) fn greeting(mut stream: TcpStream) -> std::io::Result<Call> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        greeting.push(byte[0]);
    }
    Ok(Call {
        stream,
        greeting: String::from_utf8_lossy(&greeting).into_owned(),
    })
}

impl Call {
    /// One message there and back.
    pub(crate) fn still_works(&mut self) -> bool {
        let mut back = [0; 4];
        self.stream.write_all(b"ping").is_ok()
            && self.stream.read_exact(&mut back).is_ok()
            && &back == b"ping"
    }
}
