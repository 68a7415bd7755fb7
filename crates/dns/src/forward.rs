//! Forwarding: the query goes to a resolver as it came, and its answer comes back as it is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::error::ForwardError;
use crate::limits::{RESOLVER_DEADLINE, RESOLVERS, ROUNDS, STRAY_DATAGRAMS, UDP_MESSAGE};
use crate::message;
use crate::network::{Network, Transport};

/// Codes with which a resolver says that somebody else may know better.
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;
/// Port of every resolver in a `resolv.conf`.
const PORT: u16 = 53;

/// Whom to ask for what the mesh does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolvers {
    /// In the order in which they are asked.
    pub servers: Vec<SocketAddr>,
}

impl Resolvers {
    /// The resolvers of a `resolv.conf`; addresses with a zone, and what is no address, are left out.
    pub fn parse(text: &str) -> Self {
        let addresses = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then_some(())?;
            words.next()?.parse::<IpAddr>().ok()
        });
        let servers = addresses.map(|address| SocketAddr::new(address, PORT));
        Self {
            servers: servers.take(RESOLVERS).collect(),
        }
    }
}

/// Asks one resolver after the other. A failure that a resolver reports counts when no other knows better.
pub(crate) async fn forward(
    resolvers: &Resolvers,
    network: &impl Network,
    query: &[u8],
    transport: Transport,
) -> Result<Vec<u8>, ForwardError> {
    let mut failure = ForwardError::NoResolver;
    let mut reported = None;
    for _ in 0..ROUNDS {
        for server in &resolvers.servers {
            match ask(network, *server, query, transport).await {
                Ok(answer) if matches!(message::code(&answer), SERVER_FAILURE | REFUSED) => {
                    reported.get_or_insert(answer);
                }
                Ok(answer) => return Ok(answer),
                Err(error) => failure = error,
            }
        }
        if reported.is_some() {
            break;
        }
    }
    reported.ok_or(failure)
}

/// Asks one resolver, under an id that only it and we know.
async fn ask(
    network: &impl Network,
    server: SocketAddr,
    query: &[u8],
    transport: Transport,
) -> Result<Vec<u8>, ForwardError> {
    let mut own = query.to_vec();
    if let Some(id) = own.get_mut(..2) {
        id.copy_from_slice(&rand::random::<u16>().to_be_bytes());
    }
    let asking = async {
        match transport {
            Transport::Udp => {
                let socket = network.udp(server).map_err(|e| failed(server, e))?;
                over_udp(&socket, server, &own).await
            }
            Transport::Tcp => {
                let stream = network.tcp(server).await.map_err(|e| failed(server, e))?;
                over_tcp(stream, server, &own).await
            }
        }
    };
    let answered = tokio::time::timeout(RESOLVER_DEADLINE, asking).await;
    let mut answer = answered.map_err(|_| ForwardError::Silent {
        server,
        after: RESOLVER_DEADLINE,
    })??;
    if let (Some(to), Some(from)) = (answer.get_mut(..2), query.get(..2)) {
        to.copy_from_slice(from);
    }
    Ok(answer)
}

async fn over_udp(
    socket: &UdpSocket,
    server: SocketAddr,
    query: &[u8],
) -> Result<Vec<u8>, ForwardError> {
    let failed = |error| failed(server, error);
    socket.send(query).await.map_err(failed)?;
    // One byte more than we take shows that an answer is too long.
    let mut buffer = vec![0; UDP_MESSAGE + 1];
    for _ in 0..STRAY_DATAGRAMS {
        let length = socket.recv(&mut buffer).await.map_err(failed)?;
        let answer = buffer.get(..length).unwrap_or_default();
        if !message::answers(query, answer) {
            continue;
        }
        if length > UDP_MESSAGE {
            return Ok(message::cut_short(query));
        }
        buffer.truncate(length);
        return Ok(buffer);
    }
    Err(ForwardError::Nonsense { server })
}

async fn over_tcp(
    mut stream: TcpStream,
    server: SocketAddr,
    query: &[u8],
) -> Result<Vec<u8>, ForwardError> {
    let failed = |error| failed(server, error);
    write_message(&mut stream, query).await.map_err(failed)?;
    let length = stream.read_u16().await.map_err(failed)?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(failed)?;
    if message::answers(query, &answer) {
        Ok(answer)
    } else {
        Err(ForwardError::Nonsense { server })
    }
}

/// Length and message in one write, so that they travel together.
pub(crate) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    let framed = [length.to_be_bytes().as_slice(), message].concat();
    stream.write_all(&framed).await
}

fn failed(server: SocketAddr, error: std::io::Error) -> ForwardError {
    ForwardError::Io {
        server,
        error: Arc::new(error),
    }
}
