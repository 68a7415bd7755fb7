//! The DNS server of one pod.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;
use tulle_model::{Mesh, Workload};

use crate::forward::{Resolvers, forward, write_message};
use crate::limits::{
    ANSWERS, LAST_ANSWERS, QUERIES_AT_ONCE, SOCKET_PAUSE, TCP_CONNECTIONS, TCP_IDLE,
    TCP_MESSAGE_DEADLINE, UDP_MESSAGE,
};
use crate::message::{Asked, Incoming, incoming};
use crate::metrics::{Labels, Metrics};
use crate::names::{Known, Zone};
use crate::network::{Network, Transport};

/// Whose queries a server answers.
pub trait Client: Network {
    /// The pod's workload; waits a moment for one that the mesh does not know yet.
    fn workload(&self) -> impl Future<Output = Option<Arc<Workload>>>;

    /// The mesh as it is now.
    fn with_mesh<T>(&self, look: impl FnOnce(&Mesh) -> T) -> T;
}

/// The DNS server of one pod. Lives on one worker.
#[derive(Debug)]
pub struct Server<C> {
    client: C,
    zone: Zone,
    resolvers: Resolvers,
    metrics: Metrics,
    queries: Cell<usize>,
    connections: Cell<usize>,
}

/// Counts itself for as long as it lives.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn below(limit: usize, count: &'a Cell<usize>) -> Option<Self> {
        (count.get() < limit).then(|| {
            count.set(count.get() + 1);
            Self(count)
        })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<C: Client + 'static> Server<C> {
    /// A server that is not serving yet.
    pub fn new(client: C, zone: Zone, resolvers: Resolvers, metrics: Metrics) -> Rc<Self> {
        Rc::new(Self {
            client,
            zone,
            resolvers,
            metrics,
            queries: Cell::default(),
            connections: Cell::default(),
        })
    }

    /// Answers datagrams until `end`, then those that wait already. Must be called on a `LocalSet`.
    pub async fn serve_udp(self: Rc<Self>, socket: UdpSocket, end: impl Future<Output = ()>) {
        let socket = Rc::new(socket);
        tokio::pin!(end);
        let mut buffer = vec![0; UDP_MESSAGE];
        loop {
            let received = tokio::select! {
                biased;
                () = &mut end => break,
                received = socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((length, from)) => self.datagram(&socket, buffer.get(..length), from),
                Err(error) => {
                    tracing::debug!(%error, "a DNS socket");
                    tokio::time::sleep(SOCKET_PAUSE).await;
                }
            }
        }
        self.last_datagrams(&socket, &mut buffer).await;
    }

    /// Another process may be listening already: nothing that came to us is lost on the way there.
    async fn last_datagrams(self: &Rc<Self>, socket: &Rc<UdpSocket>, buffer: &mut [u8]) {
        let deadline = Instant::now() + LAST_ANSWERS;
        for _ in 0..QUERIES_AT_ONCE {
            // Not `try_recv_from`: what nobody has waited for yet it does not see.
            match timeout(SOCKET_PAUSE, socket.recv_from(buffer)).await {
                Ok(Ok((length, from))) => self.datagram(socket, buffer.get(..length), from),
                Ok(Err(_)) => return,
                // Nothing more comes; what is being answered still needs the socket.
                Err(_) if Rc::strong_count(socket) == 1 => return,
                Err(_) => {}
            }
            if Instant::now() > deadline {
                return;
            }
        }
    }

    fn datagram(self: &Rc<Self>, socket: &Rc<UdpSocket>, query: Option<&[u8]>, from: SocketAddr) {
        let Some(query) = query.map(<[u8]>::to_vec) else {
            return;
        };
        let (server, socket) = (self.clone(), socket.clone());
        tokio::task::spawn_local(async move {
            if let Some(answer) = server.handle(&query, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, from).await
            {
                tracing::debug!(%error, %from, "an answer over UDP");
            }
        });
    }

    /// Serves connections until `end`. Must be called on a `LocalSet`.
    pub async fn serve_tcp(self: Rc<Self>, listener: TcpListener, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut end => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    let server = self.clone();
                    tokio::task::spawn_local(async move { server.connection(stream, from).await });
                }
                Err(error) => {
                    tracing::debug!(%error, "a DNS listener");
                    tokio::time::sleep(SOCKET_PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, mut stream: TcpStream, from: SocketAddr) {
        let Some(_counted) = Counted::below(TCP_CONNECTIONS, &self.connections) else {
            tracing::debug!(%from, "closed: the pod has all the DNS connections that it may have");
            return;
        };
        if let Err(error) = self.messages(&mut stream).await {
            tracing::debug!(%error, %from, "a DNS connection");
        }
    }

    /// One query after the other, until the client has no more.
    async fn messages(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        loop {
            let length = match timeout(TCP_IDLE, stream.read_u16()).await {
                Ok(Ok(length)) => length,
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(()),
            };
            let mut query = vec![0; usize::from(length)];
            timeout(TCP_MESSAGE_DEADLINE, stream.read_exact(&mut query)).await??;
            let Some(answer) = self.handle(&query, Transport::Tcp).await else {
                return Ok(());
            };
            timeout(TCP_MESSAGE_DEADLINE, write_message(stream, &answer)).await??;
        }
    }

    /// One query; `None` if it deserves no answer.
    async fn handle(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let asked = match incoming(query, transport) {
            Incoming::Query(asked) => asked,
            Incoming::Refused(answer) => return Some(answer),
            Incoming::Rubbish => return None,
        };
        let Some(_counted) = Counted::below(QUERIES_AT_ONCE, &self.queries) else {
            return Some(asked.failure());
        };
        let client = self.client.workload().await;
        self.metrics
            .request(Labels::of(&asked, transport, client.as_deref()));
        let Some(client) = client else {
            log(None, &asked, "unknown client", 0);
            return Some(asked.failure());
        };
        match self.known(&client, &asked) {
            Some(known) => Some(self.answer(&client, &asked, known)),
            None => Some(self.forward(&client, &asked, query, transport).await),
        }
    }

    fn known(&self, client: &Workload, asked: &Asked) -> Option<Known> {
        let (name, family) = (asked.name()?, asked.family()?);
        self.client
            .with_mesh(|mesh| self.zone.find(mesh, client, &name, family))
    }

    /// In another order each time: clients take the first.
    fn answer(&self, client: &Workload, asked: &Asked, mut known: Known) -> Vec<u8> {
        known.addresses.shuffle(&mut rand::rng());
        known.addresses.truncate(ANSWERS);
        let result = match known.addresses.is_empty() {
            true => "no records",
            false => "success",
        };
        log(Some(client), asked, result, known.addresses.len());
        asked.answer(known.alias.as_deref(), &known.addresses)
    }

    async fn forward(
        &self,
        client: &Workload,
        asked: &Asked,
        query: &[u8],
        transport: Transport,
    ) -> Vec<u8> {
        let began = Instant::now();
        let answered = forward(&self.resolvers, &self.client, query, transport).await;
        let took: Duration = began.elapsed();
        let labels = Labels::of(asked, transport, Some(client));
        self.metrics.forwarded(labels, took, answered.is_err());
        match answered {
            Ok(answer) => {
                log(Some(client), asked, "forwarded", 0);
                answer
            }
            Err(error) => {
                log(
                    Some(client),
                    asked,
                    &format!("forwarding failed ({error})"),
                    0,
                );
                asked.failure()
            }
        }
    }
}

fn log(client: Option<&Workload>, asked: &Asked, result: &str, endpoints: usize) {
    let workload = client.map_or("unknown", |c| &*c.name);
    let namespace = client.map_or("unknown", |c| &*c.namespace);
    let (query, domain) = (asked.type_label(), asked.name().unwrap_or_default());
    tracing::debug!(
        target: "dns",
        { src.workload = workload, src.namespace = namespace, query, domain, result, endpoints },
        "query"
    );
}
