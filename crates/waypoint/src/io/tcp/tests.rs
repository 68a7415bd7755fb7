use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::LocalSet;

use super::*;

/// On a worker with a postman, or without.
fn on_a_worker(with_postman: bool, what: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let all = LocalSet::new();
    runtime
        .block_on(all.run_until(async {
            if with_postman {
                tokio::task::spawn_local(deliver());
            }
            tokio::time::timeout(Duration::from_secs(20), what).await
        }))
        .unwrap();
    POST.take();
}

/// A connection whose kernel holds little, and its other end.
async fn pair() -> (Tcp, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    let (ours, theirs) = tokio::join!(
        socket.connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (ours.unwrap().into(), theirs.unwrap().0)
}

/// Pieces of all sizes, small and large, with bytes that tell them apart.
fn pieces() -> Vec<Vec<u8>> {
    let sizes = [1, 300, 0, SMALL_MESSAGE, SMALL_MESSAGE + 1, 7, 60_000, 200];
    let all = sizes.iter().cycle().take(120).enumerate();
    all.map(|(n, size)| vec![n as u8; *size]).collect()
}

#[test]
fn everything_arrives_in_order_whoever_is_slow() {
    for with_postman in [true, false] {
        for pause in [false, true] {
            on_a_worker(with_postman, async move {
                let (mut ours, mut theirs) = pair().await;
                let expected = pieces().concat();
                let reading = tokio::task::spawn_local(async move {
                    if pause {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    let mut all = Vec::new();
                    theirs.read_to_end(&mut all).await.unwrap();
                    all
                });
                for (n, piece) in pieces().iter().enumerate() {
                    ours.write_all(piece).await.unwrap();
                    if n % 3 == 0 {
                        ours.flush().await.unwrap();
                    }
                }
                ours.shutdown().await.unwrap();
                assert!(reading.await.unwrap() == expected);
            });
        }
    }
}

#[test]
fn what_was_written_is_sent_though_its_writer_does_not_ask_again() {
    on_a_worker(true, async {
        let (mut ours, mut theirs) = pair().await;
        let message = [7; SMALL_MESSAGE];
        let mut written = 0;
        // Until the kernel has no room.
        while let Ok(Ok(())) =
            tokio::time::timeout(Duration::from_millis(100), ours.write_all(&message)).await
        {
            written += message.len();
        }
        assert!(written > message.len());
        let flush = tokio::time::timeout(Duration::from_millis(20), ours.flush());
        assert!(flush.await.is_err(), "nobody reads");
        let mut all = vec![0; written];
        theirs.read_exact(&mut all).await.unwrap();
        assert!(all.iter().all(|byte| *byte == 7));
        ours.flush().await.unwrap();
    });
}

#[test]
fn the_last_words_of_whoever_is_gone_are_sent() {
    on_a_worker(true, async {
        let (mut ours, mut theirs) = pair().await;
        ours.write_all(b"good").await.unwrap();
        ours.write_all(b"bye").await.unwrap();
        drop(ours);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"goodbye");
    });
}

#[test]
fn a_failure_is_told_once_it_is_known_and_does_not_look_like_an_end() {
    on_a_worker(true, async {
        let (mut ours, theirs) = pair().await;
        tulle_linux::socket::reset_on_close(&theirs).unwrap();
        drop(theirs);
        ours.write_all(b"hello").await.unwrap();
        let error = ours.read_u8().await.unwrap_err();
        let unsent = error.get_ref().and_then(|why| why.downcast_ref());
        assert_eq!(unsent, Some(&Unsent(5)), "{error}");
        for _ in 0..2 {
            let again = ours.read_u8().await.unwrap_err();
            assert_eq!(
                (again.kind(), again.get_ref().is_none()),
                (error.kind(), true)
            );
        }
        assert_eq!(ours.flush().await.unwrap_err().kind(), error.kind());
        assert!(ours.shutdown().await.is_err());
    });
}
