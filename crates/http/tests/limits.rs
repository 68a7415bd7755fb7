//! Connections that are limited: who waits, who is refused, and that nobody waits for nobody.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod support;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full as FullBody;
use support::{on_worker, until, upstream};
use tokio::net::TcpStream;
use tulle_http::body::Body;
use tulle_http::upstream::{Full, Held, Limits, Options, Outgoing, Pool, Protocol};
use tulle_http::{BoxIo, Flag};

/// So many of each.
#[derive(Debug)]
struct Most {
    connections: (usize, Arc<AtomicUsize>),
    waiting: (usize, Arc<AtomicUsize>),
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn count((most, now): &(usize, Arc<AtomicUsize>)) -> Result<Held, Full> {
    if now.load(Relaxed) >= *most {
        return Err(Full("full".into()));
    }
    now.fetch_add(1, Relaxed);
    Ok(Box::new(Counted(now.clone())))
}

impl Limits for Most {
    fn connection(&self) -> Result<Held, Full> {
        count(&self.connections)
    }

    fn waiting(&self) -> Result<Held, Full> {
        count(&self.waiting)
    }
}

fn most(connections: usize, waiting: usize) -> Arc<Most> {
    Arc::new(Most {
        connections: (connections, Arc::default()),
        waiting: (waiting, Arc::default()),
    })
}

/// A server that answers when it is told to, and how many requests it has.
struct Slow {
    at: SocketAddr,
    asked: Rc<Cell<usize>>,
    go: tokio::sync::watch::Sender<bool>,
}

async fn slow(http2: bool) -> Slow {
    let asked = Rc::new(Cell::new(0));
    let (go, gone) = tokio::sync::watch::channel(false);
    let counted = asked.clone();
    let at = upstream(http2, async move |_| {
        counted.set(counted.get() + 1);
        let _ = gone.clone().wait_for(|go| *go).await;
        Response::new(FullBody::new(Bytes::from_static(b"ok")))
    })
    .await;
    Slow { at, asked, go }
}

/// What became of requests: `None` is an answer.
type Outcomes = Rc<RefCell<Vec<Option<Flag>>>>;

fn ask(pool: &Rc<Pool<u8>>, key: u8, at: SocketAddr, options: &Options, outcomes: &Outcomes) {
    let (pool, options, outcomes) = (pool.clone(), options.clone(), outcomes.clone());
    tokio::task::spawn_local(async move {
        let request = Request::builder().uri("/").header("host", "a");
        let (head, body) = request.body(Body::empty()).unwrap().into_parts();
        let connect = async || {
            let tcp = TcpStream::connect(at).await?;
            Ok::<BoxIo, std::io::Error>(Box::new(tcp))
        };
        let sent = pool.send(&key, &options, connect, Outgoing::new(head, body));
        let outcome = match sent.await {
            Ok(answer) => {
                let (body, _) = answer.response.into_body().collect(100).await.unwrap();
                assert_eq!(&*body, b"ok");
                None
            }
            Err(failure) => {
                assert_eq!(failure.status(), 503);
                Some(failure.flag())
            }
        };
        outcomes.borrow_mut().push(outcome);
    });
}

#[test]
fn one_waits_for_the_only_connection_and_a_third_is_refused() {
    on_worker(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let server = slow(protocol == Protocol::Http2).await;
            let limits = most(1, 1);
            let options = Options {
                protocol,
                max_streams: 1,
                limits: Some(limits.clone()),
                ..Options::default()
            };
            let (pool, outcomes) = (Rc::new(Pool::new()), Outcomes::default());
            ask(&pool, 0, server.at, &options, &outcomes);
            until(|| server.asked.get() == 1).await;
            ask(&pool, 0, server.at, &options, &outcomes);
            until(|| limits.waiting.1.load(Relaxed) == 1).await;
            ask(&pool, 0, server.at, &options, &outcomes);
            until(|| !outcomes.borrow().is_empty()).await;
            assert_eq!(*outcomes.borrow(), [Some(Flag::UO)], "{protocol:?}");
            assert_eq!(server.asked.get(), 1, "the second one does not wait");
            server.go.send_replace(true);
            until(|| outcomes.borrow().len() == 3).await;
            assert_eq!(*outcomes.borrow(), [Some(Flag::UO), None, None]);
            assert_eq!(limits.connections.1.load(Relaxed), 1, "{protocol:?}");
            assert_eq!(limits.waiting.1.load(Relaxed), 0, "{protocol:?}");
            pool.retire_where(|_| true);
            until(|| limits.connections.1.load(Relaxed) == 0).await;
        }
    });
}

#[test]
fn an_endpoint_without_a_connection_gets_one_all_the_same() {
    on_worker(async {
        let (first, second) = (slow(false).await, slow(false).await);
        let options = Options {
            limits: Some(most(1, 10)),
            ..Options::default()
        };
        let (pool, outcomes) = (Rc::new(Pool::new()), Outcomes::default());
        ask(&pool, 1, first.at, &options, &outcomes);
        until(|| first.asked.get() == 1).await;
        ask(&pool, 2, second.at, &options, &outcomes);
        until(|| second.asked.get() == 1).await;
        first.go.send_replace(true);
        second.go.send_replace(true);
        until(|| outcomes.borrow().len() == 2).await;
        assert_eq!(*outcomes.borrow(), [None, None]);
    });
}

#[test]
fn connections_for_one_request_each_are_made_one_after_the_other() {
    on_worker(async {
        let server = slow(false).await;
        server.go.send_replace(true);
        let limits = most(1, 100);
        let options = Options {
            max_requests: Some(1),
            limits: Some(limits.clone()),
            ..Options::default()
        };
        let (pool, outcomes) = (Rc::new(Pool::new()), Outcomes::default());
        for _ in 0..20 {
            ask(&pool, 0, server.at, &options, &outcomes);
        }
        until(|| outcomes.borrow().len() == 20).await;
        assert!(outcomes.borrow().iter().all(Option::is_none));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(limits.connections.1.load(Relaxed), 0);
    });
}
