//! Streams as bytes: on the tunnel's own worker, and on another thread.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod support;

use std::future::Future;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use support::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tulle_hbone::{Connect, Local, Remote, Settings, Tunnel, client, server};

const fn is_send<T: Send>() {}
const _: () = is_send::<Remote>();

/// Another worker: a thread that does `job` with every stream it gets.
fn elsewhere<F: Future<Output = ()> + 'static>(
    job: impl Fn(Remote) -> F + Send + 'static,
) -> (mpsc::UnboundedSender<Remote>, std::thread::JoinHandle<()>) {
    let (to, mut streams) = mpsc::unbounded_channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(LocalSet::new().run_until(async move {
            let mut jobs = Vec::new();
            while let Some(stream) = streams.recv().await {
                jobs.push(tokio::task::spawn_local(job(stream)));
            }
            for job in jobs {
                job.await.unwrap();
            }
        }));
    });
    (to, thread)
}

/// A tunnel whose server gives every stream to `to`; the handle to cut it.
async fn tunnel_to(
    to: mpsc::UnboundedSender<Remote>,
    settings: &Settings,
) -> (Tunnel, tokio::task::JoinHandle<()>) {
    let mesh = Mesh::new();
    let (listener, at) = listen().await;
    let settings_there = settings.clone();
    let tls = mesh.server.server.clone();
    let serving = tokio::task::spawn_local(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut connection = server::accept(tcp, &tls, &settings_there).await.unwrap();
        while let Some(request) = connection.next().await {
            if to.send(request.accept(None).into_remote()).is_err() {
                return;
            }
        }
    });
    let tcp = TcpStream::connect(at).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let tunnel = client::connect(tcp, &mesh.client.client, mesh.expected(), settings);
    (tunnel.await.unwrap(), serving)
}

async fn open(tunnel: &Tunnel) -> Local {
    let request = Connect {
        authority: "10.0.0.1:80".into(),
        ..Connect::default()
    };
    tunnel.open(&request).await.unwrap().stream.into_local()
}

