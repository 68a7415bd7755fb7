use super::*;

use std::io::{Read, Write};
use std::os::fd::AsFd;

fn connected(dir: &tempfile::TempDir) -> (SeqListener, std::path::PathBuf) {
    let path = dir.path().join("s.sock");
    (SeqListener::bind(&path, 0o600).unwrap(), path)
}

#[tokio::test]
async fn messages_keep_their_borders_and_carry_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, path) = connected(&dir);
    let client = SeqStream::connect(&path).unwrap();
    let server = listener.accept().await.unwrap();

    let (mut read, mut write) = std::io::pipe().unwrap();
    client.send(b"one", &[write.as_fd()]).await.unwrap();
    client.send(b"two!", &[]).await.unwrap();

    let mut buffer = [0; 64];
    let (length, fds) = server.recv(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..length], fds.len()), (&b"one"[..], 1));
    let mut passed = std::fs::File::from(fds.into_iter().next().unwrap());
    passed.write_all(b"through the passed pipe").unwrap();
    drop(passed);
    write.flush().unwrap();
    drop(write);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through the passed pipe");

    let (length, fds) = server.recv(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..length], fds.len()), (&b"two!"[..], 0));
    drop(client);
    assert_eq!(server.recv(&mut buffer).await.unwrap().0, 0);
}

#[tokio::test]
async fn a_message_longer_than_agreed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, path) = connected(&dir);
    let client = SeqStream::connect(&path).unwrap();
    let server = listener.accept().await.unwrap();
    client.send(&[7; 100], &[]).await.unwrap();
    let error = server.recv(&mut [0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn the_peer_is_known_by_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, path) = connected(&dir);
    let _client = SeqStream::connect(&path).unwrap();
    let server = listener.accept().await.unwrap();
    let peer = server.peer_credentials().unwrap();
    assert_eq!(
        (peer.pid, peer.uid),
        (std::process::id(), crate::process::effective_user())
    );
}

#[tokio::test]
async fn binding_again_replaces_what_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let (first, path) = connected(&dir);
    drop(first);
    assert_eq!(
        SeqStream::connect(&path).unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    let again = SeqListener::bind(&path, 0o600).unwrap();
    let _client = SeqStream::connect(&path).unwrap();
    again.accept().await.unwrap();
}

#[test]
fn a_pair_needs_no_runtime() {
    let (a, b) = pair().unwrap();
    send(&a, b"listener", &[a.as_fd(), b.as_fd()]).unwrap();
    let mut buffer = [0; 16];
    let (length, fds) = recv(&b, &mut buffer).unwrap();
    assert_eq!((&buffer[..length], fds.len()), (&b"listener"[..], 2));
}

#[test]
fn too_many_descriptors_are_refused_before_sending() {
    let (a, _b) = pair().unwrap();
    let many = vec![a.as_fd(); DESCRIPTORS_PER_MESSAGE + 1];
    assert_eq!(
        send(&a, b"x", &many).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}
