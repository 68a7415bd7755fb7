use std::os::fd::OwnedFd;

use tulle_linux::NetNs;

use super::kept::take;
use super::*;

fn listener() -> OwnedFd {
    TcpListener::bind("127.0.0.1:0").unwrap().into()
}

fn netns() -> Vec<OwnedFd> {
    vec![NetNs::current().unwrap().fd().try_clone_to_owned().unwrap()]
}

#[test]
fn pods_come_back_with_their_listeners() {
    let mut restored = Restored::from([
        ("pod/u1/default/web-0/web".to_owned(), netns()),
        (
            "listeners/u1/0".to_owned(),
            vec![listener(), listener(), listener()],
        ),
        (
            "listeners/u1/1".to_owned(),
            vec![listener(), listener(), listener()],
        ),
        (
            "listeners/u1/2".to_owned(),
            vec![listener(), listener(), listener()],
        ),
        // Not complete: the predecessor died between.
        ("pod/u2/default/db-0/db".to_owned(), netns()),
        (
            "listeners/u2/1".to_owned(),
            vec![listener(), listener(), listener()],
        ),
        (
            "listeners/u3/0".to_owned(),
            vec![listener(), listener(), listener()],
        ),
        ("listeners/u1/x".to_owned(), vec![listener()]),
        ("what/is/this".to_owned(), vec![]),
    ]);
    let pods = take(&mut restored, 2);
    assert!(restored.is_empty());
    let names: Vec<_> = pods
        .iter()
        .map(|p| (p.uid.as_str(), p.info.name.as_str(), p.sockets.len()))
        .collect();
    assert_eq!(names, [("u1", "web-0", 2), ("u2", "db-0", 0)]);
    assert_eq!(pods[0].info.service_account, "web");
    assert_eq!(pods[0].netns.id(), NetNs::current().unwrap().id());
}

#[test]
fn missing_listeners_are_opened_and_superfluous_ones_closed() {
    let Ok(own) = NetNs::create() else {
        // Needs root; the namespaced tests refuse to run without it.
        return;
    };
    let three = complete(&own, Vec::new(), 3).unwrap();
    assert_eq!(three.len(), 3);
    let port = |l: &TcpListener| l.local_addr().unwrap().port();
    assert!(
        three
            .iter()
            .all(|s| [port(&s.outbound), port(&s.plain), port(&s.hbone)] == [15001, 15006, 15008])
    );
    assert_eq!(complete(&own, three, 2).unwrap().len(), 2);
}
