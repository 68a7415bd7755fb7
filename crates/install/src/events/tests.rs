use serde_json::json;

use super::*;

fn pod(status: serde_json::Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "ztunnel-x" }, "status": status }))
        .unwrap()
}

#[test]
fn each_state_has_its_reason() {
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    assert_eq!(
        why_not_ready(&pod(json!({ "phase": "Running", "conditions": ready }))),
        None
    );
    for (status, expected) in [
        (
            json!({ "phase": "Pending", "conditions": [{
                "type": "PodScheduled", "status": "False",
                "message": "0/2 nodes are available: 2 Insufficient memory.\nmore" }] }),
            "not scheduled: 0/2 nodes are available: 2 Insufficient memory.",
        ),
        (
            json!({ "phase": "Pending", "containerStatuses": [{
                "name": "istio-proxy", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } } }] }),
            "istio-proxy: ImagePullBackOff: no such image",
        ),
        (
            json!({ "phase": "Running", "containerStatuses": [{
                "name": "discovery", "ready": false, "restartCount": 4, "image": "i", "imageID": "",
                "lastState": { "terminated": { "reason": "Error", "exitCode": 2 } },
                "state": { "waiting": { "reason": "CrashLoopBackOff" } } }] }),
            "discovery: CrashLoopBackOff (last run: Error, exit code 2, 4 restarts)",
        ),
        (json!({ "phase": "Running" }), "runs, but is not ready yet"),
        (json!({ "phase": "Pending" }), "is starting"),
        (
            json!({ "phase": "Failed", "reason": "Evicted" }),
            "failed: Evicted",
        ),
    ] {
        assert_eq!(why_not_ready(&pod(status)).as_deref(), Some(expected));
    }
}

#[test]
fn a_refused_quota_gets_its_remedy() {
    let text = hint("pods is forbidden: insufficient quota to match these scopes: [PriorityClass]");
    assert!(text.contains("--set cni.resourceQuota=true"), "{text}");
    assert_eq!(hint("other"), "other");
}
