//! Handshakes over sockets, records in memory.

use std::future::Future;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tulle_model::Identity;

use super::*;
use crate::{Authority, CertificateRequest, Credentials, Epoch, IssuedPem, TlsSettings};

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn epoch(authority: &Authority, account: &str) -> Epoch {
    let identity = Identity::new(authority.trust_domain(), "test", account);
    let request = CertificateRequest::new(&identity).unwrap();
    let chain = authority
        .sign_workload(&request.csr_pem, &identity, None)
        .unwrap();
    let credentials = Credentials::assemble(&identity, request, &IssuedPem { chain }).unwrap();
    Epoch::new(credentials, TlsSettings::default()).unwrap()
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (near.unwrap(), far.unwrap().0)
}

/// Two established channels; the client's last flight was delivered.
fn channels() -> (Channel, Channel) {
    run(async {
        let authority = Authority::new_self_signed("cluster.local").unwrap();
        let (client_epoch, server_epoch) =
            (epoch(&authority, "client"), epoch(&authority, "server"));
        let expected: Arc<[Identity]> = Arc::from([server_epoch.identity.clone()]);
        let (near, far) = pair().await;
        let connecting = async {
            let established = client(&near, &client_epoch.client, &expected)
                .await
                .unwrap();
            assert!(established.early.is_empty() && established.unread.is_empty());
            assert_eq!(
                near.try_write(&established.unsent).unwrap(),
                established.unsent.len()
            );
            established.channel
        };
        let (client, server) = tokio::join!(connecting, server(&far, &server_epoch.server));
        let server = server.unwrap().channel;
        assert_eq!(client.peer(), &server_epoch.identity);
        assert_eq!(server.peer(), &client_epoch.identity);
        (client, server)
    })
}

fn sealed(channel: &mut Channel, plain: &[u8]) -> Vec<u8> {
    let mut record = vec![0xee; plain.len() + OVERHEAD];
    record[HEADER..HEADER + plain.len()].copy_from_slice(plain);
    channel.seal(&mut record).unwrap();
    record
}

