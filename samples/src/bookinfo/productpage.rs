//! The page itself and its small JSON API.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::page::{self, Part};
use crate::app::{Reply, Request, Settings, json as json_reply, not_found, reply};
use crate::upstream::{Upstream, forwarded};

/// `GET /`, `/productpage`, `/api/v1/products…`, `/metrics`; `POST /login`, `GET /logout`.
pub(crate) struct Productpage {
    details: Upstream,
    reviews: Upstream,
    ratings: Upstream,
    /// Answers counted by (service, status), for `/metrics`.
    results: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

const HTML: &str = "text/html; charset=utf-8";
const SESSION: &str = "session";

impl Productpage {
    pub(crate) fn new(settings: &dyn Settings) -> Self {
        Productpage {
            details: Upstream::from_settings("details", settings),
            reviews: Upstream::from_settings("reviews", settings),
            ratings: Upstream::from_settings("ratings", settings),
            results: Mutex::default(),
        }
    }

    pub(crate) async fn answer(&self, request: &Request) -> Reply {
        match request.path.as_str() {
            "/" | "/index.html" | "/productpage" => self.page(request).await,
            "/health" => reply(StatusCode::OK, HTML, "Product page is healthy"),
            "/metrics" => reply(StatusCode::OK, "text/plain; version=0.0.4", self.metrics()),
            "/api/v1/products" => json_reply(StatusCode::OK, &json!([page::product()])),
            "/login" if request.method == Method::POST => login(request),
            "/logout" => signed(""),
            path => match path.strip_prefix("/api/v1/products/") {
                Some(rest) => self.product(rest, request).await,
                None => not_found(),
            },
        }
    }

    /// The page: what cannot be had is said in its place; the page itself is always there.
    async fn page(&self, request: &Request) -> Reply {
        let (details, reviews) = tokio::join!(self.details(0, request), self.reviews(0, request));
        reply(
            StatusCode::OK,
            HTML,
            page::render(user(request), &details, &reviews),
        )
    }

    /// `/api/v1/products/N`, `…/N/reviews`, `…/N/ratings`.
    async fn product(&self, rest: &str, request: &Request) -> Reply {
        let (id, part) = rest.split_once('/').unwrap_or((rest, ""));
        let Ok(id) = id.parse::<u64>() else {
            return not_found();
        };
        let (status, value) = match part {
            "" => self.details(id, request).await,
            "reviews" => self.reviews(id, request).await,
            "ratings" => {
                self.get("ratings", &self.ratings, &format!("/ratings/{id}"), request)
                    .await
            }
            _ => return not_found(),
        };
        json_reply(status, &value)
    }

    async fn details(&self, id: u64, request: &Request) -> Part {
        self.get("details", &self.details, &format!("/details/{id}"), request)
            .await
    }

    /// Asks twice, as upstream does: the fault-injection walks of Istio's documentation count on it.
    async fn reviews(&self, id: u64, request: &Request) -> Part {
        let path = format!("/reviews/{id}");
        let first = self.get("reviews", &self.reviews, &path, request).await;
        if first.0 == StatusCode::OK {
            return first;
        }
        self.get("reviews", &self.reviews, &path, request).await
    }

    async fn get(
        &self,
        name: &'static str,
        upstream: &Upstream,
        path: &str,
        request: &Request,
    ) -> Part {
        let part = match upstream.get(path, headers(request)).await {
            Ok(value) => (StatusCode::OK, value),
            Err(unavailable) => {
                let error =
                    format!("Sorry, product {name} are currently unavailable for this book.");
                (unavailable.status, json!({ "error": error }))
            }
        };
        let mut results = self
            .results
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *results.entry((name, part.0.as_u16())).or_default() += 1;
        part
    }

    fn metrics(&self) -> String {
        let mut text = "# HELP request_result_total Results of calls to other services\n# TYPE request_result_total counter\n".to_owned();
        let results = self
            .results
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for ((name, code), count) in results.iter() {
            let labels = format!("destination_app=\"{name}\",response_code=\"{code}\"");
            let _ = writeln!(text, "request_result_total{{{labels}}} {count}");
        }
        text
    }
}

/// What is handed on: trace headers and, for a signed-in user, `end-user`.
fn headers(request: &Request) -> HeaderMap {
    let mut headers = forwarded(request);
    if let Some(user) = user(request).and_then(|user| HeaderValue::from_str(user).ok()) {
        headers.insert("end-user", user);
    }
    headers
}

/// Who signed in: the session cookie simply is the name. There is no password in this sample.
fn user(request: &Request) -> Option<&str> {
    let cookies = request.header("cookie")?;
    let session = cookies
        .split(';')
        .filter_map(|cookie| cookie.trim().split_once('='));
    session
        .filter(|(name, user)| *name == SESSION && !user.is_empty())
        .map(|(_, user)| user)
        .next()
}

fn login(request: &Request) -> Reply {
    let form: Value = crate::httpbin::form(&String::from_utf8_lossy(&request.body));
    let name = form["username"][0].as_str().unwrap_or_default();
    // Only what may stand in a cookie unquoted.
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.@".contains(*c))
        .collect();
    signed(&name)
}

/// Back to the page, as `user`.
fn signed(user: &str) -> Reply {
    let mut reply = reply(StatusCode::FOUND, HTML, "");
    let cookie = format!("{SESSION}={user}; Path=/; HttpOnly; SameSite=Lax");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        reply.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    reply
        .headers_mut()
        .insert(header::LOCATION, HeaderValue::from_static("/productpage"));
    reply
}
