//! One tunnel for many, made once, replaced when dead.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tulle_model::Identity;

use super::*;
use crate::Error;
use crate::server::{Connection, Handle};
use crate::transport::Transport;
use crate::tunnel::{Core, Rest, Role};

fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs");
    }));
}

/// Makes tunnels to a server that accepts everything, and counts them.
#[derive(Clone, Default)]
struct Maker {
    made: Rc<Cell<usize>>,
    servers: Rc<RefCell<Vec<Handle>>>,
}

impl Maker {
    async fn make(&self, settings: &Settings) -> Result<Tunnel, Error> {
        self.made.set(self.made.get() + 1);
        tokio::task::yield_now().await;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let near = TcpStream::connect(listener.local_addr()?).await?;
        let (far, _) = listener.accept().await?;
        let begin = |tcp, role| {
            let peer = Identity::new("cluster.local", "test", "peer");
            Core::begin(tcp, Transport::Plain, peer, Rest::default(), role, settings)
        };
        let mut server = Connection::new(begin(far, Role::Server)?);
        self.servers.borrow_mut().push(server.handle());
        tokio::task::spawn_local(async move {
            let mut held = Vec::new();
            while let Some(request) = server.next().await {
                held.push(request.accept(None));
            }
        });
        Ok(Tunnel::new(begin(near, Role::Client)?))
    }
}

fn request() -> Connect {
    Connect {
        authority: "1.2.3.4:80".into(),
        ..Connect::default()
    }
}

#[test]
fn many_at_once_share_one_tunnel() {
    on_worker(async {
        let (pool, maker) = (Rc::new(Pool::new(Settings::default())), Maker::default());
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let (pool, maker) = (Rc::clone(&pool), maker.clone());
                tokio::task::spawn_local(async move {
                    pool.open(
                        "key",
                        async || maker.make(&Settings::default()).await,
                        &request(),
                    )
                    .await
                    .unwrap()
                })
            })
            .collect();
        let mut open = Vec::new();
        for task in tasks {
            open.push(task.await.unwrap());
        }
        assert_eq!(maker.made.get(), 1);
        // The next one finds the tunnel full.
        pool.open(
            "key",
            async || maker.make(&Settings::default()).await,
            &request(),
        )
        .await
        .unwrap();
        assert_eq!(maker.made.get(), 2);
        // Another key shares nothing.
        pool.open(
            "other",
            async || maker.make(&Settings::default()).await,
            &request(),
        )
        .await
        .unwrap();
        assert_eq!((maker.made.get(), pool.tunnels()), (3, 3));
    });
}

#[test]
fn a_failure_reaches_everybody_who_waited() {
    on_worker(async {
        let pool = Rc::new(Pool::new(Settings::default()));
        let made = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let (pool, made) = (Rc::clone(&pool), Rc::clone(&made));
                tokio::task::spawn_local(async move {
                    let connect = async || {
                        made.set(made.get() + 1);
                        tokio::task::yield_now().await;
                        Err::<Tunnel, _>("no route")
                    };
                    pool.open(1, connect, &request())
                        .await
                        .err()
                        .unwrap()
                        .to_string()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), "no route");
        }
        assert_eq!(made.get(), 1);
        assert!(
            pool.0.entries.borrow().is_empty(),
            "a failed key leaves nothing behind"
        );
    });
}

#[test]
fn a_cancelled_leader_is_succeeded() {
    on_worker(async {
        let (pool, maker) = (Rc::new(Pool::new(Settings::default())), Maker::default());
        let leader = tokio::task::spawn_local({
            let pool = Rc::clone(&pool);
            async move {
                let connect = async || std::future::pending::<Result<Tunnel, Error>>().await;
                let _ = pool.open("key", connect, &request()).await;
            }
        });
        tokio::task::yield_now().await;
        let waiter = tokio::task::spawn_local({
            let (pool, maker) = (Rc::clone(&pool), maker.clone());
            async move {
                pool.open(
                    "key",
                    async || maker.make(&Settings::default()).await,
                    &request(),
                )
                .await
                .map(|_| ())
            }
        });
        tokio::task::yield_now().await;
        assert_eq!(maker.made.get(), 0);
        leader.abort();
        waiter.await.unwrap().unwrap();
        assert_eq!(maker.made.get(), 1);
    });
}

#[test]
fn a_dead_tunnel_is_replaced() {
    on_worker(async {
        let (pool, maker) = (Pool::new(Settings::default()), Maker::default());
        let connect = async || maker.make(&Settings::default()).await;
        pool.open("key", connect, &request()).await.unwrap();
        // It dies while the next request is on its way: the request is repeated elsewhere.
        maker.servers.borrow()[0].abort();
        pool.open("key", connect, &request()).await.unwrap();
        assert_eq!((maker.made.get(), pool.tunnels()), (2, 1));
        // It leaves in order.
        maker.servers.borrow()[1].drain();
        for _ in 0..20 {
            pool.open("key", connect, &request()).await.unwrap();
        }
        assert_eq!((maker.made.get(), pool.tunnels()), (3, 1));
    });
}

