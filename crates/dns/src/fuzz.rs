//! DNS messages, as `fuzz/` brings them: any bytes may come in, and a broken promise panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::{TCP_MESSAGE, UDP_MESSAGE};
use crate::message::{self, Family, Incoming};
use crate::network::Transport;

/// A client's query: what it gets is an answer to it, and no longer than it may be.
pub fn query(data: &[u8]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        let longest = match transport {
            Transport::Udp => UDP_MESSAGE,
            Transport::Tcp => TCP_MESSAGE,
        };
        let answers = match message::incoming(data, transport) {
            Incoming::Rubbish => continue,
            Incoming::Refused(answer) => {
                assert!(message::code(&answer) != 0);
                vec![answer]
            }
            Incoming::Query(asked) => {
                let name = asked.name();
                assert!(name.is_none_or(|name| !name.is_empty() && name.len() < 256));
                assert!(!asked.type_label().is_empty());
                let addresses = match asked.family() {
                    Some(Family::V6) => vec![IpAddr::V6(Ipv6Addr::LOCALHOST); 300],
                    _ => vec![IpAddr::V4(Ipv4Addr::LOCALHOST); 300],
                };
                let alias = Some("reviews.default.svc.cluster.local");
                let said = [asked.answer(alias, &addresses), asked.answer(None, &[])];
                for answer in &said {
                    assert!(message::answers(data, answer), "no answer to the query");
                }
                [&said[..], &[asked.failure()]].concat()
            }
        };
        for answer in answers {
            assert!((12..=longest).contains(&answer.len()), "{}", answer.len());
            assert_eq!(answer[..2], data[..2], "another query's id");
            assert!(answer[2] & 0x80 != 0, "it is no answer");
        }
    }
}

/// A resolver's answer to the query before it: the first byte says how long the query is.
pub fn answer(data: &[u8]) {
    let Some((&length, rest)) = data.split_first() else {
        return;
    };
    let (query, answer) = rest.split_at(usize::from(length).min(rest.len()));
    if let Ok((addresses, _)) = message::addresses(answer) {
        assert!(!addresses.is_empty());
    }
    if message::answers(query, answer) {
        assert_eq!(query[..2], answer[..2]);
    }
    message::is_truncated(answer);
    let cut = message::cut_short(query);
    assert!(cut.len() <= query.len());
    if query.len() >= 12 {
        assert!(message::is_truncated(&cut));
        assert_eq!(cut[..2], query[..2]);
    }
}
