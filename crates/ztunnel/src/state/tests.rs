use super::*;
use crate::fixtures::workload;

#[test]
fn a_published_snapshot_is_seen_whole_and_older_ones_stay() {
    let state = State::default();
    let before = state.load();
    state.publish(|next| {
        next.mesh.insert_workload(workload("a", "10.0.0.1"));
        false
    });
    let after = state.load();
    assert_eq!(
        (
            before.mesh.workloads().count(),
            after.mesh.workloads().count()
        ),
        (0, 1)
    );
    assert_eq!((after.generation, after.policy_generation), (1, 0));
    state.publish(|_| true);
    assert_eq!(
        (state.load().generation, state.load().policy_generation),
        (2, 2)
    );
}

#[tokio::test]
async fn waiting_ends_when_it_is_there() {
    let state = Arc::new(State::default());
    let waiting = {
        let state = state.clone();
        tokio::spawn(async move {
            state
                .wait_for(|s| s.mesh.workload("Kubernetes//Pod/default/a").cloned())
                .await
        })
    };
    tokio::task::yield_now().await;
    for name in ["b", "a"] {
        state.publish(|next| {
            next.mesh.insert_workload(workload(name, "10.0.0.1"));
            false
        });
        tokio::task::yield_now().await;
    }
    assert_eq!(waiting.await.unwrap().name, "a".into());
}
