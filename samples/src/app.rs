//! What a sample sees of a request, what it answers, and which sample it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;

use crate::bookinfo::{Details, Productpage, Ratings, Reviews};
use crate::helloworld::Helloworld;
use crate::httpbin::Httpbin;
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
    /// Who sent it.
    pub peer: SocketAddr,
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
            peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
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
