//! Requests of HTTP/1.

pub(crate) fn head() -> Vec<Vec<u8>> {
    let heads: [&[u8]; 6] = [
        b"GET /a?b=c HTTP/1.1\r\nHost: reviews:9080\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nconnection: keep-alive, x-y\r\nx-y: 1\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: [fd00::1]:80\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    ];
    heads.map(<[u8]>::to_vec).to_vec()
}

pub(crate) fn chunks() -> Vec<Vec<u8>> {
    let bodies: [&[u8]; 4] = [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"A;name=value;other=\"quoted\"\r\n0123456789\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\nGET /",
        b"0000005\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\n",
    ];
    bodies.map(<[u8]>::to_vec).to_vec()
}
