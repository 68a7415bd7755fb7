//! The state machine without sockets: single rules here, random histories in [`history`].

use std::collections::BTreeMap;

use prost::Message;
use tulle_proto::discovery::Status;
use tulle_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};

use super::super::publisher::Change;
use super::*;
use crate::wire;

mod audiences;
mod history;

fn put(name: &str, body: &str) -> Change {
    Change::put(name, body.as_bytes().to_vec())
}

fn subscribe(type_url: &str, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn acknowledge(answer: &Answer) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: answer.type_url.to_string(),
        response_nonce: answer.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// The resources of an answer by name, as version and body.
fn contents(answer: &Answer) -> BTreeMap<String, (String, String)> {
    let bytes: Vec<u8> = answer.resources.iter().flatten().copied().collect();
    let read = wire::Answer::decode(&bytes[..]).unwrap();
    read.resources
        .into_iter()
        .map(|resource| {
            let body = resource.resource.unwrap().value;
            let body = String::from_utf8(body.to_vec()).unwrap();
            (resource.name, (resource.version, body))
        })
        .collect()
}

fn bodies(answer: &Answer) -> Vec<(String, String)> {
    let contents = contents(answer).into_iter();
    contents.map(|(name, (_, body))| (name, body)).collect()
}

fn one(name: &str, body: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), body.to_owned())]
}

fn next(session: &mut Session, publisher: &Publisher) -> Option<Answer> {
    let answer = session.next(publisher).unwrap();
    if let Some(answer) = &answer {
        let noted = session.request(acknowledge(answer), publisher).unwrap();
        assert!(matches!(noted, Noted::Acknowledged(_)));
    }
    answer
}

#[test]
fn an_empty_or_starred_first_request_means_everything_now_and_later() {
    for names in [&[][..], &["*"]] {
        let publisher = Publisher::new();
        publisher.publish(ADDRESS_TYPE, vec![put("a", "1")]);
        let mut session = Session::new(7);
        session
            .request(subscribe(ADDRESS_TYPE, names), &publisher)
            .unwrap();
        let first = next(&mut session, &publisher).unwrap();
        assert_eq!(bodies(&first), one("a", "1"));
        assert!(next(&mut session, &publisher).is_none());
        publisher.publish(ADDRESS_TYPE, vec![put("b", "1"), Change::remove("a")]);
        let second = next(&mut session, &publisher).unwrap();
        assert_eq!(bodies(&second), one("b", "1"));
        assert_eq!(second.removed, [Arc::from("a")]);
        assert_ne!(first.nonce, second.nonce);
        assert!(next(&mut session, &publisher).is_none());
    }
}

#[test]
fn the_first_request_is_answered_even_if_there_is_nothing() {
    let publisher = Publisher::new();
    let mut session = Session::new(0);
    session
        .request(subscribe("some type", &[]), &publisher)
        .unwrap();
    let answer = next(&mut session, &publisher).unwrap();
    assert!(answer.resources.is_empty() && answer.removed.is_empty());
    assert!(!answer.version.ends_with(MORE));
    assert!(next(&mut session, &publisher).is_none());
}

#[test]
fn nothing_is_sent_before_the_publisher_is_released() {
    let publisher = Publisher::held();
    publisher.publish(ADDRESS_TYPE, vec![put("a", "1")]);
    let mut session = Session::new(0);
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    assert!(session.next(&publisher).unwrap().is_none());
    publisher.release();
    assert_eq!(
        bodies(&next(&mut session, &publisher).unwrap()),
        one("a", "1")
    );
}

