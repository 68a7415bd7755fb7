use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::{Candidate, Election};
use crate::fake::{Answer, Fake, refusal};
use kube::Api;

fn election() -> Election {
    Election::new(Candidate {
        namespace: "istio-system".to_owned(),
        lease: "status".to_owned(),
        holder: "me".to_owned(),
    })
}

fn held_by(holder: &str, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
        lease_transitions: Some(3),
        ..Default::default()
    }
}

#[test]
fn a_lease_is_taken_only_when_its_holder_stops_renewing() {
    let mut election = election();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(!election.may_take(&held_by("other", 100), at(0)));
    assert!(
        !election.may_take(&held_by("other", 100), at(14)),
        "still valid"
    );
    assert!(
        !election.may_take(&held_by("other", 101), at(14)),
        "renewed: counts anew"
    );
    assert!(!election.may_take(&held_by("other", 101), at(28)));
    assert!(election.may_take(&held_by("other", 101), at(30)));
    assert!(election.may_take(&held_by("", 0), at(0)));
    assert!(election.may_take(&held_by("me", 0), at(0)));
}

#[test]
fn taking_over_counts_a_transition_and_renewing_does_not() {
    let election = election();
    assert_eq!(
        election.spec(Some(&held_by("other", 1))).lease_transitions,
        Some(4)
    );
    assert_eq!(
        election.spec(Some(&held_by("me", 1))).lease_transitions,
        Some(3)
    );
}

#[tokio::test]
async fn a_leader_without_the_api_server_steps_back_in_time() {
    let fake = Fake::new(vec![
        refusal(404, "NotFound", "no lease yet"),
        Answer::Json(201, json!({ "metadata": { "name": "status" } })),
        refusal(503, "Unavailable", "away"),
        refusal(503, "Unavailable", "away"),
        refusal(503, "Unavailable", "away"),
    ]);
    let api: Api<_> = Api::namespaced(fake.client(), "istio-system");
    let (sender, leads) = watch::channel(false);
    let mut election = election();
    let start = Instant::now();
    election.round(&api, &sender, start).await;
    assert!(*leads.borrow());
    election
        .round(&api, &sender, start + Duration::from_secs(4))
        .await;
    assert!(*leads.borrow(), "one lost renewal is no reason");
    election
        .round(&api, &sender, start + Duration::from_secs(12))
        .await;
    assert!(
        !*leads.borrow(),
        "others may lead 15 s after the last renewal"
    );
}

#[tokio::test]
async fn losing_a_race_is_no_error() {
    let fake = Fake::new(vec![
        refusal(404, "NotFound", "no lease yet"),
        refusal(409, "AlreadyExists", "somebody was first"),
    ]);
    let api: Api<_> = Api::namespaced(fake.client(), "istio-system");
    assert!(!election().attempt(&api, Instant::now()).await.unwrap());
}