#[test]
fn retired_and_idle_tunnels_close() {
    on_worker(async {
        let settings = Settings {
            pool_idle: Duration::from_millis(40),
            ..Settings::default()
        };
        let (pool, maker) = (Pool::new(settings), Maker::default());
        let connect = async || maker.make(&Settings::default()).await;
        let held = pool.open("a", connect, &request()).await.unwrap();
        pool.open("b", connect, &request()).await.unwrap();
        assert_eq!(pool.tunnels(), 2);
        let server = maker.servers.borrow()[1].clone();
        server.closed().await;
        assert_eq!(pool.tunnels(), 1, "the one with a stream stays");
        pool.retire_where(|key| *key == "a");
        let server = maker.servers.borrow()[0].clone();
        assert_eq!(server.streams(), 1);
        pool.open("a", connect, &request()).await.unwrap();
        assert_eq!(maker.made.get(), 3);
        drop(held);
        server.closed().await;
    });
}

#[test]
fn a_tunnel_that_is_made_while_its_key_is_retired_is_not_kept() {
    on_worker(async {
        let (pool, maker) = (Rc::new(Pool::new(Settings::default())), Maker::default());
        let opening = tokio::task::spawn_local({
            let (pool, maker) = (Rc::clone(&pool), maker.clone());
            async move {
                let connect = async || maker.make(&Settings::default()).await;
                pool.open("key", connect, &request()).await
            }
        });
        while maker.made.get() == 0 {
            tokio::task::yield_now().await;
        }
        pool.retire_where(|_| true);
        opening.await.unwrap().unwrap();
        assert_eq!(pool.tunnels(), 0);
    });
}

/// The two ends of a connection of an application that has said `hello`.
async fn app_that_said_hello() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut app = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (near, _) = listener.accept().await.unwrap();
    app.write_all(b"hello").await.unwrap();
    near.readable().await.unwrap();
    (app, near)
}

/// A tunnel, and its server, which answers nobody by itself.
async fn tunnel_and_server() -> (Tunnel, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (far, _) = listener.accept().await.unwrap();
    let begin = |tcp, role| {
        let peer = Identity::new("cluster.local", "test", "peer");
        let settings = Settings::default();
        Core::begin(
            tcp,
            Transport::Plain,
            peer,
            Rest::default(),
            role,
            &settings,
        )
        .unwrap()
    };
    let server = Connection::new(begin(far, Role::Server));
    (Tunnel::new(begin(near, Role::Client)), server)
}

/// Asks for a connection for an application that has said `hello`, through a server that does `serve` once the greeting is there.
async fn with_early_bytes(
    serve: impl AsyncFnOnce(crate::server::Request, Handle),
) -> (TcpStream, TcpStream, Result<Opened, PoolError<Error>>) {
    let (app, near) = app_that_said_hello().await;
    let pool = Pool::new(Settings::default());
    let (tunnel, mut server) = tunnel_and_server().await;
    let asked = Cell::new(0);
    let make = async || {
        asked.set(asked.get() + 1);
        Ok::<_, Error>(tunnel.clone())
    };
    let request = request();
    let open = pool.open_for("key", make, &request, Some(&near));
    let serve = async {
        let request = server.next().await.unwrap();
        while !request.early_bytes() {
            tokio::task::yield_now().await;
        }
        serve(request, server.handle()).await;
        // The driver lives with the server.
        server
    };
    let (opened, _server) = tokio::join!(open, serve);
    assert_eq!(asked.get(), 1);
    (app, near, opened)
}

#[test]
fn the_first_bytes_do_not_wait_for_the_answer() {
    on_worker(async {
        let served = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&served);
        let (mut app, near, opened) = with_early_bytes(async move |request, _| {
            *keep.borrow_mut() = Some(request.accept(None).into_local());
        })
        .await;
        let counters = Rc::default();
        let stream = opened.unwrap().stream;
        let relay = stream.relay(near, &counters, std::future::pending());
        let talk = async {
            app.write_all(b" again").await.unwrap();
            app.shutdown().await.unwrap();
            let mut far = served.borrow_mut().take().unwrap();
            let mut heard = String::new();
            far.read_to_string(&mut heard).await.unwrap();
            far.shutdown().await.unwrap();
            heard
        };
        let (end, heard) = tokio::join!(relay, talk);
        assert_eq!(heard, "hello again");
        assert_eq!(end.to_tunnel, 11);
    });
}

#[test]
fn the_first_bytes_of_a_refused_connection_are_still_there() {
    on_worker(async {
        let (_app, near, opened) = with_early_bytes(async |request, _| request.refuse(503)).await;
        let refused = opened.err().unwrap();
        assert!(
            matches!(refused, PoolError::Open(OpenError::Refused { status: 503 })),
            "{refused}"
        );
        let mut said = [0; 8];
        assert_eq!(near.try_read(&mut said).unwrap(), 5);
        assert_eq!(&said[..5], b"hello");
    });
}

#[test]
fn nobody_else_is_asked_when_the_first_bytes_may_have_arrived() {
    on_worker(async {
        let (_app, _near, opened) = with_early_bytes(async |_request, handle| handle.abort()).await;
        let lost = opened.err().unwrap();
        assert!(
            matches!(lost, PoolError::Open(OpenError::Unsure(_))),
            "{lost}"
        );
    });
}
