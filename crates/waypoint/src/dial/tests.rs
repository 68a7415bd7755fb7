use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn proxy_protocol_as_its_specification_has_it() {
    let (four, six) = (address("10.0.0.1:4000"), address("[fd00::1]:80"));
    assert_eq!(
        proxy_header(1, four, address("10.0.0.2:80")),
        b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\n"
    );
    assert_eq!(
        proxy_header(1, six, address("[fd00::2]:81")),
        b"PROXY TCP6 fd00::1 fd00::2 80 81\r\n"
    );
    assert_eq!(proxy_header(1, four, six), b"PROXY UNKNOWN\r\n");
    let two = proxy_header(2, four, address("10.0.0.2:80"));
    assert_eq!(
        two,
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x0f\xa0\0\x50"
    );
    let mixed = proxy_header(2, four, six);
    assert_eq!((mixed[13], mixed.len()), (0x21, 16 + 36));
}
