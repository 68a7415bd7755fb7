//! What a sample sees of a request, what it answers, and which sample it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use http_body_util::Full;
use serde_json::Value;
use tokio::net::TcpListener;
use tulle_identity::gateway::Accepted;

use crate::bookinfo::{Details, Productpage, Ratings, Reviews};
use crate::echo::Echo;
use crate::extauthz::ExtAuthz;
use crate::helloworld::Helloworld;
use crate::httpbin::Httpbin;
use crate::issuer::Issuer;
use crate::role::Role;

/// An answer; all of them are small enough to be kept whole.
pub type Reply = http::Response<Full<Bytes>>;

/// A request, read to its end.
#[derive(Debug)]
pub struct Request {
    /// GET, POST, ...
    pub method: Method,
    /// Path without query.
    pub path: String,
    /// Query without `?`; empty if there is none.
    pub query: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, bounded.
    pub body: Bytes,
    /// HTTP/1.1, HTTP/2.0.
    pub version: Version,
    /// The connection that it came on.
    pub from: Arc<Arrival>,
}

/// A connection, as far as it can be seen from here.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Who connected.
    pub peer: SocketAddr,
    /// What the handshake showed, if there was one.
    pub tls: Option<Accepted>,
}

impl Request {
    /// A GET for `path` without headers or body.
    pub fn get(path: &str) -> Self {
        Request {
            method: Method::GET,
            path: path.to_owned(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            version: Version::HTTP_11,
            from: Arc::new(Arrival {
                peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
                tls: None,
            }),
        }
    }

    /// The header's value if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Where a sample takes its settings from: the environment, or a test's table.
pub trait Settings {
    /// The value of a variable that is set and not empty.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process environment.
#[derive(Clone, Copy, Debug)]
pub struct Environment;

impl Settings for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

/// One sample, ready to answer.
#[derive(Clone)]
pub struct App(Arc<Sample>);

enum Sample {
    Productpage(Productpage),
    Details(Details),
    Reviews(Reviews),
    Ratings(Ratings),
    Httpbin(Httpbin),
    Helloworld(Helloworld),
    Echo(Echo),
    ExtAuthz(ExtAuthz),
    Issuer(Issuer),
}

impl App {
    /// The sample for `role`, with upstream's environment variables honoured.
    pub fn new(role: Role, settings: &dyn Settings) -> Self {
        App(Arc::new(match role {
            Role::Productpage => Sample::Productpage(Productpage::new(settings)),
            Role::Details => Sample::Details(Details),
            Role::Reviews => Sample::Reviews(Reviews::new(settings)),
            Role::Ratings => Sample::Ratings(Ratings::new(settings)),
            Role::Httpbin => Sample::Httpbin(Httpbin),
            Role::Helloworld => Sample::Helloworld(Helloworld::new(settings)),
            Role::Echo => Sample::Echo(Echo::new(settings)),
            Role::ExtAuthz => Sample::ExtAuthz(ExtAuthz::new(settings)),
            Role::Issuer => Sample::Issuer(Issuer::new(settings)),
        }))
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request) -> Reply {
        match &*self.0 {
            Sample::Productpage(app) => app.answer(&request).await,
            Sample::Details(app) => app.answer(&request),
            Sample::Reviews(app) => app.answer(&request).await,
            Sample::Ratings(app) => app.answer(&request).await,
            Sample::Httpbin(app) => app.answer(&request).await,
            Sample::Helloworld(app) => app.answer(&request),
            Sample::Echo(app) => app.answer(&request).await,
            Sample::ExtAuthz(app) => app.answer(&request),
            Sample::Issuer(app) => app.answer(&request),
        }
    }

    /// The echo of bytes, for ever; other samples have none.
    pub async fn bytes(&self, listener: TcpListener) {
        if let Some(echo) = self.echo() {
            echo.bytes(listener).await;
        }
    }

    /// The one that speaks more than requests and answers: WebSocket, gRPC, bytes.
    pub(crate) fn echo(&self) -> Option<&Echo> {
        match &*self.0 {
            Sample::Echo(app) => Some(app),
            _ => None,
        }
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &Value) -> Reply {
    reply(status, "application/json", value.to_string())
}

/// An answer of the given content type.
pub(crate) fn reply(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Reply {
    let mut reply = Reply::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// The answer to a path that the sample does not have.
pub(crate) fn not_found() -> Reply {
    reply(
        StatusCode::NOT_FOUND,
        "text/plain; charset=utf-8",
        "404 page not found\n",
    )
}

/// The pod's name: what Kubernetes sets as host name.
pub(crate) fn pod_name(settings: &dyn Settings) -> String {
    settings
        .get("HOSTNAME")
        .or_else(|| {
            Some(
                std::fs::read_to_string("/etc/hostname")
                    .ok()?
                    .trim()
                    .to_owned(),
            )
        })
        .unwrap_or_else(|| "unknown".to_owned())
}
