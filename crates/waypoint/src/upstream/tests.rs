use super::*;

/// HTTPRouteHTTPSListenerDetectMisdirectedRequests asks over HTTP/2, for backends that speak only HTTP/1.1.
#[test]
fn a_port_without_protocol_is_spoken_to_as_the_client_would_have_only_in_the_mesh() {
    for (grpc, inside, client, expected) in [
        (false, false, Version::HTTP_2, Protocol::Http1),
        (false, false, Version::HTTP_11, Protocol::Http1),
        (false, true, Version::HTTP_2, Protocol::Http2),
        (false, true, Version::HTTP_11, Protocol::Http1),
        (true, false, Version::HTTP_2, Protocol::Http2),
        (true, true, Version::HTTP_2, Protocol::Http2),
    ] {
        assert_eq!(assumed_of(grpc, inside, client), expected);
    }
}
