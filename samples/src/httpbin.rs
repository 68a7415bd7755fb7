//! The httpbin sample: says what it received, in the JSON shape of go-httpbin.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use crate::app::{Reply, Request, json as json_reply, not_found, reply};
use crate::limits::{MAX_BYTES, MAX_DELAY};

/// `/get /post /put /patch /delete /anything /headers /ip /user-agent /uuid /status/N /delay/N /bytes/N`.
pub(crate) struct Httpbin;

const TEXT: &str = "text/plain; charset=utf-8";

impl Httpbin {
    pub(crate) async fn answer(&self, request: &Request) -> Reply {
        let mut segments = request.path.trim_start_matches('/').splitn(2, '/');
        let (first, rest) = (segments.next().unwrap_or_default(), segments.next());
        match (first, rest) {
            ("", None) => reply(StatusCode::OK, "text/html; charset=utf-8", INDEX),
            ("get" | "post" | "put" | "patch" | "delete", None) => only(first, request),
            ("anything", _) => ok(&echo(request)),
            ("headers", None) => ok(&json!({ "headers": headers(&request.headers) })),
            ("ip", None) => ok(&json!({ "origin": origin(request) })),
            ("user-agent", None) => ok(&json!({ "user-agent": request.header("user-agent") })),
            ("uuid", None) => uuid(),
            ("status", Some(code)) => status(code),
            ("delay", Some(seconds)) => delay(seconds, request).await,
            ("bytes", Some(count)) => bytes(count),
            _ => not_found(),
        }
    }
}

const INDEX: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>httpbin</title></head><body>\n\
<h1>httpbin</h1>\n<p>/get /post /put /patch /delete /anything /headers /ip /user-agent /uuid \
/status/N /delay/N /bytes/N</p>\n</body></html>\n";

fn ok(value: &Value) -> Reply {
    json_reply(StatusCode::OK, value)
}

/// The path names the one method it takes (`GET` brings `HEAD` along).
fn only(name: &str, request: &Request) -> Reply {
    let wanted = name.to_uppercase();
    let head = wanted == "GET" && request.method == Method::HEAD;
    if request.method.as_str() != wanted && !head {
        let text = format!("{} takes {wanted} only\n", request.path);
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
    }
    ok(&echo(request))
}

fn echo(request: &Request) -> Value {
    let host = request.header("host").unwrap_or("localhost");
    let query = if request.query.is_empty() {
        String::new()
    } else {
        format!("?{}", request.query)
    };
    let mut value = json!({
        "args": form(&request.query),
        "headers": headers(&request.headers),
        "method": request.method.as_str(),
        "origin": origin(request),
        "url": format!("http://{host}{}{query}", request.path),
    });
    if request.method != Method::GET && request.method != Method::HEAD {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let is_form = request
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        value["form"] = if is_form { form(&text) } else { json!({}) };
        value["json"] = serde_json::from_str(&text).unwrap_or(Value::Null);
        value["files"] = json!({});
        value["data"] = text.into();
    }
    value
}

/// Names in HTTP/1's usual spelling, each with the list of its values.
fn headers(headers: &HeaderMap) -> Value {
    let mut all = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        all.entry(spelled(name.as_str())).or_default().push(value);
    }
    json!(all)
}

fn spelled(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|c| {
            let c = if start { c.to_ascii_uppercase() } else { c };
            start = c == '-';
            c
        })
        .collect()
}

/// The client: the first of `X-Forwarded-For`, else the connection's peer.
fn origin(request: &Request) -> String {
    match request
        .header("x-forwarded-for")
        .and_then(|list| list.split(',').next())
    {
        Some(first) => first.trim().to_owned(),
        None => request.from.peer.ip().to_canonical().to_string(),
    }
}

/// `a=1&b=2` as an object of lists.
pub(crate) fn form(text: &str) -> Value {
    let mut all = BTreeMap::<String, Vec<String>>::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.entry(percent_decoded(name))
            .or_default()
            .push(percent_decoded(value));
    }
    json!(all)
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match (
            bytes[at],
            hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn uuid() -> Reply {
    match std::fs::read_to_string("/proc/sys/kernel/random/uuid") {
        Ok(text) => ok(&json!({ "uuid": text.trim() })),
        Err(error) => reply(
            StatusCode::INTERNAL_SERVER_ERROR,
            TEXT,
            format!("{error}\n"),
        ),
    }
}

fn status(code: &str) -> Reply {
    // 1xx are no final answers: hyper, rightly, refuses to send them as such.
    match code
        .parse::<u16>()
        .ok()
        .filter(|code| (200..600).contains(code))
    {
        Some(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
            reply(status, TEXT, "")
        }
        None => reply(
            StatusCode::BAD_REQUEST,
            TEXT,
            format!("{code:?} is no status from 200 to 599\n"),
        ),
    }
}

async fn delay(seconds: &str, request: &Request) -> Reply {
    match seconds
        .parse::<f64>()
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
    {
        Some(delay) if delay <= MAX_DELAY => {
            tokio::time::sleep(delay).await;
            ok(&echo(request))
        }
        _ => {
            let text = format!(
                "{seconds:?} is no number of seconds up to {}\n",
                MAX_DELAY.as_secs()
            );
            reply(StatusCode::BAD_REQUEST, TEXT, text)
        }
    }
}

fn bytes(count: &str) -> Reply {
    match count.parse::<usize>() {
        Ok(count) if count <= MAX_BYTES => {
            // Letters, not noise: a capture or a diff stays readable.
            let body: Vec<u8> = (b'a'..=b'z').cycle().take(count).collect();
            reply(StatusCode::OK, "application/octet-stream", body)
        }
        _ => reply(
            StatusCode::BAD_REQUEST,
            TEXT,
            format!("{count:?} is no count up to {MAX_BYTES}\n"),
        ),
    }
}
