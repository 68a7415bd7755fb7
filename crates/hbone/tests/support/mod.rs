//! Certificates, workers and applications for tests of real tunnels.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tulle_hbone::server::{self, Handle};
use tulle_hbone::{Connect, Counters, RelayEnd, Settings, Tunnel, client};
use tulle_identity::{Authority, CertificateRequest, Credentials, Epoch, IssuedPem, TlsSettings};
use tulle_model::Identity;

/// A certificate authority with two workloads.
pub(crate) struct Mesh {
    pub(crate) authority: Authority,
    pub(crate) client: Epoch,
    pub(crate) server: Epoch,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let authority = Authority::new_self_signed("cluster.local").unwrap();
        let client = epoch(&authority, "client");
        let server = epoch(&authority, "server");
        Self {
            authority,
            client,
            server,
        }
    }

    pub(crate) fn expected(&self) -> Arc<[Identity]> {
        Arc::from([self.server.identity.clone()])
    }
}

pub(crate) fn epoch(authority: &Authority, account: &str) -> Epoch {
    let identity = Identity::new(authority.trust_domain(), "test", account);
    let request = CertificateRequest::new(&identity).unwrap();
    let chain = authority
        .sign_workload(&request.csr_pem, &identity, None)
        .unwrap();
    let credentials = Credentials::assemble(&identity, request, &IssuedPem { chain }).unwrap();
    Epoch::new(credentials, TlsSettings::default()).unwrap()
}

/// Runs a test on a worker, under a deadline.
pub(crate) fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs");
    }));
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Connects a tunnel to `at`.
pub(crate) async fn tunnel(mesh: &Mesh, at: SocketAddr, settings: &Settings) -> Tunnel {
    let tcp = TcpStream::connect(at).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    client::connect(tcp, &mesh.client.client, mesh.expected(), settings)
        .await
        .unwrap()
}

/// A pair of connected sockets.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let (listener, at) = listen().await;
    let (near, far) = tokio::join!(TcpStream::connect(at), listener.accept());
    let (near, (far, _)) = (near.unwrap(), far.unwrap());
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// Serves tunnels: each request is connected to the address it names. Ends of relays go to `ends`.
pub(crate) fn serve(mesh: &Rc<Mesh>, listener: TcpListener, settings: Settings) -> Served {
    let served = Served::default();
    let (mesh, handles, ends) = (
        Rc::clone(mesh),
        Rc::clone(&served.handles),
        Rc::clone(&served.ends),
    );
    tokio::task::spawn_local(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let (mesh, settings) = (Rc::clone(&mesh), settings.clone());
            let (handles, ends) = (Rc::clone(&handles), Rc::clone(&ends));
            tokio::task::spawn_local(async move {
                let Ok(mut connection) = server::accept(tcp, &mesh.server.server, &settings).await
                else {
                    return;
                };
                assert_eq!(connection.peer(), &mesh.client.identity);
                handles.borrow_mut().push(connection.handle());
                while let Some(request) = connection.next().await {
                    let ends = Rc::clone(&ends);
                    tokio::task::spawn_local(async move {
                        let Ok(app) = TcpStream::connect(&request.authority).await else {
                            return request.refuse(503);
                        };
                        app.set_nodelay(true).unwrap();
                        let baggage = request.baggage.clone();
                        let stream = request.accept(baggage.as_deref());
                        let end = stream
                            .relay(app, &Rc::default(), std::future::pending())
                            .await;
                        ends.borrow_mut().push(end);
                    });
                }
            });
        }
    });
    served
}

#[derive(Default)]
pub(crate) struct Served {
    pub(crate) handles: Rc<std::cell::RefCell<Vec<Handle>>>,
    pub(crate) ends: Rc<std::cell::RefCell<Vec<RelayEnd>>>,
}

/// An application that sends back what it gets.
pub(crate) async fn echo() -> SocketAddr {
    let (listener, at) = listen().await;
    tokio::task::spawn_local(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                let (mut read, mut write) = tcp.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    at
}

pub(crate) fn connect_to(at: SocketAddr) -> Connect {
    Connect {
        authority: at.to_string(),
        ..Connect::default()
    }
}

/// A connection through `tunnel` to `to`: the application's end of it, and the relay.
pub(crate) async fn through(
    tunnel: &Tunnel,
    to: SocketAddr,
) -> (TcpStream, tokio::task::JoinHandle<RelayEnd>, Rc<Counters>) {
    let opened = tunnel.open(&connect_to(to)).await.unwrap();
    let (app, near) = pair().await;
    let counters = Rc::new(Counters::default());
    let counted = Rc::clone(&counters);
    let relay = tokio::task::spawn_local(async move {
        opened
            .stream
            .relay(near, &counted, std::future::pending())
            .await
    });
    (app, relay, counters)
}

pub(crate) async fn send_and_receive(app: &mut TcpStream, message: &[u8]) {
    app.write_all(message).await.unwrap();
    let mut answer = vec![0; message.len()];
    app.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, message);
}
