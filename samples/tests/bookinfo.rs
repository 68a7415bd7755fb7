//! The samples over real loopback sockets, called as a user calls them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tulle_samples::app::{App, Settings};
use tulle_samples::{Role, Server};

struct Table(HashMap<String, String>);

impl Settings for Table {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

fn table(pairs: &[(&str, &str)]) -> Table {
    Table(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    )
}

/// Starts a sample on a free port; it ends with the test's runtime.
async fn start(role: Role, settings: &[(&str, &str)]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = App::new(role, &table(settings));
    tokio::spawn(Server::new(app, listener).run(std::future::pending()));
    address
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends `request` as it is, with the end of the head added, and reads to the end.
async fn call(address: SocketAddr, request: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{request}\r\nHost: sample\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    call(address, &format!("GET {path} HTTP/1.1"), "").await
}

/// All of Bookinfo with the given version of reviews: productpage's and reviews' address.
async fn bookinfo(reviews: &[(&str, &str)]) -> (SocketAddr, SocketAddr) {
    let details = start(Role::Details, &[]).await.port().to_string();
    let ratings = start(Role::Ratings, &[]).await.port().to_string();
    let mut settings = vec![
        ("RATINGS_HOSTNAME", "127.0.0.1"),
        ("RATINGS_SERVICE_PORT", ratings.as_str()),
        ("HOSTNAME", "reviews-x"),
    ];
    settings.extend(reviews);
    let reviews = start(Role::Reviews, &settings).await;
    let reviews_port = reviews.port().to_string();
    let settings = [
        ("DETAILS_HOSTNAME", "127.0.0.1"),
        ("DETAILS_SERVICE_PORT", details.as_str()),
        ("REVIEWS_HOSTNAME", "127.0.0.1"),
        ("REVIEWS_SERVICE_PORT", reviews_port.as_str()),
        ("RATINGS_HOSTNAME", "127.0.0.1"),
        ("RATINGS_SERVICE_PORT", ratings.as_str()),
    ];
    (start(Role::Productpage, &settings).await, reviews)
}

const V3: &[(&str, &str)] = &[("ENABLE_RATINGS", "true"), ("STAR_COLOR", "red")];

#[tokio::test]
async fn the_page_aggregates_the_other_services() {
    let (page, _) = bookinfo(V3).await;
    for path in ["/", "/productpage"] {
        let answer = get(page, path).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body.lines().next(), Some("<!DOCTYPE html>"));
        for part in [
            "<title>Simple Bookstore App</title>",
            "PublisherA",
            "reviews-x",
            "Reviewer2",
            "color:red",
            "★★★★☆",
        ] {
            assert!(answer.body.contains(part), "{part}: {}", answer.body);
        }
    }
    let counted = get(page, "/metrics").await.body;
    assert!(
        counted
            .contains("request_result_total{destination_app=\"details\",response_code=\"200\"} 2"),
        "{counted}"
    );
    assert_eq!(get(page, "/api/v1/products").await.json()[0]["id"], 0);
    assert_eq!(
        get(page, "/api/v1/products/0").await.json()["author"],
        "William Shakespeare"
    );
    assert_eq!(
        get(page, "/api/v1/products/0/ratings").await.json()["ratings"]["Reviewer1"],
        5
    );
    let reviews = get(page, "/api/v1/products/0/reviews").await.json();
    assert_eq!(reviews["reviews"][0]["rating"]["color"], "red");
    assert_eq!(get(page, "/nowhere").await.status, 404);
}

#[tokio::test]
async fn versions_of_reviews_differ_by_their_stars() {
    let answer = |settings: &'static [(&'static str, &'static str)]| async move {
        let (_, reviews) = bookinfo(settings).await;
        get(reviews, "/reviews/0").await.json()
    };
    let first = answer(&[]).await;
    assert_eq!(first["id"], "0");
    assert_eq!(first["podname"], "reviews-x");
    assert_eq!(first["clustername"], "null");
    assert_eq!(first["reviews"][0]["reviewer"], "Reviewer1");
    assert!(first["reviews"][0]["text"].is_string());
    assert!(first["reviews"][0].get("rating").is_none());
    let second = answer(&[("ENABLE_RATINGS", "true")]).await;
    assert_eq!(
        second["reviews"][1]["rating"],
        serde_json::json!({ "stars": 4, "color": "black" })
    );
}

#[tokio::test]
async fn a_service_that_is_away_is_said_in_its_place() {
    // A port that nobody listens on: the listener is gone again.
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let port = closed.port().to_string();
    let reviews = start(
        Role::Reviews,
        &[
            ("ENABLE_RATINGS", "true"),
            ("RATINGS_HOSTNAME", "127.0.0.1"),
            ("RATINGS_SERVICE_PORT", &port),
        ],
    )
    .await;
    let rating = get(reviews, "/reviews/0").await.json()["reviews"][0]["rating"].clone();
    assert_eq!(rating["error"], "Ratings service is currently unavailable");
    let settings = [
        ("DETAILS_HOSTNAME", "127.0.0.1"),
        ("DETAILS_SERVICE_PORT", port.as_str()),
        ("REVIEWS_HOSTNAME", "127.0.0.1"),
        ("REVIEWS_SERVICE_PORT", port.as_str()),
    ];
    let page = start(Role::Productpage, &settings).await;
    let answer = get(page, "/productpage").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.body.contains("Error fetching product details!"),
        "{}",
        answer.body
    );
    assert!(
        answer.body.contains("Error fetching product reviews!"),
        "{}",
        answer.body
    );
    assert_eq!(get(page, "/api/v1/products/0").await.status, 500);
}

