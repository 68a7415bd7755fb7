//! Any requests of a client, one after the other.

use prost::Message as _;
use tulle_proto::discovery::DeltaDiscoveryRequest;
use tulle_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};

use super::publisher::{Change, Publisher};
use super::session::Session;

/// Answers that a client may be owed at once, whatever it asked.
const MOST_ANSWERS: usize = 1000;

/// Requests, each behind its length in two bytes: the session ends with an error or has no more to say after a while.
pub fn requests(mut data: &[u8]) {
    let publisher = Publisher::new();
    let put = |name: &str| Change::put(name, name.as_bytes().to_vec());
    publisher.publish(ADDRESS_TYPE, vec![put("a"), put("b")]);
    publisher.publish(AUTHORIZATION_TYPE, vec![put("p")]);
    publisher.publish(ADDRESS_TYPE, vec![Change::remove("b")]);
    let mut session = Session::new(7);
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (request, rest) =
            rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        data = rest;
        let Ok(request) = DeltaDiscoveryRequest::decode(request) else {
            return;
        };
        if session.request(request, &publisher).is_err() {
            return;
        }
        let mut answers = 0;
        while let Ok(Some(answer)) = session.next(&publisher) {
            answers += 1;
            assert!(answers < MOST_ANSWERS, "no end of answers: {answer:?}");
        }
    }
}
