use serde_json::json;
use tulle_api::k8s_openapi::jiff::Timestamp;
use tulle_translate::{Condition, ObjectKind};

use super::{Part, SERVICE_ENTRY, Statuses, Target, Wanted, merged};

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
        part: Part::Conditions,
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
    let (first, wanted) = statuses.next().await;
    let Some(Wanted::Conditions(conditions)) = wanted else {
        panic!("{wanted:?}");
    };
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

#[tokio::test]
async fn addresses_and_conditions_of_one_entry_are_written_one_by_one_and_forgotten_together() {
    let statuses = Statuses::default();
    let entry = Target {
        kind: SERVICE_ENTRY,
        ..object("e")
    };
    let addresses = vec![("a.example.com".into(), "240.240.0.1".parse().unwrap())];
    statuses.submit(entry.clone(), vec![condition(true, "ok")]);
    statuses.submit_addresses("default".into(), "e".into(), addresses);
    assert_eq!(statuses.next().await.0, entry);
    let (second, wanted) = statuses.next().await;
    assert_eq!(second.part, Part::Addresses);
    assert!(matches!(wanted, Some(Wanted::Addresses(all)) if all.len() == 1));
    statuses.forget(&entry);
    assert!(statuses.lock().wanted.is_empty());
}

#[tokio::test]
async fn a_status_that_somebody_wiped_is_written_again_but_not_for_ever() {
    let statuses = Statuses::default();
    statuses.submit(object("a"), vec![condition(true, "ok")]);
    statuses.next().await;
    let conditions = merged(&[], &[condition(true, "ok")], now()).unwrap();
    let right = json!({ "conditions": conditions });
    statuses.seen(&object("a"), || right.clone());
    statuses.seen(&object("unknown"), || json!({}));
    assert!(statuses.lock().queue.is_empty());
    let mut written = 0;
    for _ in 0..100 {
        statuses.seen(&object("a"), || json!({}));
        let next = statuses.lock().pop();
        written += usize::from(next.is_some());
    }
    assert_eq!(written, crate::limits::STATUS_HEALED as usize);
}
