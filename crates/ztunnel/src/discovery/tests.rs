use bytes::Bytes;
use tulle_daemon::Readiness;
use tulle_policy::{Action, Policy, Scope};
use tulle_proto::{encode_policy, encode_service, encode_workload};

use super::*;
use crate::fixtures::{service, workload};

fn discovery() -> (
    Discovery,
    Arc<State>,
    Readiness,
    tokio::sync::oneshot::Receiver<()>,
) {
    let state = Arc::new(State::default());
    let readiness = Readiness::new();
    let (first, synced) = tokio::sync::oneshot::channel();
    let condition = readiness.condition("state manager");
    let made = Discovery::new(state.clone(), &Registry::new(), condition, first, || {});
    (made, state, readiness, synced)
}

fn resource(name: &str, body: Bytes) -> Resource {
    Resource {
        name: name.into(),
        version: String::new(),
        body,
    }
}

fn addresses(upserts: Vec<Resource>, removed: &[&str]) -> Batch {
    let removed = removed.iter().map(|r| (*r).to_owned()).collect();
    Batch {
        type_url: ADDRESS_TYPE.to_owned(),
        upserts,
        removed,
    }
}

#[test]
fn a_batch_is_published_once_and_a_bad_resource_spoils_nothing() {
    let (mut discovery, state, ..) = discovery();
    let web = service("web", "10.96.0.1");
    let batch = addresses(
        vec![
            resource(
                "Kubernetes//Pod/default/a",
                encode_workload(&workload("a", "10.0.0.1")),
            ),
            resource("bad", Bytes::from_static(b"\xff\xff")),
            resource(web.key().as_str(), encode_service(&web)),
        ],
        &[],
    );
    let rejections = discovery.update(batch);
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].name, "bad");
    let snapshot = state.load();
    assert_eq!(snapshot.generation, 1);
    assert_eq!(
        (
            snapshot.mesh.workloads().count(),
            snapshot.mesh.services().count()
        ),
        (1, 1)
    );
    discovery.update(addresses(
        vec![],
        &["Kubernetes//Pod/default/a", web.key().as_str(), "never"],
    ));
    let snapshot = state.load();
    assert_eq!(
        (
            snapshot.mesh.workloads().count(),
            snapshot.mesh.services().count()
        ),
        (0, 0)
    );
    assert_eq!(snapshot.policy_generation, 0);
}

#[test]
fn a_policy_that_cannot_be_read_leaves_the_old_one_in_force() {
    let (mut discovery, state, ..) = discovery();
    let policy = Policy::new("default", "p", Scope::Namespace, Action::Deny);
    let batch = |body| Batch {
        type_url: AUTHORIZATION_TYPE.to_owned(),
        upserts: vec![resource("default/p", body)],
        removed: vec![],
    };
    assert!(discovery.update(batch(encode_policy(&policy))).is_empty());
    assert_eq!(
        discovery.update(batch(Bytes::from_static(b"\xff"))).len(),
        1
    );
    assert!(state.load().policies.get("default/p").is_some());
    assert_eq!(state.load().policy_generation, 2);
}

#[test]
fn ready_when_both_types_are_complete() {
    let (mut discovery, _, readiness, mut synced) = discovery();
    discovery.event(Event::Synced {
        type_url: AUTHORIZATION_TYPE,
    });
    assert!(synced.try_recv().is_err() && !readiness.pending().is_empty());
    discovery.event(Event::Synced {
        type_url: ADDRESS_TYPE,
    });
    assert!(synced.try_recv().is_ok() && readiness.pending().is_empty());
}

#[test]
fn the_name_of_a_workload_is_kept_once() {
    let (mut discovery, state, ..) = discovery();
    let uid = "Kubernetes//Pod/default/a";
    let known = resource(uid, encode_workload(&workload("a", "10.0.0.1")));
    let other = resource("other", encode_workload(&workload("b", "10.0.0.2")));
    discovery.update(addresses(vec![known.clone(), other], &[]));
    let snapshot = state.load();
    let kept = snapshot.mesh.workload(uid).unwrap();
    assert!(Arc::ptr_eq(&kept.uid, &known.name));
    // A name that is not the uid does not become it.
    assert!(
        snapshot
            .mesh
            .workload("Kubernetes//Pod/default/b")
            .is_some()
    );
}

#[test]
fn what_a_predecessor_knew_is_used_until_the_control_plane_has_spoken() {
    let (mut discovery, state, ..) = discovery();
    discovery.restore(Contents {
        policies: vec![Policy::new(
            "default",
            "old",
            Scope::Namespace,
            Action::Deny,
        )],
        services: vec![service("old", "10.96.0.1"), service("kept", "10.96.0.2")],
        workloads: vec![workload("old", "10.0.0.1"), workload("kept", "10.0.0.2")],
    });
    assert_eq!(state.load().mesh.workloads().count(), 2);
    let kept = service("kept", "10.96.0.2");
    discovery.update(addresses(
        vec![
            resource(
                "Kubernetes//Pod/default/kept",
                encode_workload(&workload("kept", "10.0.0.2")),
            ),
            resource(kept.key().as_str(), encode_service(&kept)),
        ],
        &[],
    ));
    assert_eq!(
        state.load().mesh.workloads().count(),
        2,
        "not before it is complete"
    );
    discovery.event(Event::Synced {
        type_url: ADDRESS_TYPE,
    });
    let snapshot = state.load();
    let names: Vec<_> = snapshot
        .mesh
        .workloads()
        .map(|w| w.name.to_string())
        .collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(snapshot.mesh.services().count(), 1);
    assert!(snapshot.policies.get("default/old").is_some());
    discovery.event(Event::Synced {
        type_url: AUTHORIZATION_TYPE,
    });
    assert!(state.load().policies.is_empty());
}
