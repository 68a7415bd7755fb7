use super::*;

/// Far beyond anything that these tests wait for.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn everybody_learns_of_it_and_of_its_deadline() {
    let (trigger, drain) = drain();
    let other = drain.clone();
    assert!(!drain.has_begun());
    let waiting = tokio::spawn(async move { other.begun().await });
    let before = Instant::now();
    trigger.begin(Duration::from_millis(100));
    assert_eq!(waiting.await.unwrap(), drain.deadline().unwrap());
    drain.expired().await;
    assert!(before.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_second_call_only_brings_the_deadline_nearer() {
    let (trigger, drain) = drain();
    trigger.begin(LONG);
    let first = drain.deadline();
    trigger.begin(2 * LONG);
    assert_eq!(drain.deadline(), first);
    let expired = tokio::spawn({
        let drain = drain.clone();
        async move { drain.expired().await }
    });
    tokio::task::yield_now().await;
    trigger.begin(Duration::from_millis(10));
    tokio::time::timeout(LONG / 2, expired)
        .await
        .expect("the nearer deadline counts for those who wait already")
        .unwrap();
}

#[tokio::test]
async fn without_a_trigger_it_never_begins() {
    let (trigger, drain) = drain();
    drop(trigger);
    let begun = tokio::time::timeout(Duration::from_millis(50), drain.begun()).await;
    assert!(begun.is_err());
}
