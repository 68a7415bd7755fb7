use tulle_route::rate::{Key, Spent};

use super::encode;
use crate::limits::{REPLICA_MESSAGE_BYTES, REPLICA_REPORTS};

#[test]
fn the_longest_message_is_taken() {
    let longest = Spent {
        limit: u64::MAX,
        key: Key([u64::MAX; 2]),
        requests: u32::MAX,
    };
    let message = encode(&vec![longest; REPLICA_REPORTS]).unwrap();
    let (length, body) = message.split_at(4);
    assert_eq!(length, u32::try_from(body.len()).unwrap().to_be_bytes());
    assert!(body.len() <= REPLICA_MESSAGE_BYTES, "{}", body.len());
    let back: Vec<Spent> = serde_json::from_slice(body).unwrap();
    assert_eq!(back.len(), REPLICA_REPORTS);
}
