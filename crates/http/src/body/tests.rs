//! Bodies on their own.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(test));
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(0))])
}

#[test]
fn a_channel_waits_for_its_reader() {
    run(async {
        let (mut sender, mut body) = channel::with_limit(10);
        assert!(sender.send("0123456789").await);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), sender.send("x"))
                .await
                .is_err()
        );
        assert_eq!(body.data().await.unwrap().unwrap(), "0123456789");
        assert!(sender.send("x").await);
        sender.finish_with(trailers());
        let (rest, got) = body.collect(100).await.unwrap();
        assert_eq!((rest, got), (Bytes::from("x"), Some(trailers())));
        let (mut sender, body) = channel();
        drop(body);
        assert!(!sender.send("x").await && sender.is_closed());
        let (sender, mut body) = channel();
        drop(sender);
        assert_eq!(body.data().await, Some(Err(BodyError::Aborted)));
    });
}

#[test]
fn counters_know_how_it_ended() {
    run(async {
        let counter = Rc::new(Counter::default());
        let body = Body::full("hello").counted(&counter);
        assert_eq!(counter.ended(), End::Not);
        assert_eq!(body.collect(5).await.unwrap().0, "hello");
        assert_eq!((counter.bytes(), counter.ended()), (5, End::Whole));
        let counter = Rc::new(Counter::default());
        drop(Body::full("hello").counted(&counter));
        assert_eq!((counter.bytes(), counter.ended()), (0, End::Dropped));
        let counter = Rc::new(Counter::default());
        drop(Body::empty().counted(&counter));
        assert_eq!(counter.ended(), End::Whole);
        let error = Body::full("hello").collect(4).await.unwrap_err();
        assert_eq!(error, BodyError::TooLarge(4));
    });
}

#[test]
fn any_number_of_counters_count() {
    run(async {
        let counters: [Rc<Counter>; 4] = Default::default();
        let mut body = Body::full("hello");
        for counter in &counters {
            body = body.counted(counter);
        }
        body.collect(10).await.unwrap();
        for counter in &counters {
            assert_eq!((counter.bytes(), counter.ended()), (5, End::Whole));
        }
    });
}

#[test]
fn a_body_that_stands_still_fails() {
    run(async {
        let (mut sender, body) = channel();
        let mut body = body.stalling(Duration::from_secs(5));
        for _ in 0..4 {
            let (sent, got) = tokio::join!(
                async {
                    tokio::time::sleep(Duration::from_secs(4)).await;
                    sender.send("x").await
                },
                body.data()
            );
            assert!(sent && got.unwrap().is_ok());
        }
        let began = Instant::now();
        let error = body.data().await.unwrap().unwrap_err();
        assert_eq!(error, BodyError::Stalled(Duration::from_secs(5)));
        assert_eq!(began.elapsed().as_secs(), 5);
        let (_sender, body) = channel();
        let mut body = body.until(Instant::now() + Duration::from_secs(3));
        assert_eq!(body.data().await, Some(Err(BodyError::Deadline)));
    });
}

#[test]
fn an_attempt_is_repeated_until_too_much_was_read() {
    run(async {
        let (mut sender, source) = channel();
        let replay = Replay::new(source, 10);
        let mut first = replay.body();
        assert!(sender.send("12345").await);
        assert_eq!(first.data().await.unwrap().unwrap(), "12345");
        let mut second = replay.body();
        assert_eq!(first.data().await, Some(Err(BodyError::Superseded)));
        assert!(sender.send("67890").await);
        assert_eq!(second.data().await.unwrap().unwrap(), "12345");
        assert_eq!(second.data().await.unwrap().unwrap(), "67890");
        assert!(replay.can_repeat());
        assert!(sender.send("!").await);
        assert_eq!(second.data().await.unwrap().unwrap(), "!");
        assert!(!replay.can_repeat());
        sender.finish_with(trailers());
        assert_eq!(second.collect(10).await.unwrap().1, Some(trailers()));
        assert_eq!(replay.body().data().await, Some(Err(BodyError::Superseded)));
        let replay = Replay::new(Body::full("abc"), 10);
        assert_eq!(replay.body().length(), Some(3));
        assert_eq!(replay.body().collect(3).await.unwrap().0, "abc");
        assert_eq!(replay.body().length(), Some(3));
        assert_eq!(replay.body().collect(3).await.unwrap().0, "abc");
        assert!(Replay::new(Body::empty(), 0).body().is_end());
    });
}

#[test]
fn a_mirror_that_lags_fails_alone() {
    run(async {
        let (mut sender, source) = channel();
        let (mut first, mut copy) = tee(source, 8);
        for _ in 0..3 {
            assert!(sender.send("12345").await);
            assert_eq!(first.data().await.unwrap().unwrap(), "12345");
        }
        assert_eq!(copy.data().await.unwrap().unwrap(), "12345");
        assert_eq!(copy.data().await.unwrap().unwrap(), "12345");
        assert_eq!(copy.data().await, Some(Err(BodyError::Lagging(8))));
        sender.finish();
        assert!(first.data().await.is_none());
        let (first, copy) = tee(Body::with_trailers("xyz", trailers()), 8);
        assert_eq!(first.collect(3).await.unwrap().1, Some(trailers()));
        let (data, got) = copy.collect(3).await.unwrap();
        assert_eq!((data, got), (Bytes::from("xyz"), Some(trailers())));
    });
}

proptest! {
    /// However often and wherever an attempt is given up, the next one sees everything from the beginning.
    #[test]
    fn attempts_are_equal(pieces in proptest::collection::vec("[a-z]{1,9}", 1..8), stops in proptest::collection::vec(0usize..9, 0..5)) {
        run(async move {
            let whole: String = pieces.concat();
            let (mut sender, source) = channel();
            for piece in pieces {
                assert!(sender.send(piece).await);
            }
            sender.finish();
            let replay = Replay::new(source, 1000);
            for stop in stops {
                let mut attempt = replay.body();
                let mut seen = String::new();
                for _ in 0..stop {
                    let Some(data) = attempt.data().await else { break };
                    seen.push_str(std::str::from_utf8(&data.unwrap()).unwrap());
                }
                assert!(whole.starts_with(&seen));
            }
            assert_eq!(replay.body().collect(1000).await.unwrap().0, whole);
        });
    }
}
