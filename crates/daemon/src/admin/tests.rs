use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tulle_telemetry::Registry;

use super::*;
use crate::Readiness;

async fn serving(pages: Pages) -> SocketAddr {
    let listener = listen_locally(0).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, pages));
    address
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn pages_by_path_and_by_prefix() {
    let pages = Pages::new()
        .on("/exact", |visit| async move {
            Page::text(200, format!("q={}", visit.query["q"]))
        })
        .on(
            "/debug/*",
            |visit| async move { Page::text(200, visit.path) },
        )
        .on(
            "/debug/deep/*",
            |_| async move { Page::text(200, "deeper") },
        );
    let address = serving(pages).await;
    let answer = get(address, "/exact?q=a%20b+c%2&x").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nq=a b c%2"),
        "{answer}"
    );
    assert!(get(address, "/debug/x").await.ends_with("/debug/x"));
    assert!(get(address, "/debug/deep/x").await.ends_with("deeper"));
    assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn slashes_beside_each_other_are_one() {
    let pages = Pages::new()
        .on("/version", |_| async { Page::text(200, "1") })
        .on(
            "/debug/*",
            |visit| async move { Page::text(200, visit.path) },
        );
    let address = serving(pages).await;
    // istioctl asks like this.
    assert!(get(address, "//version").await.starts_with("HTTP/1.1 200 "));
    assert!(get(address, "/debug//a/").await.ends_with("/debug/a/"));
    assert!(get(address, "//").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let readiness = Readiness::new();
    let condition = readiness.condition("state manager");
    let address = serving(Pages::new().with_readiness(&readiness)).await;
    let answer = get(address, "/healthz/ready").await;
    assert!(
        answer.starts_with("HTTP/1.1 500 ") && answer.contains("state manager"),
        "{answer}"
    );
    condition.set(true);
    let answer = get(address, "/healthz/ready").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ready\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn metrics_in_the_format_that_is_asked_for() {
    let registry = Registry::new();
    registry.build_info("x", "y");
    let address = serving(Pages::new().with_metrics(&registry)).await;
    for path in ["/metrics", "/stats/prometheus"] {
        let answer = get(address, path).await;
        assert!(
            answer.contains("content-type: text/plain; version=0.0.4") && !answer.contains("# EOF"),
            "{answer}"
        );
    }
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\naccept: application/openmetrics-text\r\nconnection: close\r\n\r\n";
    let answer = ask(address, request).await;
    assert!(
        answer.contains("content-type: application/openmetrics-text")
            && answer.ends_with("# EOF\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn log_levels_change_by_post_only() {
    let address = serving(Pages::new().with_logging()).await;
    assert!(get(address, "/logging").await.starts_with("HTTP/1.1 405 "));
    let post = "POST /logging?level=loud HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = ask(address, post).await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("usage:"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let address = serving(Pages::new().on("/", |_| async { Page::text(200, "") })).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..=ADMIN_BODY / 0x10000 {
        // The server may have stopped to read.
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_left() {
    let address = serving(Pages::new()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(2 * ADMIN_HEAD_DEADLINE, stream.read_to_end(&mut answer));
    assert!(
        read.await.is_ok(),
        "still open after {ADMIN_HEAD_DEADLINE:?}"
    );
}

#[tokio::test]
async fn rubbish_is_answered_and_does_no_harm() {
    let address = serving(Pages::new().on("/", |_| async { Page::html("fine") })).await;
    assert!(
        ask(address, "\u{1}\u{2}\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    assert!(get(address, "/").await.ends_with("fine"));
}
