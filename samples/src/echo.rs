//! The echo: says what arrived, in one JSON object, so that what proxies did on the way can be seen from outside.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tulle_identity::gateway::{ClientCertificates, ServerTls, Settings as Tls, Version};

use crate::app::{Reply, Request, Settings, json as json_reply, pod_name};
use crate::httpbin::form;
use crate::limits::{ACCEPT_PAUSE, MAX_COUNTED, MAX_DELAY};

/// The answer is that there is none: the connection breaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the request asked for a broken connection")
    }
}

impl std::error::Error for Dropped {}

/// Any path. The query asks for more: `status=503`, `delay=0.5` (seconds), `header=name:value`, `drop` (the connection), and
/// `fail=2&key=any`, which makes the first two requests with that key fail, and only those.
pub(crate) struct Echo {
    name: String,
    pod: String,
    failed: Mutex<HashMap<String, u32>>,
}

impl Echo {
    pub(crate) fn new(settings: &dyn Settings) -> Self {
        let pod = pod_name(settings);
        Self {
            name: settings.get("NAME").unwrap_or_else(|| pod.clone()),
            pod,
            failed: Mutex::default(),
        }
    }

    pub(crate) async fn answer(&self, request: &Request) -> Reply {
        eprintln!("{} {}", request.method, request.path);
        let wishes = form(&request.query);
        let wish = |name: &str| wishes[name][0].as_str();
        let times = wish("fail").and_then(|text| text.parse().ok());
        let fails = times.map(|times| self.fails(wish("key").unwrap_or_default(), times));
        let delay = wish("delay").and_then(|text| text.parse::<f64>().ok());
        if let Some(delay) = delay.filter(|_| fails != Some(false)) {
            let delay = Duration::try_from_secs_f64(delay).unwrap_or_default();
            tokio::time::sleep(delay.min(MAX_DELAY)).await;
        }
        let asked = wish("status").and_then(|text| text.parse().ok());
        let asked = asked.and_then(|code: u16| StatusCode::from_u16(code).ok());
        let asked = asked.filter(|code| !code.is_informational());
        let status = match fails {
            None => asked.unwrap_or(StatusCode::OK),
            Some(true) => asked.unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            Some(false) => StatusCode::OK,
        };
        let mut reply = json_reply(status, &self.seen(request));
        for header in wishes["header"].as_array().into_iter().flatten() {
            let pair = header.as_str().and_then(|text| text.split_once(':'));
            let pair = pair.and_then(|(name, value)| {
                let name: HeaderName = name.parse().ok()?;
                Some((name, HeaderValue::from_str(value).ok()?))
            });
            if let Some((name, value)) = pair {
                reply.headers_mut().append(name, value);
            }
        }
        if fails != Some(false) && !wishes["drop"].is_null() {
            reply.extensions_mut().insert(Dropped);
        }
        reply
    }

    /// Whether this is one of the first `times` requests with `key`.
    fn fails(&self, key: &str, times: u32) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= MAX_COUNTED {
            failed.clear();
        }
        let count = failed.entry(key.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count <= times
    }

    fn seen(&self, request: &Request) -> Value {
        let mut headers = BTreeMap::<&str, Vec<String>>::new();
        for (name, value) in &request.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.entry(name.as_str()).or_default().push(value);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let tls = request.from.tls.as_ref().map(|shown| {
            json!({
                "serverName": shown.server_name.as_deref(),
                "alpn": shown.alpn.as_deref().map(text),
                "client": shown.certificate.as_ref().map(|of| json!({ "subject": of.subject, "uris": of.uris, "dns": of.dns })),
            })
        });
        json!({
            "name": self.name,
            "pod": self.pod,
            "protocol": format!("{:?}", request.version),
            "method": request.method.as_str(),
            "host": request.header("host"),
            "path": request.path,
            "query": request.query,
            "headers": headers,
            "body": text(&request.body),
            "tls": tls,
        })
    }

    /// Greets with the name, then gives back what comes, for ever.
    pub(crate) async fn bytes(&self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let greeting = format!("hello from {}\n", self.name);
                    tokio::spawn(async move {
                        // Whoever goes away early has had enough.
                        let _ = give_back(stream, &greeting).await;
                    });
                }
                Err(error) => {
                    eprintln!("sample: cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn give_back(mut stream: TcpStream, greeting: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(greeting.as_bytes()).await?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}

/// TLS with `tls.crt` and `tls.key` of a directory; clients may show a certificate, nobody checks it. `None` when there are no such
/// files: the Secret is optional.
pub fn tls(directory: &str) -> anyhow::Result<Option<ServerTls>> {
    let read = |name: &str| std::fs::read_to_string(format!("{directory}/{name}"));
    let (Ok(chain), Ok(key)) = (read("tls.crt"), read("tls.key")) else {
        return Ok(None);
    };
    let settings = Tls {
        certificates: vec![(&chain, &key)],
        clients: ClientCertificates::Unverified,
        minimum: Version::V1_2,
        maximum: Version::V1_3,
        alpn: &[b"h2", b"http/1.1"],
    };
    ServerTls::new(&settings)
        .map(Some)
        .with_context(|| format!("the certificate in {directory} cannot be used"))
}
