use serde_json::json;
use tulle_api::k8s_openapi::jiff::Timestamp;
use tulle_translate::{Condition, ObjectKind};

use super::{Statuses, Target, merged};

fn condition(status: bool, message: &str) -> Condition {
    Condition {
        kind: "ZtunnelAccepted",
        status,
        reason: if status { "Accepted" } else { "Invalid" },
        message: message.to_owned(),
        observed_generation: Some(2),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000_000).unwrap()
}

fn object(name: &str) -> Target {
    let kind = ObjectKind::AuthorizationPolicy.into();
    Target {
        kind,
        namespace: "default".into(),
        name: name.into(),
    }
}

#[test]
fn what_is_shown_already_is_not_written_again() {
    let written = merged(&[], &[condition(true, "ok")], now()).unwrap();
    assert_eq!(written[0]["lastTransitionTime"], "2001-09-09T01:46:40Z");
    assert_eq!(written[0]["observedGeneration"], 2);
    assert_eq!(merged(&written, &[condition(true, "ok")], now()), None);
    let foreign = [json!({ "type": "Other", "status": "True" })];
    assert_eq!(
        merged(&foreign, &[], now()),
        None,
        "other writers' conditions are not ours"
    );
}

#[test]
fn a_transition_has_a_time_and_a_new_message_has_not() {
    let before = merged(&[], &[condition(true, "ok")], now()).unwrap();
    let later = Timestamp::from_second(1_100_000_000).unwrap();
    let message = merged(&before, &[condition(true, "still ok")], later).unwrap();
    assert_eq!(
        message[0]["lastTransitionTime"],
        before[0]["lastTransitionTime"]
    );
    let transition = merged(&before, &[condition(false, "no")], later).unwrap();
    assert_ne!(
        transition[0]["lastTransitionTime"],
        before[0]["lastTransitionTime"]
    );
}

#[test]
fn a_condition_that_is_no_longer_meant_is_removed() {
    let before = merged(&[], &[condition(true, "ok")], now()).unwrap();
    assert_eq!(merged(&before, &[], now()), Some(vec![]));
}

#[tokio::test]
async fn only_the_newest_state_of_an_object_is_written() {
    let statuses = Statuses::default();
    statuses.submit(object("a"), vec![condition(true, "old")]);
    statuses.submit(object("b"), vec![condition(true, "b")]);
    statuses.submit(object("a"), vec![condition(true, "new")]);
    let (first, conditions) = statuses.next().await;
    assert_eq!((&*first.name, &*conditions[0].message), ("a", "new"));
    assert_eq!(&*statuses.next().await.0.name, "b");
    statuses.submit(object("never shown"), vec![]);
    statuses.forget(&object("b"));
    statuses.everything();
    assert_eq!(
        &*statuses.next().await.0.name,
        "a",
        "a new leader writes all that exist"
    );
    assert!(statuses.lock().queue.is_empty());
}
