//! Connections to the ports of a gateway.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::net::TcpStream;
use tulle_identity::gateway::{
    Accepted, ClientCertificates, ClientHello, ServerTls, Settings, Version,
};
use tulle_linux::socket;
use tulle_route::canonical::sni;
use tulle_route::resource::{
    Certificate, ClientValidation, Gateway, Listener, Protocol, Termination, TlsVersion,
};

use crate::inbound::{Client, Via};
use crate::io::Io;
use crate::limits::{LISTENERS, TLS_DEADLINE};
use crate::sniff::{Spoken, sniff};
use crate::state::Snapshot;
use crate::worker::Worker;
use crate::{requests, stream};

/// One connection, from accept to end.
pub(crate) async fn serve(worker: Rc<Worker>, tcp: TcpStream, source: SocketAddr) {
    let began = Instant::now();
    let Ok(local) = tcp.local_addr().map(socket::unmap) else {
        return;
    };
    let seat = worker.shared.board.sit(worker.index);
    let source = socket::unmap(source);
    let snapshot = worker.shared.state.load();
    let port = local.port();
    let Some((gateway, first)) = on_port(&snapshot, port).next() else {
        return Io::from(tcp).reset();
    };
    let mut client = Client {
        source,
        // Policies and routes speak of the port that clients use.
        local: SocketAddr::new(local.ip(), first.service_port),
        peer: None,
        certificate: None,
        server_name: None,
        gateway: gateway_key(gateway),
        via: Via::Listener { port, tls: false },
    };
    let io = Io::from(tcp);
    match first.protocol {
        Protocol::Http => requests::serve(&worker, client, io).await,
        Protocol::Tcp => stream::serve(&worker, &client, io, began).await,
        Protocol::Hbone => io.reset(),
        Protocol::Https(_) | Protocol::Tls(_) | Protocol::Passthrough => {
            client.via = Via::Listener { port, tls: true };
            with_tls(&worker, &snapshot, client, io, began).await;
        }
    }
    drop(seat);
}

/// Listeners of ours on a port, with their Gateways.
fn on_port(snapshot: &Snapshot, port: u16) -> impl Iterator<Item = (&Arc<Gateway>, &Listener)> {
    snapshot.gateways.values().flat_map(move |gateway| {
        let listeners = gateway.listeners.iter().filter(move |l| l.port == port);
        listeners.map(move |listener| (gateway, listener))
    })
}

fn gateway_key(gateway: &Gateway) -> Arc<str> {
    format!("{}/{}", gateway.namespace, gateway.name).into()
}

/// The client's first message says which listener is meant.
async fn with_tls(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    mut client: Client,
    mut io: Io,
    began: Instant,
) {
    let hello = match sniff(&mut io, TLS_DEADLINE).await {
        Ok(Spoken::Tls(hello)) => hello,
        Ok(_) => {
            tracing::debug!(source = %client.source, "no TLS on a port for TLS");
            return io.reset();
        }
        Err(error) => {
            tracing::debug!(source = %client.source, %error, "a connection broke before its first byte");
            return;
        }
    };
    let name = hello.server_name.as_deref().and_then(|name| sni(name).ok());
    let port = match client.via {
        Via::Listener { port, .. } => port,
        Via::Waypoint(_) => return,
    };
    let found = snapshot
        .gateways
        .values()
        .find_map(|gateway| Some((gateway, gateway.listener_of_sni(port, name.as_deref())?)));
    let Some((gateway, listener)) = found else {
        tracing::debug!(source = %client.source, name = name.as_deref(), "no listener has this server name");
        return io.reset();
    };
    client.gateway = gateway_key(gateway);
    client.server_name = name.map(|name| name.as_ref().into());
    if listener.protocol == Protocol::Passthrough {
        return stream::serve(worker, &client, io, began).await;
    }
    let Some((io, accepted)) = terminate(worker, snapshot, listener, &client, io, &hello).await
    else {
        return;
    };
    client.certificate = accepted.certificate.map(Arc::new);
    if let Some(shown) = &client.certificate {
        client.peer.clone_from(&shown.identity);
    }
    match listener.protocol {
        Protocol::Https(_) => requests::serve(worker, client, io).await,
        _ => stream::serve(worker, &client, io, began).await,
    }
}

async fn terminate(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    listener: &Listener,
    client: &Client,
    io: Io,
    hello: &ClientHello,
) -> Option<(Io, Accepted)> {
    let tls = match worker
        .shared
        .listeners
        .get(snapshot, &client.gateway, listener)
    {
        Ok(tls) => tls,
        Err(error) => {
            tracing::warn!(listener = &*listener.name, %error, "a connection is refused");
            io.reset();
            return None;
        }
    };
    match tls.accept(io).await {
        Ok((stream, accepted)) => Some((stream.into(), accepted)),
        Err(error) => {
            tracing::debug!(source = %client.source, name = hello.server_name.as_deref(), %error, "TLS");
            None
        }
    }
}

/// TLS of listeners, made once of what it was made of.
#[derive(Debug, Default)]
pub(crate) struct ListenerTls(Mutex<HashMap<ListenerName, Made>>);

/// Gateway and section.
type ListenerName = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Made {
    listener: Listener,
    certificates: Vec<Arc<Certificate>>,
    tls: Result<ServerTls, Arc<str>>,
}

impl ListenerTls {
    fn get(
        &self,
        snapshot: &Snapshot,
        gateway: &Arc<str>,
        listener: &Listener,
    ) -> Result<ServerTls, Arc<str>> {
        let (Protocol::Https(termination) | Protocol::Tls(termination)) = &listener.protocol else {
            return Err("the listener does not end TLS".into());
        };
        let names = &termination.certificates;
        let found = names
            .iter()
            .filter_map(|name| snapshot.certificates.get(name));
        let certificates: Vec<Arc<Certificate>> = found.cloned().collect();
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (gateway.clone(), listener.name.clone());
        let same = |made: &&Made| {
            let pairs = || made.certificates.iter().zip(&certificates);
            made.listener == *listener
                && made.certificates.len() == certificates.len()
                && pairs().all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if let Some(made) = table.get(&key).filter(same) {
            return made.tls.clone();
        }
        if table.len() >= LISTENERS {
            table.clear();
        }
        let tls = make(termination, &certificates, &listener.protocol);
        let made = Made {
            listener: listener.clone(),
            certificates,
            tls: tls.clone(),
        };
        table.insert(key, made);
        tls
    }
}

fn make(
    termination: &Termination,
    certificates: &[Arc<Certificate>],
    protocol: &Protocol,
) -> Result<ServerTls, Arc<str>> {
    let version = |version| match version {
        TlsVersion::V1_2 => Version::V1_2,
        TlsVersion::V1_3 => Version::V1_3,
    };
    let settings = Settings {
        certificates: certificates.iter().map(|c| (&*c.chain, &*c.key)).collect(),
        clients: match &termination.client {
            ClientValidation::None => ClientCertificates::None,
            ClientValidation::Optional { roots } => ClientCertificates::Optional(roots.clone()),
            ClientValidation::Required { roots, names } => {
                ClientCertificates::Required(roots.clone(), names.clone())
            }
            ClientValidation::Unverified => ClientCertificates::Unverified,
        },
        minimum: version(termination.minimum),
        maximum: version(termination.maximum),
        alpn: match protocol {
            Protocol::Https(_) => &[b"h2", b"http/1.1"],
            _ => &[],
        },
    };
    ServerTls::new(&settings).map_err(|error| error.to_string().into())
}
