//! Where the control plane is, and how a connection to it is made and authenticated.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tulle_identity::grpc::ClientTls;

use crate::limits::{
    CONNECT_DEADLINE, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_ADDRESSES, MAX_FILE,
};

/// Where roots come from. Files are read again at each connection, so that a new bundle needs no restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// A mounted PEM file.
    File(PathBuf),
    /// PEM.
    Inline(String),
}

/// A control plane, and what we show to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://host:port`; `http://` is plaintext, for tests and port 15010.
    pub address: String,
    /// What its certificate is checked against.
    pub roots: RootSource,
    /// The name in its certificate, when it is not the host of the address (`ALT_XDS_HOSTNAME`, `ALT_CA_HOSTNAME`).
    pub server_name: Option<String>,
    /// A file with the bearer token; read again for every connection and every call.
    pub token: Option<PathBuf>,
    /// Sent as `clusterid`; empty sends none.
    pub cluster_id: String,
    /// Further headers (`XDS_HEADER_*`, `CA_HEADER_*`).
    pub headers: Vec<(String, String)>,
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not usable. Our configuration is at fault.
    #[error("{0:?} is not of the form https://host:port")]
    Address(String),
    /// A file that we need.
    #[error("cannot read {what} {}: {error}", path.display())]
    File {
        /// Its role.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The roots cannot be used.
    #[error("the roots for the control plane: {0}")]
    Roots(#[from] tulle_identity::TlsError),
    /// The name does not resolve.
    #[error("cannot resolve its name: {0}")]
    Resolve(io::Error),
    /// No address answers.
    #[error("cannot connect to {address}: {error}")]
    Tcp {
        /// The last one tried.
        address: String,
        /// What happened.
        error: io::Error,
    },
    /// The server is not who it should be, or does not speak TLS.
    #[error(transparent)]
    Tls(#[from] tulle_identity::grpc::HandshakeError),
    /// A header cannot be sent.
    #[error("header {0:?} has a name or value that HTTP cannot carry")]
    Header(String),
    /// HTTP/2 did not start.
    #[error("{0}")]
    Http2(String),
}

/// Either kind of connection.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Endpoint {
    /// `host:port`, as error texts name it.
    pub fn authority(&self) -> &str {
        let rest = self.address.split_once("://").map_or("", |(_, rest)| rest);
        rest.trim_end_matches('/')
    }

    /// Connects, and checks who answers.
    pub(crate) async fn connect(&self) -> Result<Channel, ConnectError> {
        let io = self.secured().await?;
        let uri = format!("http://{}", self.authority());
        let endpoint = tonic::transport::Endpoint::from_shared(uri)
            .map_err(|_| ConnectError::Address(self.address.clone()))?
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .buffer_size(16);
        // The connection exists already: the connector hands it out once, and a lost one is ours to notice.
        let once = Mutex::new(Some(TokioIo::new(io)));
        let connector = tower::service_fn(move |_| {
            let io = once.lock().ok().and_then(|mut io| io.take());
            std::future::ready(io.ok_or_else(|| io::Error::other("connection lost")))
        });
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| ConnectError::Http2(causes(&error)))
    }

    async fn secured(&self) -> Result<Box<dyn Io>, ConnectError> {
        let bad = || ConnectError::Address(self.address.clone());
        let (scheme, _) = self.address.split_once("://").ok_or_else(bad)?;
        let (host, port) = self.authority().rsplit_once(':').ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port: u16 = port.parse().map_err(|_| bad())?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(bad()),
        };
        // Before the network: a missing file is the clearer error.
        let tls = match secure {
            true => Some(ClientTls::new(&self.roots.read().await?)?),
            false => None,
        };
        let tcp = dial(host, port).await?;
        match tls {
            None => Ok(Box::new(tcp)),
            Some(tls) => {
                let name = self.server_name.as_deref().unwrap_or(host);
                Ok(Box::new(tls.connect(name, tcp).await?))
            }
        }
    }

    /// The headers of a call, with a token that is read now.
    pub(crate) async fn metadata(&self) -> Result<MetadataMap, ConnectError> {
        let mut map = MetadataMap::new();
        if let Some(path) = &self.token {
            let token = read_file("the token", path).await?;
            let value = format!("Bearer {}", token.trim());
            insert(&mut map, "authorization", &value)?;
        }
        if !self.cluster_id.is_empty() {
            insert(&mut map, "clusterid", &self.cluster_id)?;
        }
        for (name, value) in &self.headers {
            insert(&mut map, name, value)?;
        }
        Ok(map)
    }
}

impl RootSource {
    async fn read(&self) -> Result<String, ConnectError> {
        match self {
            Self::Inline(pem) => Ok(pem.clone()),
            Self::File(path) => read_file("the root certificates", path).await,
        }
    }
}

fn insert(map: &mut MetadataMap, name: &str, value: &str) -> Result<(), ConnectError> {
    let refuse = || ConnectError::Header(name.to_owned());
    let key: MetadataKey<Ascii> = name.to_ascii_lowercase().parse().map_err(|_| refuse())?;
    let mut value: MetadataValue<Ascii> = value.parse().map_err(|_| refuse())?;
    value.set_sensitive(name == "authorization");
    map.insert(key, value);
    Ok(())
}

async fn read_file(what: &'static str, path: &Path) -> Result<String, ConnectError> {
    let read = async {
        let mut text = String::new();
        let file = tokio::fs::File::open(path).await?;
        file.take(MAX_FILE).read_to_string(&mut text).await?;
        Ok(text)
    };
    read.await.map_err(|error| ConnectError::File {
        what,
        path: path.to_owned(),
        error,
    })
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let late = |what: &str| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{what} within {}", seconds(CONNECT_DEADLINE)),
        )
    };
    let addresses = timeout(CONNECT_DEADLINE, lookup_host((host, port)))
        .await
        .unwrap_or_else(|_| Err(late("no answer")))
        .map_err(ConnectError::Resolve)?;
    let mut last = ConnectError::Resolve(io::Error::other("the name has no address"));
    for address in addresses.take(MAX_ADDRESSES) {
        let tried = timeout(CONNECT_DEADLINE, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(late("no connection")));
        match tried {
            Ok(stream) => {
                // Small messages both ways; a socket that refuses the option still works.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                last = ConnectError::Tcp {
                    address: address.to_string(),
                    error,
                };
            }
        }
    }
    Err(last)
}

fn seconds(duration: Duration) -> impl fmt::Display {
    format!("{} s", duration.as_secs())
}

/// An error with its causes, each said once.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
