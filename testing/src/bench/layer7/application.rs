//! The application behind the proxies, in clear and behind HBONE; and connections of clients.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use tokio::task::LocalSet;
use tulle_hbone::{Connect, Settings, client};
use tulle_http::BoxIo;
use tulle_identity::Epoch;
use tulle_linux::NetNs;
use tulle_model::Identity;

use super::control::epoch;
use super::mesh::{self, Kind, PORT_APPLICATION, PORT_GATEWAY};
use super::world::Place;
use crate::load::requests;

/// Port of HBONE.
const PORT_HBONE: u16 = 15008;

/// Answers for as long as this process lives, each way on a thread of its own.
pub(super) fn start(place: &Place) -> Result<()> {
    let clear = listen(&place.netns, PORT_APPLICATION)?;
    run(move || in_clear(clear))?;
    let tunnels = listen(&place.netns, PORT_HBONE)?;
    let epoch = epoch(&mesh::identity("server"))?;
    run(move || in_tunnels(tunnels, epoch))
}

fn listen(netns: &NetNs, port: u16) -> Result<TcpListener> {
    let listener = netns.enter(|| TcpListener::bind(("0.0.0.0", port)))??;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn run<F>(make: impl FnOnce() -> F + Send + 'static) -> Result<()>
where
    F: Future<Output = Result<()>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        let serving = async { make().await };
        if let Err(error) = runtime.block_on(LocalSet::new().run_until(serving)) {
            // Then the measurement fails and says what it saw.
            complain(&error);
        }
    });
    Ok(())
}

fn complain(error: &anyhow::Error) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "the application ended: {error:#}");
}

async fn in_clear(listener: TcpListener) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        // What the client sees is the outcome.
        tokio::task::spawn_local(async move { requests::answer(tcp).await.ok() });
    }
}

async fn in_tunnels(listener: TcpListener, epoch: Epoch) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let settings = Settings::default();
        let accepted = tulle_hbone::server::accept(tcp, &epoch.server, &settings).await;
        let Ok(mut tunnel) = accepted else { continue };
        tokio::task::spawn_local(async move {
            while let Some(request) = tunnel.next().await {
                let io = request.accept(None).into_local();
                tokio::task::spawn_local(async move { requests::answer(io).await.ok() });
            }
        });
    }
}

/// Connections of a client to a proxy.
pub(super) struct Connections {
    pub(super) all: Vec<BoxIo>,
    /// That they are in.
    _tunnel: Option<client::Tunnel>,
}

/// Opens as many: to a gateway each by itself, to a waypoint all in one tunnel. On a worker (a `LocalSet`).
pub(super) async fn connect(
    from: &Place,
    to: &Place,
    kind: Kind,
    count: usize,
) -> Result<Connections> {
    let mut all: Vec<BoxIo> = Vec::with_capacity(count);
    if kind == Kind::Gateway {
        for _ in 0..count {
            all.push(Box::new(dial(from, to, PORT_GATEWAY)?));
        }
        return Ok(Connections { all, _tunnel: None });
    }
    let tcp = dial(from, to, PORT_HBONE)?;
    let own = epoch(&mesh::identity("client"))?;
    let expected: Arc<[Identity]> = [mesh::identity("proxy")].into();
    let settings = Settings::default();
    let tunnel = client::connect(tcp, &own.client, expected, &settings).await?;
    let request = Connect {
        authority: mesh::authority(),
        baggage: None,
        forwarded: None,
        traceparent: None,
    };
    for _ in 0..count {
        let opened = tunnel.open(&request).await;
        let opened = opened.map_err(|error| anyhow!("CONNECT: {error}"))?;
        all.push(Box::new(opened.stream.into_local()));
    }
    Ok(Connections {
        all,
        _tunnel: Some(tunnel),
    })
}

fn dial(from: &Place, to: &Place, port: u16) -> Result<tokio::net::TcpStream> {
    let to = SocketAddr::new(to.ip, port);
    let tcp = from.netns.enter(|| TcpStream::connect(to))??;
    tcp.set_nodelay(true)?;
    tcp.set_nonblocking(true)?;
    Ok(tokio::net::TcpStream::from_std(tcp)?)
}
