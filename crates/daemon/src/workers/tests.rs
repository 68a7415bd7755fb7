use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;

#[tokio::test]
async fn each_runs_on_a_thread_of_its_own() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let to = seen.clone();
    let mut workers = Workers::start("w", 3, move |index| {
        let to = to.clone();
        async move {
            let local = tokio::task::spawn_local(async {
                std::thread::current().name().map(str::to_owned)
            });
            let name = local.await.unwrap();
            to.lock().unwrap().insert((index, name));
        }
    })
    .unwrap();
    let mut ends = BTreeSet::new();
    while let Some(WorkerEnd::Finished(index)) = workers.ended().await {
        ends.insert(index);
    }
    assert_eq!(ends, BTreeSet::from([0, 1, 2]));
    let expected = (0..3)
        .map(|i| (i, Some(format!("w-{i}"))))
        .collect::<BTreeSet<_>>();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_panic_is_reported() {
    let mut workers = Workers::start("w", 1, |_| async { panic!("on purpose") }).unwrap();
    assert_eq!(workers.ended().await, Some(WorkerEnd::Panicked(0)));
    assert_eq!(workers.ended().await, None);
}