#[test]
fn a_reconnect_gets_differences_and_removals_only() {
    let publisher = Publisher::new();
    publisher.publish(
        ADDRESS_TYPE,
        vec![put("same", "1"), put("changed", "1"), put("gone", "1")],
    );
    let mut session = Session::new(0);
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    let had = contents(&next(&mut session, &publisher).unwrap());

    publisher.publish(
        ADDRESS_TYPE,
        vec![put("changed", "2"), Change::remove("gone")],
    );
    let mut again = subscribe(ADDRESS_TYPE, &[]);
    again.initial_resource_versions = had.into_iter().map(|(n, (v, _))| (n, v)).collect();
    let mut session = Session::new(1);
    session.request(again.clone(), &publisher).unwrap();
    let answer = next(&mut session, &publisher).unwrap();
    assert_eq!(bodies(&answer), one("changed", "2"));
    assert_eq!(answer.removed, [Arc::from("gone")]);
    assert!(next(&mut session, &publisher).is_none());
    assert!(
        session.subscriptions[0].known.is_empty(),
        "compared, and let go"
    );

    // Another replica with the same content says the same.
    let replica = Publisher::new();
    replica.publish(ADDRESS_TYPE, vec![put("changed", "2")]);
    replica.publish(ADDRESS_TYPE, vec![put("same", "1")]);
    let mut session = Session::new(2);
    session.request(again, &replica).unwrap();
    let answer = next(&mut session, &replica).unwrap();
    assert_eq!(bodies(&answer), one("changed", "2"));
    assert_eq!(answer.removed, [Arc::from("gone")]);
}

#[test]
fn what_was_removed_after_a_reconnect_and_comes_back_the_same_is_sent() {
    let publisher = Publisher::new();
    publisher.publish(ADDRESS_TYPE, vec![put("a", "1")]);
    let mut session = Session::new(0);
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    let had = contents(&next(&mut session, &publisher).unwrap());
    publisher.publish(ADDRESS_TYPE, vec![Change::remove("a")]);
    let mut again = subscribe(ADDRESS_TYPE, &[]);
    again.initial_resource_versions = had.into_iter().map(|(n, (v, _))| (n, v)).collect();
    let mut session = Session::new(1);
    session.request(again, &publisher).unwrap();
    assert_eq!(
        next(&mut session, &publisher).unwrap().removed,
        [Arc::from("a")]
    );
    publisher.publish(ADDRESS_TYPE, vec![put("a", "1")]);
    assert_eq!(
        bodies(&next(&mut session, &publisher).unwrap()),
        one("a", "1")
    );
}

#[test]
fn a_rejected_resource_is_not_sent_again_until_it_changes() {
    let publisher = Publisher::new();
    publisher.publish(ADDRESS_TYPE, vec![put("bad", "1")]);
    let mut session = Session::new(0);
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    let answer = session.next(&publisher).unwrap().unwrap();
    let mut nack = acknowledge(&answer);
    nack.error_detail = Some(Status {
        code: 3,
        message: "bad: no".to_owned(),
        details: Vec::new(),
    });
    let noted = session.request(nack, &publisher).unwrap();
    assert_eq!(noted, Noted::Rejected("bad: no".to_owned()));
    assert!(next(&mut session, &publisher).is_none());
    publisher.publish(ADDRESS_TYPE, vec![put("bad", "2")]);
    assert_eq!(
        bodies(&next(&mut session, &publisher).unwrap()),
        one("bad", "2")
    );
}

#[test]
fn a_stale_nonce_is_ignored() {
    let publisher = Publisher::new();
    let mut session = Session::new(0);
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    let answer = next(&mut session, &publisher).unwrap();
    assert_eq!(
        session.request(acknowledge(&answer), &publisher),
        Ok(Noted::Stale)
    );
    let mut forged = acknowledge(&answer);
    forged.response_nonce = "whatever".to_owned();
    forged.error_detail = Some(Status::default());
    assert_eq!(session.request(forged, &publisher), Ok(Noted::Stale));
}

