//! Conversations with other HTTP/2 implementations and with scripted peers, without TLS underneath.

mod interop;
mod life;
mod raw;

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tulle_model::Identity;

use super::{Core, Rest, Role};
use crate::client::Tunnel;
use crate::server::Connection;
use crate::transport::Transport;
use crate::{Connect, RelayEnd, Settings, Stream};

fn on_worker(test: impl Future<Output = ()>) {
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

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    let (near, (far, _)) = (near.unwrap(), far.unwrap());
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

fn begin(tcp: TcpStream, role: Role, settings: &Settings) -> Rc<Core> {
    let peer = Identity::new("cluster.local", "test", "peer");
    Core::begin(tcp, Transport::Plain, peer, Rest::default(), role, settings).unwrap()
}

/// A server of ours, and the socket that talks to it.
async fn our_server(settings: &Settings) -> (Connection, TcpStream) {
    let (near, far) = pair().await;
    (Connection::new(begin(near, Role::Server, settings)), far)
}

/// A client of ours, and the socket that talks to it.
async fn our_client(settings: &Settings) -> (Tunnel, TcpStream) {
    let (near, far) = pair().await;
    (Tunnel::new(begin(near, Role::Client, settings)), far)
}

fn connect_to(authority: &str) -> Connect {
    Connect {
        authority: authority.to_owned(),
        ..Connect::default()
    }
}

/// An application that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
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

/// Serves every request with an echo.
fn serve_echo(mut connection: Connection, at: SocketAddr) {
    tokio::task::spawn_local(async move {
        while let Some(request) = connection.next().await {
            let baggage = request.baggage.clone();
            let app = TcpStream::connect(at).await.unwrap();
            app.set_nodelay(true).unwrap();
            relay(request.accept(baggage.as_deref()), app);
        }
    });
}

fn relay(stream: Stream, app: TcpStream) -> tokio::task::JoinHandle<RelayEnd> {
    tokio::task::spawn_local(async move { stream.relay(app, &Rc::default(), pending()).await })
}

async fn send_and_receive(app: &mut TcpStream, message: &[u8]) {
    let (mut read, mut write) = app.split();
    let mut answer = vec![0; message.len()];
    let (sent, received) = tokio::join!(write.write_all(message), read.read_exact(&mut answer));
    sent.unwrap();
    received.unwrap();
    assert!(answer == message);
}
