use super::*;

#[test]
fn what_is_spoken() {
    let http = Some(Spoken::Http);
    let bytes = Some(Spoken::Bytes);
    for (text, expected) in [
        ("", None),
        ("G", None),
        ("GET", None),
        ("GET ", None),
        ("GET /", http.clone()),
        ("OPTIONS *", http.clone()),
        ("PROPFIND /x HTTP/1.1\r\n", http.clone()),
        ("GET http://a/b HTTP/1.1\r\n", http.clone()),
        ("CONNECT a:443 HTTP/1.1\r\n", http.clone()),
        ("CONNECT a:443", None),
        ("EHLO mail.example\r\n", bytes.clone()),
        ("PRI * HTTP/2.0\r\n", None),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", http),
        ("*1\r\n$4\r\nPING\r\n", bytes.clone()),
        ("AVERYLONGWORDINCAPITALS", bytes.clone()),
        ("get /", bytes.clone()),
        ("\0\0\0\x08", bytes),
    ] {
        assert_eq!(judge(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn tls_is_told_from_what_only_begins_like_it() {
    assert_eq!(judge(b"\x16"), None);
    assert_eq!(judge(b"\x16\x03\x01\x02\x00"), None);
    assert_eq!(judge(b"\x16ssh-2.0-something"), Some(Spoken::Bytes));
}

#[tokio::test]
async fn what_was_read_is_read_again_and_silence_is_a_server_that_speaks_first() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let mut io = Io::from(listener.accept().await.unwrap().0);
    let silent = sniff(&mut io, Duration::from_millis(20)).await.unwrap();
    assert_eq!(silent, Spoken::Bytes);

    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let spoken = sniff(&mut io, Duration::from_secs(5)).await.unwrap();
    assert_eq!(spoken, Spoken::Http);
    let mut back = vec![0; 18];
    io.read_exact(&mut back).await.unwrap();
    assert_eq!(back, b"GET / HTTP/1.1\r\n\r\n");
}