#[test]
fn a_client_that_does_not_acknowledge_is_not_flooded_and_then_gets_the_latest() {
    let publisher = Publisher::new();
    let mut session = Session::new(0);
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    let mut outstanding = Vec::new();
    for round in 0..100 {
        publisher.publish(ADDRESS_TYPE, vec![put("a", &round.to_string())]);
        outstanding.extend(session.next(&publisher).unwrap());
    }
    assert_eq!(outstanding.len(), MAX_UNACKNOWLEDGED);
    let last = outstanding.last().unwrap();
    session.request(acknowledge(last), &publisher).unwrap();
    assert_eq!(
        bodies(&next(&mut session, &publisher).unwrap()),
        one("a", "99")
    );
    assert!(next(&mut session, &publisher).is_none());
}

#[test]
fn large_answers_are_split_for_those_who_know_and_all_but_the_last_say_so() {
    let publisher = Publisher::new();
    let body = "x".repeat(SPLIT_ANSWER_BYTES / 4);
    let many = (0..10).map(|n| put(&format!("{n}"), &body)).collect();
    publisher.publish(ADDRESS_TYPE, many);
    // Others take the first answer for the whole, so it is.
    let mut session = Session::new(0);
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    let whole = next(&mut session, &publisher).unwrap();
    assert_eq!((whole.resources.len(), whole.version.as_str()), (10, "10"));

    let mut session = Session::new(0);
    session.split();
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    let mut seen = Vec::new();
    let mut marks = Vec::new();
    while let Some(answer) = next(&mut session, &publisher) {
        let bytes: usize = answer.resources.iter().map(bytes::Bytes::len).sum();
        assert!(bytes < SPLIT_ANSWER_BYTES * 5 / 4 + 1000);
        seen.extend(contents(&answer).into_keys());
        marks.push(answer.version.ends_with(MORE));
    }
    assert_eq!(seen.len(), 10);
    assert_eq!(marks, [true, true, false]);
}

#[test]
fn policies_come_before_the_workloads_that_name_them_and_go_after() {
    let publisher = Publisher::new();
    let mut session = Session::new(0);
    for type_url in [ADDRESS_TYPE, AUTHORIZATION_TYPE] {
        session
            .request(subscribe(type_url, &[]), &publisher)
            .unwrap();
    }
    let kind = |answer: Option<Answer>| {
        let answer = answer?;
        let removal = !answer.removed.is_empty();
        Some((*answer.type_url == *AUTHORIZATION_TYPE, removal))
    };
    assert_eq!(kind(next(&mut session, &publisher)), Some((true, false)));
    assert_eq!(kind(next(&mut session, &publisher)), Some((false, false)));
    // Published in the wrong order, even: the stream puts it right.
    publisher.publish(ADDRESS_TYPE, vec![put("pod", "ns/p")]);
    publisher.publish(AUTHORIZATION_TYPE, vec![put("ns/p", "policy")]);
    assert_eq!(kind(next(&mut session, &publisher)), Some((true, false)));
    assert_eq!(kind(next(&mut session, &publisher)), Some((false, false)));
    publisher.publish(AUTHORIZATION_TYPE, vec![Change::remove("ns/p")]);
    publisher.publish(ADDRESS_TYPE, vec![put("pod", "")]);
    assert_eq!(kind(next(&mut session, &publisher)), Some((false, false)));
    assert_eq!(kind(next(&mut session, &publisher)), Some((true, true)));
    assert_eq!(kind(next(&mut session, &publisher)), None);
}

