use super::*;

use std::os::fd::OwnedFd;

use prost::Message;
use tulle_linux::SeqStream;
use tulle_proto::workload::zds::workload_request::Payload;
use tulle_proto::workload::zds::{
    Ack, WorkloadRequest, WorkloadResponse, ZdsHello, workload_response,
};

const PATIENCE: Duration = Duration::from_secs(8);

struct Server {
    zds: Zds,
    dir: tempfile::TempDir,
}

impl Server {
    fn new(patience: Duration) -> Self {
        let server = Self {
            zds: Zds::new(patience),
            dir: tempfile::tempdir().unwrap(),
        };
        tokio::spawn(server.zds.serve(&server.dir.path().join("z.sock")).unwrap());
        server
    }

    async fn peer(&self) -> Peer {
        let peer = self.stranger();
        peer.send(&ZdsHello { version: 1 }).await;
        peer
    }

    /// Connected, but has not said hello.
    fn stranger(&self) -> Peer {
        Peer(SeqStream::connect(&self.dir.path().join("z.sock")).unwrap())
    }
}

/// A scripted ztunnel.
struct Peer(SeqStream);

impl Peer {
    async fn send(&self, message: &impl Message) {
        self.0.send(&message.encode_to_vec(), &[]).await.unwrap();
    }

    async fn next(&self) -> Option<(Payload, Vec<OwnedFd>)> {
        let mut buffer = [0; 1024];
        let (length, fds) = timeout(PATIENCE, self.0.recv(&mut buffer))
            .await
            .unwrap()
            .ok()?;
        let message = WorkloadRequest::decode(&buffer[..length]).unwrap();
        Some((message.payload?, fds))
    }

    async fn answer(&self, error: &str) {
        let ack = workload_response::Payload::Ack(Ack {
            error: error.into(),
        });
        self.send(&WorkloadResponse { payload: Some(ack) }).await;
    }

    /// Takes everything up to the marker; the pods' UIDs.
    async fn snapshot(&self) -> Vec<String> {
        let mut uids = Vec::new();
        loop {
            let (payload, fds) = self.next().await.unwrap();
            self.answer("").await;
            match payload {
                Payload::Add(add) => {
                    assert_eq!(fds.len(), 1);
                    uids.push(add.uid);
                }
                Payload::SnapshotSent(_) => return uids,
                other => panic!("{other:?} in a snapshot"),
            }
        }
    }

    async fn takes(&self, uid: &str) {
        match self.next().await.unwrap() {
            (Payload::Add(add), fds) => assert_eq!((add.uid.as_str(), fds.len()), (uid, 1)),
            other => panic!("{other:?} instead of an add"),
        }
        self.answer("").await;
    }

    async fn lets_go(&self, uid: &str) {
        match self.next().await.unwrap() {
            (Payload::Del(del), fds) => assert_eq!((del.uid.as_str(), fds.len()), (uid, 0)),
            other => panic!("{other:?} instead of a del"),
        }
        self.answer("").await;
    }

    async fn is_disconnected(&self) -> bool {
        self.next().await.is_none()
    }
}

fn pod(name: &str) -> Served {
    let info = WorkloadInfo {
        name: name.into(),
        namespace: "shop".into(),
        service_account: "a".into(),
    };
    Served {
        info,
        ns: NetNs::create().unwrap(),
    }
}

#[tokio::test]
async fn a_proxy_gets_everything_then_the_marker_then_changes() {
    let server = Server::new(PATIENCE);
    let known = pod("a");
    server.zds.restore("uid-a", known.clone());
    let peer = server.peer().await;
    let (first, fds) = peer.next().await.unwrap();
    let Payload::Add(add) = first else {
        panic!("{first:?}")
    };
    assert_eq!(
        (add.uid.as_str(), add.workload_info.unwrap()),
        ("uid-a", known.info)
    );
    assert_eq!(
        NetNs::from_fd(fds.into_iter().next().unwrap()).unwrap(),
        known.ns
    );
    peer.answer("").await;
    assert!(matches!(
        peer.next().await.unwrap().0,
        Payload::SnapshotSent(_)
    ));
    peer.answer("").await;
    let (added, ()) = tokio::join!(server.zds.add("uid-b", pod("b")), peer.takes("uid-b"));
    added.unwrap();
    tokio::join!(server.zds.del("uid-a"), peer.lets_go("uid-a"));
}

