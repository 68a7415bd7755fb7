use super::*;

#[test]
fn ready_when_every_condition_holds() {
    let readiness = Readiness::new();
    assert_eq!(readiness.pending(), Vec::<&str>::new());
    let state = readiness.condition("state manager");
    let pods = readiness.condition("workload proxy manager");
    assert_eq!(
        readiness.pending(),
        ["state manager", "workload proxy manager"]
    );
    state.set(true);
    assert_eq!(readiness.pending(), ["workload proxy manager"]);
    pods.set(true);
    assert!(readiness.pending().is_empty());
    state.set(false);
    assert_eq!(readiness.pending(), ["state manager"]);
}
