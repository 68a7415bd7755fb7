//! What is understood, what is refused, and the shape of answers.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;

use super::*;
use crate::network::Transport::{Tcp, Udp};

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message
        .queries
        .push(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn asked(message: &Message, transport: Transport) -> Asked {
    match incoming(&message.to_vec().unwrap(), transport) {
        Incoming::Query(asked) => asked,
        other => panic!("{other:?}"),
    }
}

fn addresses_of(n: u32) -> Vec<IpAddr> {
    (0..n)
        .map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()))
        .collect()
}

#[test]
fn names_are_lower_case_and_only_what_a_host_can_be_called() {
    let name = |text: &str| asked(&query(text, RecordType::A), Udp).name();
    assert_eq!(name("Web.Default.SVC.").as_deref(), Some("web.default.svc"));
    assert_eq!(name("_dns._udp.x.").as_deref(), Some("_dns._udp.x"));
    assert_eq!(name("."), None);
    assert_eq!(name("a\\.b.c."), None, "a dot inside of a label");
}

#[test]
fn only_addresses_are_ours_to_answer() {
    let family = |kind| asked(&query("a.", kind), Udp).family();
    assert_eq!(family(RecordType::A), Some(Family::V4));
    assert_eq!(family(RecordType::AAAA), Some(Family::V6));
    assert_eq!(family(RecordType::SRV), None);
}

#[test]
fn an_answer_repeats_the_question_and_the_id() {
    let bytes = asked(&query("web.", RecordType::A), Udp).answer(None, &addresses_of(2));
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!(answer.metadata.id, 7);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert!(answer.metadata.recursion_desired && !answer.metadata.truncation);
    assert_eq!(answer.queries[0].name().to_ascii(), "web.");
    assert_eq!(answer.answers.len(), 2);
    assert!(
        answer
            .answers
            .iter()
            .all(|r| r.ttl == 30 && r.name.to_ascii() == "web.")
    );
    assert!(answer.edns.is_none(), "the client did not speak EDNS");
}

#[test]
fn an_alias_leads_from_the_name_asked_for_to_the_addresses() {
    let asked = asked(
        &query("www.example.com.default.svc.cluster.local.", RecordType::A),
        Udp,
    );
    let bytes = asked.answer(Some("www.example.com"), &addresses_of(1));
    let answer = Message::from_vec(&bytes).unwrap();
    let RData::CNAME(CNAME(alias)) = &answer.answers[0].data else {
        panic!("{answer:?}");
    };
    assert_eq!(alias.to_ascii(), "www.example.com.");
    assert_eq!(answer.answers[1].name.to_ascii(), "www.example.com.");
    let none = Message::from_vec(&asked.answer(Some("www.example.com"), &[])).unwrap();
    assert!(none.answers.is_empty() && none.metadata.response_code == ResponseCode::NoError);
}

#[test]
fn what_does_not_fit_is_cut_to_what_the_client_takes() {
    let plain = query("web.", RecordType::A);
    let mut wide = plain.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    wide.edns = Some(edns);
    let mut huge = wide.clone();
    huge.edns.as_mut().unwrap().set_max_payload(u16::MAX);
    for (message, transport, count, fits) in [
        (&plain, Udp, 29, true),
        (&plain, Udp, 40, false),
        (&wide, Udp, 60, true),
        (&wide, Udp, 100, false),
        (&huge, Udp, 200, true),
        (&huge, Udp, 300, false),
        (&plain, Tcp, 1000, true),
    ] {
        let bytes = asked(message, transport).answer(None, &addresses_of(count));
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.truncation, !fits, "{count} addresses");
        assert_eq!(answer.answers.len(), if fits { count as usize } else { 0 });
        assert_eq!(answer.edns.is_some(), message.edns.is_some());
    }
}

#[test]
fn what_is_no_query_is_refused_or_passed_over() {
    let good = query("web.", RecordType::A).to_vec().unwrap();
    let code = |bytes: &[u8]| match incoming(bytes, Udp) {
        Incoming::Refused(answer) => Some(Message::from_vec(&answer).unwrap()),
        Incoming::Rubbish => None,
        Incoming::Query(asked) => panic!("{asked:?}"),
    };
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    assert!(code(&[]).is_none() && code(&good[..11]).is_none());
    assert!(
        code(&with(2, 0x80)).is_none(),
        "an answer to an answer never ends"
    );
    let update = code(&with(2, 5 << 3)).unwrap();
    assert_eq!(update.metadata.response_code, ResponseCode::NotImp);
    for bytes in [with(5, 0), with(5, 2), good[..good.len() - 1].to_vec()] {
        let refused = code(&bytes).unwrap();
        assert_eq!(refused.metadata.response_code, ResponseCode::FormErr);
        assert_eq!(refused.metadata.id, 7);
    }
}

#[test]
fn an_answer_belongs_to_its_question() {
    let ours = question("web.example.com", Family::V4, 7).unwrap();
    let answered = asked(&Message::from_vec(&ours).unwrap(), Udp).answer(None, &addresses_of(1));
    assert!(answers(&ours, &answered));
    let mut other_id = answered.clone();
    other_id[1] ^= 1;
    assert!(!answers(&ours, &other_id));
    assert!(!answers(&ours, &ours), "a query is no answer");
    let v6 = question("web.example.com", Family::V6, 7).unwrap();
    assert!(!answers(&v6, &answered));
    let elsewhere = question("evil.example.com", Family::V4, 7).unwrap();
    assert!(!answers(&elsewhere, &answered));
    let case = question("WEB.example.COM", Family::V4, 7).unwrap();
    assert!(answers(&case, &answered));
    let cut = cut_short(&ours);
    assert!(answers(&ours, &cut) && is_truncated(&cut));
    assert_eq!(Message::from_vec(&cut).unwrap().queries.len(), 1);
}

#[test]
fn addresses_with_the_shortest_time_of_the_chain() {
    let asked = asked(&query("a.", RecordType::A), Udp);
    let mut message = Message::from_vec(&asked.answer(Some("b"), &addresses_of(2))).unwrap();
    message.answers[0].ttl = 5;
    let (found, ttl) = addresses(&message.to_vec().unwrap()).unwrap();
    assert_eq!((found, ttl), (addresses_of(2), 5));
    assert!(
        addresses(&asked.failure())
            .unwrap_err()
            .contains("Server Failure")
    );
    assert!(question("a..b", Family::V4, 1).is_none());
}

proptest! {
    #[test]
    fn no_bytes_can_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), tcp in any::<bool>()) {
        let transport = if tcp { Tcp } else { Udp };
        if let Incoming::Query(asked) = incoming(&bytes, transport) {
            let _ = asked.name();
            prop_assert!(Message::from_vec(&asked.failure()).is_ok());
        }
        let _ = addresses(&bytes);
        let _ = answers(&bytes, &bytes);
        let _ = cut_short(&bytes);
    }

    #[test]
    fn damaged_queries_are_answered_or_refused(at in 0..40_usize, value in any::<u8>()) {
        let mut bytes = query("web.default.svc.cluster.local.", RecordType::A).to_vec().unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        match incoming(&bytes, Udp) {
            Incoming::Query(asked) => prop_assert!(asked.answer(None, &addresses_of(1)).len() <= 512),
            Incoming::Refused(answer) => prop_assert!(Message::from_vec(&answer).is_ok()),
            Incoming::Rubbish => {}
        }
    }
}