async fn echo_until_end(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(stream);
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

#[test]
fn bulk_and_half_close_through_another_thread() {
    let (to, thread) = elsewhere(echo_until_end);
    on_worker(async move {
        let (tunnel, serving) = tunnel_to(to, &Settings::default()).await;
        let sent = Rc::new(pattern(20_000_003));
        let mut both = Vec::new();
        for _ in 0..3 {
            let (mut read, mut write) = tokio::io::split(open(&tunnel).await);
            let message = Rc::clone(&sent);
            both.push(tokio::task::spawn_local(async move {
                write.write_all(&message).await.unwrap();
                write.shutdown().await.unwrap();
            }));
            let expected = Rc::clone(&sent);
            both.push(tokio::task::spawn_local(async move {
                let mut got = Vec::new();
                read.read_to_end(&mut got).await.unwrap();
                assert!(got == *expected, "{} bytes", got.len());
            }));
        }
        let began = Instant::now();
        for task in both {
            task.await.unwrap();
        }
        // Sanity only: a lost wake-up would take seconds.
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(tunnel.streams(), 0);
        serving.abort();
    });
    thread.join().unwrap();
}

#[test]
fn small_messages_back_and_forth() {
    let (to, thread) = elsewhere(echo_until_end);
    on_worker(async move {
        let (tunnel, serving) = tunnel_to(to, &Settings::default()).await;
        let mut stream = open(&tunnel).await;
        for n in 0..2000u32 {
            stream.write_all(&n.to_be_bytes()).await.unwrap();
            assert_eq!(stream.read_u32().await.unwrap(), n);
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        serving.abort();
    });
    thread.join().unwrap();
}

#[test]
fn who_does_not_read_is_not_sent_more_than_a_window() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (to, thread) = elsewhere(move |mut stream: Remote| {
        let tell = tell.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            tell.send(all.len()).unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    on_worker(async move {
        let settings = Settings {
            stream_window: 100_000,
            ..Settings::default()
        };
        let (tunnel, serving) = tunnel_to(to, &settings).await;
        let mut stream = open(&tunnel).await;
        let mut sent = 0;
        let chunk = [7; 10_000];
        // Nobody reads yet: it comes to a stop.
        while let Ok(n) =
            tokio::time::timeout(Duration::from_millis(100), stream.write(&chunk)).await
        {
            sent += n.unwrap();
            assert!(sent <= 100_000);
        }
        assert_eq!(sent, 100_000);
        for _ in 0..100 {
            stream.write_all(&chunk).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        assert_eq!(told.recv().await, Some(1_100_000));
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        serving.abort();
    });
    thread.join().unwrap();
}

#[test]
fn a_peer_that_does_not_read_stops_the_owner() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (to, thread) = elsewhere(move |mut stream: Remote| {
        let tell = tell.clone();
        async move {
            let mut sent = 0;
            while let Ok(n) =
                tokio::time::timeout(Duration::from_millis(200), stream.write(&[1; 9_999])).await
            {
                sent += n.unwrap();
            }
            tell.send(sent).unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
            tell.send(0).unwrap();
        }
    });
    on_worker(async move {
        let settings = Settings {
            stream_window: 100_000,
            ..Settings::default()
        };
        let (tunnel, serving) = tunnel_to(to, &settings).await;
        let mut stream = open(&tunnel).await;
        let sent = told.recv().await.unwrap();
        // The window, and twice what lies between the workers.
        assert!(
            (100_000..=100_000 + 2 * (64 << 10)).contains(&sent),
            "{sent}"
        );
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), sent);
        stream.shutdown().await.unwrap();
        assert_eq!(told.recv().await, Some(0));
        serving.abort();
    });
    thread.join().unwrap();
}

#[test]
fn a_stream_that_is_dropped_is_reset_and_the_other_side_learns_it() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (to, thread) = elsewhere(move |mut stream: Remote| {
        let tell = tell.clone();
        async move {
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            if first == *b"d" {
                return;
            }
            // The peer drops: reads and writes fail.
            let error = stream.read_exact(&mut first).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            let error = stream.write_all(b"x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            tell.send(()).unwrap();
        }
    });
    on_worker(async move {
        let (tunnel, serving) = tunnel_to(to, &Settings::default()).await;
        let mut stream = open(&tunnel).await;
        stream.write_all(b"d").await.unwrap();
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = stream.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let mut stream = open(&tunnel).await;
        stream.write_all(b"p").await.unwrap();
        drop(stream);
        assert_eq!(tunnel.streams(), 0);
        told.recv().await.unwrap();
        serving.abort();
    });
    thread.join().unwrap();
}

#[test]
fn last_words_of_an_owner_that_ends_and_leaves_arrive() {
    let (to, thread) = elsewhere(|mut stream: Remote| async move {
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(&pattern(500_000)).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    on_worker(async move {
        let settings = Settings {
            stream_window: 50_000,
            ..Settings::default()
        };
        let (tunnel, serving) = tunnel_to(to, &settings).await;
        let mut stream = open(&tunnel).await;
        stream.write_all(b"?").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert!(all == pattern(500_000));
        // We have not ended our half; after a moment, the stream is over all the same.
        let began = Instant::now();
        while stream.write_all(&[0; 100]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        serving.abort();
    });
    thread.join().unwrap();
}

#[test]
fn the_end_of_either_worker_reaches_the_other() {
    // The owner's worker ends: its streams are reset.
    let (to, thread) = elsewhere(|_: Remote| async { panic!("never polled") });
    drop(to);
    thread.join().unwrap();
    let (to, mut streams) = mpsc::unbounded_channel::<Remote>();
    on_worker(async move {
        let (tunnel, serving) = tunnel_to(to, &Settings::default()).await;
        let mut stream = open(&tunnel).await;
        let remote = streams.recv().await.unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime.spawn(async move {
                let _held = remote;
                std::future::pending::<()>().await;
            });
            runtime.block_on(tokio::task::yield_now());
        })
        .join()
        .unwrap();
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        serving.abort();
    });
    // The tunnel's worker ends.
    let (to, mut streams) = mpsc::unbounded_channel::<Remote>();
    let owner = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let mut stream = streams.recv().await.unwrap();
            let error = stream.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        });
    });
    on_worker(async move {
        let (tunnel, _serving) = tunnel_to(to, &Settings::default()).await;
        let _stream = open(&tunnel).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    owner.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Whatever the sizes of writes and reads and windows: every byte, in order.
    #[test]
    fn nothing_is_lost_or_reordered(
        writes in proptest::collection::vec(1usize..40_000, 1..60),
        reads in proptest::collection::vec(1usize..30_000, 1..10),
        window in 1_000u32..200_000,
    ) {
        let there = reads.clone();
        let (to, thread) = elsewhere(move |mut stream: Remote| {
            let reads = there.clone();
            async move {
                let mut sizes = reads.iter().cycle();
                loop {
                    let mut buffer = vec![0; *sizes.next().unwrap()];
                    let n = stream.read(&mut buffer).await.unwrap();
                    if n == 0 {
                        return stream.shutdown().await.unwrap();
                    }
                    stream.write_all(&buffer[..n]).await.unwrap();
                }
            }
        });
        on_worker(async move {
            let settings = Settings { stream_window: window, ..Settings::default() };
            let (tunnel, serving) = tunnel_to(to, &settings).await;
            let (mut read, mut write) = tokio::io::split(open(&tunnel).await);
            let message = pattern(writes.iter().sum());
            let sent = message.clone();
            let writer = tokio::task::spawn_local(async move {
                let mut rest = &sent[..];
                for size in writes {
                    write.write_all(&rest[..size]).await.unwrap();
                    rest = &rest[size..];
                }
                write.shutdown().await.unwrap();
            });
            let mut got = Vec::new();
            let mut sizes = reads.iter().cycle();
            loop {
                let mut buffer = vec![0; *sizes.next().unwrap()];
                let n = read.read(&mut buffer).await.unwrap();
                if n == 0 {
                    break;
                }
                got.extend_from_slice(&buffer[..n]);
            }
            assert!(got == message, "{} of {} bytes", got.len(), message.len());
            writer.await.unwrap();
            serving.abort();
        });
        thread.join().unwrap();
    }
}
