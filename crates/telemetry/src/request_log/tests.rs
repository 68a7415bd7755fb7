use std::time::UNIX_EPOCH;

use super::*;
use crate::requests::Flag;

fn record(format: RequestFormat) -> RequestRecord {
    let headers = |name: &str| match name {
        ":method" => Some("GET".into()),
        ":path" => Some("/reviews/0?x=1".into()),
        ":authority" => Some("reviews:9080".into()),
        "user-agent" => Some("curl/8.5.0".into()),
        "x-request-id" => Some("7c9e6679".into()),
        "x-evil" => Some("a\nb\"c".into()),
        _ => None,
    };
    RequestRecord {
        request: format.request_headers().map(headers).collect(),
        response: format
            .response_headers()
            .map(|name| (name == "server").then(|| "envoy".into()))
            .collect(),
        format: Arc::new(format),
        start: UNIX_EPOCH + Duration::from_micros(1_767_225_599_000_042),
        protocol: "HTTP/1.1",
        code: 200,
        flags: Flags::default(),
        details: Some("via_upstream".into()),
        termination: None,
        upstream_failure: None,
        bytes_received: 0,
        bytes_sent: 358,
        duration: Duration::from_millis(13),
        upstream_time: Some(Duration::from_millis(12)),
        upstream_host: "10.244.2.7:9080".parse().ok(),
        upstream_cluster: Some("outbound|9080|v1|reviews.default.svc.cluster.local".into()),
        upstream_local: None,
        downstream_local: "10.96.0.7:9080".parse().ok(),
        downstream_remote: "10.244.1.5:41000".parse().ok(),
        server_name: None,
        route: Some("default".into()),
        peer: Some("spiffe://cluster.local/ns/default/sa/sleep".into()),
        grpc_status: None,
        trace: None,
    }
}

fn line(record: &RequestRecord) -> String {
    let mut out = String::new();
    record.write_line(&mut out).unwrap();
    out
}

#[test]
fn the_default_line_is_istio_s() {
    let expected = "[2025-12-31T23:59:59.000Z] \"GET /reviews/0?x=1 HTTP/1.1\" 200 - via_upstream - \"-\" 0 358 13 12 \
        \"-\" \"curl/8.5.0\" \"7c9e6679\" \"reviews:9080\" \"10.244.2.7:9080\" \
        outbound|9080|v1|reviews.default.svc.cluster.local - 10.96.0.7:9080 10.244.1.5:41000 - default\n";
    assert_eq!(line(&record(RequestFormat::default_text())), expected);
}

#[test]
fn a_refusal_names_the_policy() {
    let mut refused = record(RequestFormat::default_text());
    refused.code = 403;
    refused.details =
        Some("rbac_access_denied_matched_policy[ns[default]-policy[deny]-rule[0]]".into());
    refused.flags = Flag::RateLimited.into();
    let line = line(&refused);
    assert!(
        line.contains(
            " 403 RL rbac_access_denied_matched_policy[ns[default]-policy[deny]-rule[0]] - "
        ),
        "{line}"
    );
}

#[test]
fn json_has_istio_s_keys_and_nulls() {
    let text = line(&record(RequestFormat::default_json()));
    let expected = "{\"start_time\":\"2025-12-31T23:59:59.000Z\",\"method\":\"GET\",\"path\":\"/reviews/0?x=1\",\
        \"protocol\":\"HTTP/1.1\",\"response_code\":200,\"response_flags\":\"-\",\
        \"response_code_details\":\"via_upstream\",\"connection_termination_details\":null,\
        \"upstream_transport_failure_reason\":null,\"bytes_received\":0,\"bytes_sent\":358,\"duration\":13,\
        \"upstream_service_time\":12,\"x_forwarded_for\":null,\"user_agent\":\"curl/8.5.0\",\
        \"request_id\":\"7c9e6679\",\"authority\":\"reviews:9080\",\"upstream_host\":\"10.244.2.7:9080\",\
        \"upstream_cluster\":\"outbound|9080|v1|reviews.default.svc.cluster.local\",\
        \"upstream_local_address\":null,\"downstream_local_address\":\"10.96.0.7:9080\",\
        \"downstream_remote_address\":\"10.244.1.5:41000\",\"requested_server_name\":null,\
        \"route_name\":\"default\"}\n";
    assert_eq!(text, expected);
}

#[test]
fn users_write_formats_of_their_own() {
    let format = RequestFormat::text(
        "%REQ_WITHOUT_QUERY(:PATH)% %REQ(USER-AGENT):4% 100%% %RESP(SERVER)% %DOWNSTREAM_PEER_URI_SAN% %SOMETHING_NEW(x)%",
    );
    let text = line(&record(format.unwrap()));
    assert_eq!(
        text,
        "/reviews/0 curl 100% envoy spiffe://cluster.local/ns/default/sa/sleep -\n"
    );
    assert!(matches!(
        RequestFormat::text("%PROTOCOL"),
        Err(FormatError::Open(_))
    ));
    assert!(matches!(
        RequestFormat::text("%REQ%"),
        Err(FormatError::Argument(_))
    ));
}

#[test]
fn what_peers_send_cannot_forge_a_line() {
    let text = line(&record(RequestFormat::text("\"%REQ(X-EVIL)%\"").unwrap()));
    assert_eq!(text, "\"a\\u000ab\\\"c\"\n");
}

#[test]
fn a_record_has_a_text_and_labels() {
    let labels = [
        ("code", "%RESPONSE_CODE%"),
        ("agent", "%REQ(USER-AGENT)%"),
        ("none", "%REQ(X-NONE)%"),
    ];
    let format = RequestFormat::labelled(Some("%REQ(:METHOD)% %RESPONSE_FLAGS%\n"), labels);
    let record = record(format.unwrap());
    assert_eq!(record.text(), "GET -");
    let expected = [("code", "200"), ("agent", "curl/8.5.0"), ("none", "-")];
    assert_eq!(
        record.labels(),
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    let standard = RequestFormat::labelled(None, []).unwrap();
    let record = self::record(standard);
    assert!(
        record
            .text()
            .starts_with("[2025-12-31T23:59:59.000Z] \"GET ")
    );
    assert!(record.labels().is_empty());
}