fn opened(channel: &mut Channel, record: &mut [u8]) -> Vec<u8> {
    match channel.open(record).unwrap() {
        Opened::Data {
            consumed,
            start,
            len,
        } => {
            assert_eq!(consumed, record.len());
            record[start..start + len].to_vec()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_pass_both_ways() {
    let (mut client, mut server) = channels();
    for size in [1, 100, MAX_PLAINTEXT] {
        let plain = vec![size as u8; size];
        let mut record = sealed(&mut client, &plain);
        assert!(
            !record
                .windows(20)
                .any(|window| size >= 20 && window == &plain[..20])
        );
        assert_eq!(opened(&mut server, &mut record), plain);
        let mut record = sealed(&mut server, &plain);
        assert_eq!(opened(&mut client, &mut record), plain);
    }
    assert!(
        client
            .seal(&mut vec![0; MAX_PLAINTEXT + 1 + OVERHEAD])
            .is_err()
    );
}

#[test]
fn incomplete_records_wait() {
    let (mut client, mut server) = channels();
    let mut record = sealed(&mut client, b"hello");
    for end in 0..record.len() {
        assert_eq!(server.open(&mut record[..end]).unwrap(), Opened::Incomplete);
    }
    assert_eq!(opened(&mut server, &mut record), b"hello");
}

#[test]
fn what_was_altered_replayed_or_reordered_is_refused() {
    for flip in [0, 1, 5, 10, 26] {
        let (mut client, mut server) = channels();
        let mut record = sealed(&mut client, b"hello");
        record[flip] ^= 1;
        assert!(server.open(&mut record).is_err(), "byte {flip}");
    }
    let (mut client, mut server) = channels();
    let mut first = sealed(&mut client, b"first");
    let (mut replayed, mut second) = (first.clone(), sealed(&mut client, b"second"));
    assert_eq!(opened(&mut server, &mut first), b"first");
    assert_eq!(server.open(&mut replayed), Err(RecordError::Decrypt));
    assert!(
        server.open(&mut second).is_err(),
        "nothing is opened after a failure"
    );
}

#[test]
fn keys_are_updated_by_either_side() {
    let (mut client, mut server) = channels();
    assert!(!client.key_update_owed());
    for round in 0..3u8 {
        let mut update = [0; KEY_UPDATE_RECORD];
        client.seal_key_update(&mut update).unwrap();
        assert_eq!(
            server.open(&mut update).unwrap(),
            Opened::Control {
                consumed: KEY_UPDATE_RECORD
            }
        );
        let mut record = sealed(&mut client, &[round; 10]);
        assert_eq!(opened(&mut server, &mut record), [round; 10]);
        let mut record = sealed(&mut server, &[round; 10]);
        assert_eq!(opened(&mut client, &mut record), [round; 10]);
    }
}

#[test]
fn floods_and_alerts() {
    let (mut client, mut server) = channels();
    let flood = (0..1000).find_map(|_| {
        let mut update = [0; KEY_UPDATE_RECORD];
        client.seal_key_update(&mut update).unwrap();
        server.open(&mut update).err()
    });
    assert_eq!(flood, Some(RecordError::Flood));
    let (mut client, mut server) = channels();
    let mut close = [0; OVERHEAD + 2];
    client.seal_close(&mut close).unwrap();
    assert_eq!(
        server.open(&mut close).unwrap(),
        Opened::Closed {
            consumed: OVERHEAD + 2
        }
    );
}

#[test]
fn plaintext_after_the_handshake_is_refused() {
    let (_, mut server) = channels();
    for mut bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![21, 3, 3, 0, 2, 1, 0],
        vec![23, 3, 3, 0xff, 0xff],
        vec![23, 3, 3, 0, 3, 1, 2, 3],
    ] {
        assert!(matches!(
            server.open(&mut bytes),
            Err(RecordError::Malformed(_))
        ));
    }
}

#[test]
fn a_peer_that_speaks_rustls_streams_understands_us() {
    run(async {
        let authority = Authority::new_self_signed("cluster.local").unwrap();
        let (client_epoch, server_epoch) =
            (epoch(&authority, "client"), epoch(&authority, "server"));
        let (near, far) = pair().await;
        let connector = tokio_rustls::TlsConnector::from(client_epoch.client.config().clone());
        let connecting = connector.connect(crate::ClientTls::server_name(), near);
        let (stream, established) = tokio::join!(connecting, server(&far, &server_epoch.server));
        let (mut stream, mut channel) = (stream.unwrap(), established.unwrap().channel);
        far.try_write(&sealed(&mut channel, b"from a record"))
            .unwrap();
        let mut text = [0; 13];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"from a record");
        stream.get_mut().1.refresh_traffic_keys().unwrap();
        stream.write_all(b"from a stream").await.unwrap();
        stream.flush().await.unwrap();
        let mut received = Vec::new();
        let plain = loop {
            match channel.open(&mut received).unwrap() {
                Opened::Incomplete => {
                    far.readable().await.unwrap();
                    let mut more = [0; 4096];
                    if let Ok(n) = far.try_read(&mut more) {
                        received.extend_from_slice(&more[..n]);
                    }
                }
                Opened::Control { consumed } => drop(received.drain(..consumed)),
                Opened::Data { start, len, .. } => break received[start..start + len].to_vec(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(plain, b"from a stream");
        // rustls asked us to change our key too.
        assert!(channel.key_update_owed());
        let mut update = [0; KEY_UPDATE_RECORD];
        channel.seal_key_update(&mut update).unwrap();
        far.try_write(&update).unwrap();
        far.try_write(&sealed(&mut channel, b"under a new k"))
            .unwrap();
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"under a new k");
    });
}

#[test]
fn rubbish_instead_of_a_handshake() {
    run(async {
        let authority = Authority::new_self_signed("cluster.local").unwrap();
        let server_epoch = epoch(&authority, "server");
        // What is refused is refused with one alert, whatever else lies in the buffer; what is cut off just ends.
        for (rubbish, alerts) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 1),
            (vec![0; 300], 1),
            (vec![22, 3, 1, 0, 5, 1, 0, 0, 1, 9], 1),
            (vec![22, 3, 1, 64, 0], 0),
            // A hello that is none, and more of the same behind it.
            ([22, 3, 1, 0, 5, 1, 0, 0, 1, 9].repeat(20), 1),
            // A fragment of a message, then a record of an unknown type.
            (vec![22, 3, 1, 0, 4, 1, 0, 1, 0, 99, 3, 1, 0, 1, 0], 1),
        ] {
            let (mut near, far) = pair().await;
            near.write_all(&rubbish).await.unwrap();
            near.shutdown().await.unwrap();
            assert!(server(&far, &server_epoch.server).await.is_err());
            drop(far);
            assert_eq!(alert_records(&mut near).await, alerts, "{rubbish:?}");
        }
    });
}

/// Plaintext alert records until the end of the connection; nothing else may come.
async fn alert_records(socket: &mut TcpStream) -> usize {
    let mut all = Vec::new();
    socket.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len() % 7, 0, "{all:?}");
    for record in all.chunks(7) {
        assert_eq!(record[..6], [21, 3, 3, 0, 2, 2], "{all:?}");
    }
    all.len() / 7
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_bytes_are_refused_or_awaited(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let (_, mut server) = channels();
        let mut bytes = bytes;
        let accepted = matches!(server.open(&mut bytes), Ok(opened) if opened != Opened::Incomplete);
        prop_assert!(!accepted);
    }
}