#[test]
fn on_demand_clients_get_what_they_name() {
    let publisher = Publisher::new();
    let keyed = |name: &str, body: &str, keys: &[&str]| {
        put(name, body).with_keys(keys.iter().map(|key| (*key).to_owned()).collect())
    };
    publisher.publish(
        ADDRESS_TYPE,
        vec![
            keyed("default/web", "service", &["/10.96.0.1"]),
            keyed("pod/1", "workload", &["/10.0.0.1", "/10.96.0.1"]),
            keyed("pod/2", "workload", &["/10.0.0.2"]),
        ],
    );
    let mut session = Session::new(0);
    let mut first = subscribe(ADDRESS_TYPE, &["*"]);
    first.resource_names_unsubscribe = vec!["*".to_owned()];
    session.request(first, &publisher).unwrap();
    let answer = next(&mut session, &publisher).unwrap();
    assert!(answer.resources.is_empty(), "nothing was named yet");

    session
        .request(
            subscribe(ADDRESS_TYPE, &["/10.96.0.1", "/10.9.9.9"]),
            &publisher,
        )
        .unwrap();
    let answer = next(&mut session, &publisher).unwrap();
    assert_eq!(
        contents(&answer).into_keys().collect::<Vec<_>>(),
        ["default/web", "pod/1"]
    );
    assert_eq!(
        answer.removed,
        [Arc::from("/10.9.9.9")],
        "unknown names are said to be gone"
    );

    // What was named is followed, the rest is not.
    publisher.publish(ADDRESS_TYPE, vec![put("pod/2", "changed")]);
    assert!(next(&mut session, &publisher).is_none());
    publisher.publish(ADDRESS_TYPE, vec![Change::remove("pod/1")]);
    assert_eq!(
        next(&mut session, &publisher).unwrap().removed,
        [Arc::from("pod/1")]
    );
    publisher.publish(ADDRESS_TYPE, vec![keyed("pod/9", "new", &["/10.9.9.9"])]);
    assert_eq!(
        bodies(&next(&mut session, &publisher).unwrap()),
        one("pod/9", "new")
    );

    let mut no_more = subscribe(ADDRESS_TYPE, &[]);
    no_more.resource_names_unsubscribe = vec!["/10.96.0.1".to_owned()];
    session.request(no_more, &publisher).unwrap();
    publisher.publish(
        ADDRESS_TYPE,
        vec![keyed("default/web", "changed", &["/10.96.0.1"])],
    );
    assert!(next(&mut session, &publisher).is_none());
    // Later it wants everything after all.
    session
        .request(subscribe(ADDRESS_TYPE, &["*"]), &publisher)
        .unwrap();
    assert_eq!(contents(&next(&mut session, &publisher).unwrap()).len(), 3);
}

#[test]
fn unreasonable_requests_end_the_stream() {
    let publisher = Publisher::new();
    let mut session = Session::new(0);
    let refused = session.request(subscribe("", &[]), &publisher);
    assert_eq!(refused, Err(SessionError::NoType));
    for n in 0..MAX_TYPES {
        session
            .request(subscribe(&format!("type {n}"), &[]), &publisher)
            .unwrap();
    }
    let refused = session.request(subscribe("one more", &[]), &publisher);
    assert_eq!(refused, Err(SessionError::TooManyTypes));
    let names: Vec<String> = (0..=MAX_NAMES).map(|n| n.to_string()).collect();
    let mut many = subscribe("type 1", &[]);
    many.resource_names_subscribe = names;
    let refused = session.request(many, &publisher);
    assert_eq!(refused, Err(SessionError::TooManyNames));
}

#[test]
fn a_stream_behind_the_remembered_removals_is_sent_away() {
    use crate::limits::MAX_REMOVALS;
    let publisher = Publisher::new();
    let mut session = Session::new(0);
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    next(&mut session, &publisher).unwrap();
    let name = |n: usize| format!("{n}");
    let many = MAX_REMOVALS + 1;
    publisher.publish(
        ADDRESS_TYPE,
        (0..many).map(|n| put(&name(n), "1")).collect(),
    );
    publisher.publish(
        ADDRESS_TYPE,
        (0..many).map(|n| Change::remove(name(n))).collect(),
    );
    assert_eq!(session.next(&publisher), Err(SessionError::Behind));
    // A new stream is not behind.
    let mut session = Session::new(1);
    session
        .request(subscribe(ADDRESS_TYPE, &[]), &publisher)
        .unwrap();
    assert!(next(&mut session, &publisher).is_some());
}
