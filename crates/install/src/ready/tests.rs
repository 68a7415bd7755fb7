use serde_json::json;

use super::*;

fn daemon_set(generation: i64, status: serde_json::Value) -> Readiness {
    let object = json!({ "metadata": { "generation": generation }, "status": status });
    daemon_set_readiness(&serde_json::from_value(object).unwrap())
}

#[test]
fn a_daemon_set_is_ready_when_its_newest_version_runs_everywhere() {
    let status = |observed: i64, desired: i32, updated: i32, available: i32| {
        json!({
            "observedGeneration": observed, "desiredNumberScheduled": desired, "currentNumberScheduled": desired,
            "numberMisscheduled": 0, "numberReady": available,
            "updatedNumberScheduled": updated, "numberAvailable": available,
        })
    };
    assert!(daemon_set(3, status(3, 2, 2, 2)).is_ready());
    // The controller has not seen the change yet.
    assert!(!daemon_set(4, status(3, 2, 2, 2)).is_ready());
    // One node still has the old version, although that one works.
    let rolling = daemon_set(3, status(3, 2, 1, 2));
    assert!(!rolling.is_ready());
    assert_eq!((rolling.ready, rolling.desired), (1, 2));
    assert!(!daemon_set(3, status(3, 2, 2, 1)).is_ready());
    // No nodes: nothing works.
    assert!(!daemon_set(1, status(1, 0, 0, 0)).is_ready());
}

#[test]
fn a_deployment_is_ready_when_only_its_newest_version_runs() {
    let deployment = |replicas: i32, updated: i32, available: i32| {
        let object = json!({
            "metadata": { "generation": 2 },
            "spec": { "replicas": 1, "selector": {}, "template": {} },
            "status": {
                "observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available,
            },
        });
        deployment_readiness(&serde_json::from_value(object).unwrap())
    };
    assert!(deployment(1, 1, 1).is_ready());
    assert!(!deployment(2, 1, 2).is_ready());
    assert!(!deployment(1, 1, 0).is_ready());
    assert!(!deployment(0, 0, 0).is_ready());
}
