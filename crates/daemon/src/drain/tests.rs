use super::*;

#[tokio::test(start_paused = true)]
async fn everybody_learns_of_it_and_of_its_deadline() {
    let (trigger, drain) = drain();
    let other = drain.clone();
    assert!(!drain.has_begun());
    let waiting = tokio::spawn(async move { other.begun().await });
    trigger.begin(Duration::from_secs(10));
    assert_eq!(waiting.await.unwrap(), drain.deadline().unwrap());
    let before = Instant::now();
    drain.expired().await;
    assert_eq!(before.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_second_call_only_brings_the_deadline_nearer() {
    let (trigger, drain) = drain();
    trigger.begin(Duration::from_secs(10));
    trigger.begin(Duration::from_secs(60));
    let began = Instant::now();
    let expired = tokio::spawn({
        let drain = drain.clone();
        async move { drain.expired().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    trigger.begin(Duration::from_secs(2));
    expired.await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn without_a_trigger_it_never_begins() {
    let (trigger, drain) = drain();
    drop(trigger);
    let begun = tokio::time::timeout(Duration::from_secs(3600), drain.begun()).await;
    assert!(begun.is_err());
}