#[tokio::test]
async fn an_add_returns_only_after_the_answer() {
    let server = Server::new(PATIENCE);
    let peer = server.peer().await;
    peer.snapshot().await;
    let zds = server.zds.clone();
    let adding = tokio::spawn(async move { zds.add("uid-a", pod("a")).await });
    let (payload, _fd) = peer.next().await.unwrap();
    assert!(matches!(payload, Payload::Add(_)));
    assert!(!adding.is_finished());
    peer.answer("").await;
    adding.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_add_waits_for_a_proxy_but_not_for_ever() {
    let server = Server::new(Duration::from_millis(300));
    let outcome = server.zds.add("uid-a", pod("a")).await;
    assert!(
        matches!(outcome, Err(ProxyError::NotConnected)),
        "{outcome:?}"
    );
    let patient = Server::new(PATIENCE);
    let zds = patient.zds.clone();
    let adding = tokio::spawn(async move { zds.add("uid-b", pod("b")).await });
    tokio::task::yield_now().await;
    let peer = patient.peer().await;
    // It is in the snapshot, and asked for once more because that was not seen as an answer.
    assert_eq!(peer.snapshot().await, ["uid-b"]);
    peer.takes("uid-b").await;
    adding.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_pod_is_not_part_of_the_set() {
    let server = Server::new(PATIENCE);
    let peer = server.peer().await;
    peer.snapshot().await;
    let script = async {
        peer.next().await.unwrap();
        peer.answer("address in use").await;
        peer.lets_go("uid-a").await;
    };
    let (outcome, ()) = tokio::join!(server.zds.add("uid-a", pod("a")), script);
    assert!(
        matches!(&outcome, Err(ProxyError::Refused(why)) if why == "address in use"),
        "{outcome:?}"
    );
    let next = server.peer().await;
    assert_eq!(next.snapshot().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_newest_gets_adds_and_all_get_dels_and_the_older_one_catches_up() {
    let server = Server::new(PATIENCE);
    let old = server.peer().await;
    old.snapshot().await;
    let new = server.peer().await;
    new.snapshot().await;
    let (added, ()) = tokio::join!(server.zds.add("uid-a", pod("a")), new.takes("uid-a"));
    added.unwrap();
    let (added, ()) = tokio::join!(server.zds.add("uid-b", pod("b")), new.takes("uid-b"));
    added.unwrap();
    tokio::join!(
        server.zds.del("uid-b"),
        new.lets_go("uid-b"),
        old.lets_go("uid-b")
    );
    drop(new);
    old.takes("uid-a").await;
    let (added, ()) = tokio::join!(server.zds.add("uid-c", pod("c")), old.takes("uid-c"));
    added.unwrap();
}

#[tokio::test]
async fn a_silent_newest_is_dropped_and_the_one_before_serves() {
    let server = Server::new(PATIENCE);
    let good = server.peer().await;
    good.snapshot().await;
    let silent = server.peer().await;
    silent.snapshot().await;
    let serving = async {
        // Both as what it missed and as the add that is asked for again.
        good.takes("uid-a").await;
        good.takes("uid-a").await;
    };
    let (added, ()) = tokio::join!(server.zds.add("uid-a", pod("a")), serving);
    added.unwrap();
    assert_eq!(*server.zds.connected().borrow(), 1);
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_disconnected() {
    let server = Server::new(PATIENCE);
    let rubbish = server.stranger();
    rubbish.0.send(b"\xff\xff\xff", &[]).await.unwrap();
    assert!(rubbish.is_disconnected().await);

    let other_version = server.stranger();
    other_version.send(&ZdsHello { version: 7 }).await;
    assert!(other_version.is_disconnected().await);

    let descriptors = server.stranger();
    let ns = NetNs::create().unwrap();
    descriptors
        .0
        .send(&ZdsHello { version: 1 }.encode_to_vec(), &[ns.fd()])
        .await
        .unwrap();
    assert!(descriptors.is_disconnected().await);

    let too_long = server.stranger();
    too_long.0.send(&[7; 2000], &[]).await.unwrap();
    assert!(too_long.is_disconnected().await);

    let talkative = server.peer().await;
    talkative.snapshot().await;
    talkative.answer("nobody asked").await;
    assert!(talkative.is_disconnected().await);
    assert_eq!(*server.zds.connected().borrow(), 0);
}

#[tokio::test]
async fn names_of_any_length_fit_or_are_refused_without_a_message() {
    let server = Server::new(PATIENCE);
    let peer = server.peer().await;
    peer.snapshot().await;
    let longest = Served {
        info: WorkloadInfo {
            name: "n".repeat(253),
            namespace: "m".repeat(63),
            service_account: "s".repeat(253),
        },
        ns: NetNs::create().unwrap(),
    };
    let uid = "0aa1b2c3-1111-2222-3333-444455556666";
    let (added, ()) = tokio::join!(server.zds.add(uid, longest.clone()), peer.takes(uid));
    added.unwrap();
    let mut impossible = longest;
    impossible.info.service_account = "s".repeat(2000);
    let (added, ()) = tokio::join!(server.zds.add("x", impossible), peer.lets_go("x"));
    assert!(matches!(added, Err(ProxyError::TooLong)));
}