#[tokio::test]
async fn ratings_can_be_posted_and_refuse_nonsense() {
    let ratings = start(Role::Ratings, &[]).await;
    let posted = call(ratings, "POST /ratings/7 HTTP/1.1", "{\"Reviewer1\":1}").await;
    assert_eq!(posted.status, 200);
    assert_eq!(
        get(ratings, "/ratings/7").await.json()["ratings"]["Reviewer1"],
        1
    );
    assert_eq!(
        get(ratings, "/ratings/8").await.json()["ratings"]["Reviewer1"],
        5
    );
    assert_eq!(
        call(ratings, "POST /ratings/7 HTTP/1.1", "rubbish")
            .await
            .status,
        400
    );
    assert_eq!(get(ratings, "/ratings/x").await.status, 400);
    assert_eq!(
        get(ratings, "/health").await.json()["status"],
        "Ratings is healthy"
    );
}

#[tokio::test]
async fn trace_headers_and_the_user_travel_on() {
    // httpbin in the place of details shows what productpage sends.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            .await
            .unwrap();
        String::from_utf8(request[..read].to_vec())
            .unwrap()
            .to_lowercase()
    });
    let page = start(
        Role::Productpage,
        &[
            ("DETAILS_HOSTNAME", "127.0.0.1"),
            ("DETAILS_SERVICE_PORT", &port),
        ],
    )
    .await;
    let request = "GET /api/v1/products/0 HTTP/1.1\r\nX-Request-Id: 42\r\ntraceparent: 00-a\r\nX-Secret: no\r\nCookie: session=jason";
    assert_eq!(call(page, request, "").await.status, 200);
    let seen = seen.await.unwrap();
    for part in [
        "get /details/0 http/1.1",
        "x-request-id: 42",
        "traceparent: 00-a",
        "end-user: jason",
    ] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    assert!(!seen.contains("x-secret"), "{seen}");
}

#[tokio::test]
async fn signing_in_sets_a_cookie_and_the_name_is_escaped() {
    let (page, _) = bookinfo(&[]).await;
    let request = "POST /login HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    let answer = call(page, request, "username=jason%3B+Path%3D%2Fx&passwd=").await;
    assert_eq!(answer.status, 302);
    assert!(
        answer
            .head
            .contains("set-cookie: session=jasonpathx; path=/;"),
        "{}",
        answer.head
    );
    let page = call(
        page,
        "GET /productpage HTTP/1.1\r\nCookie: session=<script>",
        "",
    )
    .await;
    assert!(
        page.body.contains("&lt;script&gt;") && !page.body.contains("<script>"),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn httpbin_says_what_it_received() {
    let httpbin = start(Role::Httpbin, &[]).await;
    let answer = call(
        httpbin,
        "GET /get?a=1&a=2&b=x%20y HTTP/1.1\r\nx-my-header: v",
        "",
    )
    .await
    .json();
    assert_eq!(
        answer["args"],
        serde_json::json!({ "a": ["1", "2"], "b": ["x y"] })
    );
    assert_eq!(answer["headers"]["X-My-Header"][0], "v");
    assert_eq!(answer["headers"]["Host"][0], "sample");
    assert_eq!(answer["url"], "http://sample/get?a=1&a=2&b=x%20y");
    assert_eq!(answer["origin"], "127.0.0.1");
    let posted = call(httpbin, "POST /post HTTP/1.1", "{\"k\":[1]}")
        .await
        .json();
    assert_eq!(posted["json"]["k"][0], 1);
    assert_eq!(posted["data"], "{\"k\":[1]}");
    for (path, status) in [
        ("/status/204", 204),
        ("/status/418", 418),
        ("/status/599", 599),
        ("/status/99", 400),
        ("/status/x", 400),
        ("/delay/0", 200),
        ("/delay/11", 400),
        ("/delay/-1", 400),
        ("/delay/NaN", 400),
        ("/bytes/10", 200),
        ("/bytes/999999999999", 400),
        ("/post", 405),
        ("/headers", 200),
        ("/ip", 200),
        ("/nothing", 404),
    ] {
        assert_eq!(get(httpbin, path).await.status, status, "{path}");
    }
    let ids = [
        get(httpbin, "/uuid").await.json(),
        get(httpbin, "/uuid").await.json(),
    ];
    assert_eq!(ids[0]["uuid"].as_str().unwrap().len(), 36);
    assert_ne!(ids[0], ids[1]);
    let started = std::time::Instant::now();
    assert_eq!(get(httpbin, "/delay/0.2").await.status, 200);
    assert!(started.elapsed().as_millis() >= 200);
}

#[tokio::test]
async fn helloworld_names_version_and_pod() {
    let hello = start(
        Role::Helloworld,
        &[("SERVICE_VERSION", "v2"), ("HOSTNAME", "hello-abc")],
    )
    .await;
    assert_eq!(
        get(hello, "/hello").await.body,
        "Hello version: v2, instance: hello-abc\n"
    );
}

#[tokio::test]
async fn a_request_under_way_outlives_the_order_to_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::new(App::new(Role::Httpbin, &table(&[])), listener);
    let server = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /delay/0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    stop.send(()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
