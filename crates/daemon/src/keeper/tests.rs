use std::os::fd::AsFd;

use proptest::prelude::*;
use tulle_linux::{SeqStream, seqpacket};

use super::client::Client;
use super::protocol::Message;

#[test]
fn messages_survive_the_wire() {
    let all = [
        Message::Put("pod/a".to_owned()),
        Message::Delete(String::new()),
        Message::Kept("é".to_owned()),
        Message::Complete,
        Message::Terminate,
    ];
    for message in all {
        assert_eq!(Message::decode(&message.encode()), Some(message));
    }
    for rubbish in [&b""[..], b"x", b"cextra", b"p\xff"] {
        assert_eq!(Message::decode(rubbish), None);
    }
}

proptest! {
    #[test]
    fn no_datagram_makes_it_panic(datagram in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Message::decode(&datagram);
    }
}

#[tokio::test]
async fn a_worker_takes_what_was_kept_and_is_bounded() {
    let (ours, theirs) = seqpacket::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    seqpacket::send(
        &ours,
        &Message::Kept("a".to_owned()).encode(),
        &[file.as_fd(), file.as_fd()],
    )
    .unwrap();
    seqpacket::send(&ours, &Message::Complete.encode(), &[]).unwrap();
    let socket = SeqStream::from_fd(theirs).unwrap();
    let (client, restored) = Client::take(socket).await.unwrap();
    assert_eq!(restored.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(restored["a"].len(), 2);

    client.put("b", &[file.as_fd()]).await.unwrap();
    let mut buffer = [0; 100];
    let (length, fds) = seqpacket::recv(&ours, &mut buffer).unwrap();
    assert_eq!(
        Message::decode(&buffer[..length]),
        Some(Message::Put("b".to_owned()))
    );
    assert_eq!(fds.len(), 1);

    let long = "x".repeat(crate::limits::KEPT_KEY + 1);
    assert!(client.put(&long, &[]).await.is_err());
    drop(ours);
    assert!(
        client.terminated().await.is_err(),
        "a keeper that is gone must be noticed"
    );
}
