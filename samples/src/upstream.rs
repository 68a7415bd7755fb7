//! Calls from one sample to another.
//!
//! Each call opens a connection of its own, as upstream's samples do: load spreads over all replicas, and every
//! call shows as one connection in the mesh's logs.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::app::{Request, Settings};
use crate::limits::{MAX_BODY, UPSTREAM_DEADLINE};

/// Headers that a service hands on, so that traces, request ids and users survive the hop.
const FORWARDED: &[&str] = &[
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "sw8",
    "end-user",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
];

/// Another sample's address.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    host: String,
    port: u16,
}

impl Upstream {
    /// `<NAME>_HOSTNAME`, `<NAME>_SERVICE_PORT` and `SERVICES_DOMAIN` as upstream reads them; else `name:9080`.
    ///
    /// A port that is no number is reported and the default taken: `<NAME>_SERVICE_PORT` is also a variable
    /// that Kubernetes itself sets for each Service.
    pub(crate) fn from_settings(name: &str, settings: &dyn Settings) -> Self {
        let upper = name.to_uppercase();
        let host = settings
            .get(&format!("{upper}_HOSTNAME"))
            .unwrap_or_else(|| name.to_owned());
        let host = match settings.get("SERVICES_DOMAIN") {
            Some(domain) => format!("{host}.{domain}"),
            None => host,
        };
        let variable = format!("{upper}_SERVICE_PORT");
        let port = settings.get(&variable).and_then(|text| {
            text.parse()
                .inspect_err(|_| eprintln!("sample: {variable}={text:?} is no port; using 9080"))
                .ok()
        });
        Upstream {
            host,
            port: port.unwrap_or(9080),
        }
    }

    /// The URL's beginning, for display.
    pub(crate) fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// GETs JSON, under a deadline. An answer other than 200, or none, is an [`Unavailable`].
    pub(crate) async fn get(&self, path: &str, headers: HeaderMap) -> Result<Value, Unavailable> {
        let call = self.call(path, headers);
        match tokio::time::timeout(UPSTREAM_DEADLINE, call).await {
            Ok(Ok((StatusCode::OK, body))) => serde_json::from_slice(&body)
                .map_err(|error| self.failed(path, StatusCode::INTERNAL_SERVER_ERROR, &error)),
            Ok(Ok((status, _))) => Err(self.failed(path, status, &"refused")),
            Ok(Err(error)) => Err(self.failed(path, StatusCode::INTERNAL_SERVER_ERROR, &error)),
            Err(_) => Err(self.failed(
                path,
                StatusCode::INTERNAL_SERVER_ERROR,
                &"no answer in time",
            )),
        }
    }

    async fn call(&self, path: &str, headers: HeaderMap) -> anyhow::Result<(StatusCode, Bytes)> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = http::Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = path.parse()?;
        *request.headers_mut() = headers;
        let authority = format!("{}:{}", self.host, self.port);
        request
            .headers_mut()
            .insert(header::HOST, authority.parse()?);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        drop(sender);
        connection.abort();
        Ok((status, body.map_err(anyhow::Error::from_boxed)?.to_bytes()))
    }

    fn failed(&self, path: &str, status: StatusCode, why: &dyn std::fmt::Display) -> Unavailable {
        eprintln!("sample: {}{path}: {status}: {why}", self.url());
        Unavailable { status }
    }
}

/// The other service did not answer well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unavailable {
    /// Its status, or 500 if there was no answer at all.
    pub(crate) status: StatusCode,
}

/// The headers of `request` that are handed on.
pub(crate) fn forwarded(request: &Request) -> HeaderMap {
    FORWARDED
        .iter()
        .flat_map(|name| {
            let name = HeaderName::from_static(name);
            request
                .headers
                .get_all(&name)
                .iter()
                .map(move |value| (name.clone(), value.clone()))
        })
        .collect()
}
