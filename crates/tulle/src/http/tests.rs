use super::*;

#[tokio::test]
async fn an_answer_is_read_to_its_end() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let server = tokio::spawn(async move {
        let mut request = vec![0; 512];
        let read = theirs.read(&mut request).await.unwrap();
        theirs
            .write_all(b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello")
            .await
            .unwrap();
        String::from_utf8(request[..read].to_vec()).unwrap()
    });
    assert_eq!(ask(ours, "GET", "/config_dump").await.unwrap(), b"hello");
    assert!(
        server
            .await
            .unwrap()
            .starts_with("GET /config_dump HTTP/1.0\r\n")
    );
}

#[test]
fn bad_answers_are_told_apart() {
    for (answer, expected) in [
        (
            &b"HTTP/1.1 404 Not Found\r\n\r\nno such page"[..],
            "404: no such page",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
            "5 of 9",
        ),
        (b"SSH-2.0", "no HTTP"),
        (b"", "no HTTP"),
    ] {
        let error = body(answer).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(
        body(b"HTTP/1.1 200 OK\r\n\r\nto the end").unwrap(),
        b"to the end"
    );
}
