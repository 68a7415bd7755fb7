//! How resolvers are reached.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpStream, UdpSocket};

/// How a query travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram there, one back.
    Udp,
    /// A stream of messages, each with its length.
    Tcp,
}

impl Transport {
    /// As metrics say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Sockets towards resolvers. Each query has one of its own: its port is part of what a forger would have to guess.
pub trait Network {
    /// A socket that is connected to `server`.
    ///
    /// # Errors
    /// As of opening and connecting.
    fn udp(&self, server: SocketAddr) -> io::Result<UdpSocket>;

    /// A connection to `server`. The caller keeps the time.
    fn tcp(&self, server: SocketAddr) -> impl Future<Output = io::Result<TcpStream>>;
}

/// The process's own network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnNetwork;

impl Network for OwnNetwork {
    fn udp(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }

    async fn tcp(&self, server: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(server).await
    }
}
