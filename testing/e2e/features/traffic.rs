//! How rules send requests on: timeouts, retries, weights, copies, protocols.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use tulle_testing::kubectl::eventually;

use super::{Feature, SOON, http_route, outside, socket, walk};
use crate::stage::Stage;
use crate::table::get;

/// Requests that are counted; a share of them is as it should be but once in millions of runs.
const CALLS: usize = 200;

pub(super) fn routes(stage: &Stage) -> anyhow::Result<()> {
    let asker = outside(stage, "gw")?;
    walk(stage, &asker, TRAFFIC, || {
        let shares = asker.shares(get("weight.test", "/"), CALLS)?;
        let of = |name: &str| shares.get(name).copied().unwrap_or_default();
        ensure!(
            (110..=170).contains(&of("one")) && of("one") + of("two") == CALLS,
            "70 to 30: {shares:?}"
        );
        for (path, backends) in [
            ("/mirror-one", &["two"][..]),
            ("/mirror-two", &["two", "three"]),
            ("/mirror-half", &["three"]),
        ] {
            let count = if path == "/mirror-half" { CALLS } else { 1 };
            asker.shares(get("mirror.test", path).to("one"), count)?;
            for backend in backends {
                mirrored(stage, backend, path, count)?;
            }
        }
        let address = socket(stage, "gw", 80)?;
        eventually("WebSocket", SOON, || websocket(address))
    })
}

/// A backend got its copies; all of them, or about half of many.
pub(super) fn mirrored(
    stage: &Stage,
    backend: &str,
    path: &str,
    count: usize,
) -> anyhow::Result<()> {
    eventually("copies arrive", SOON, || {
        let log = stage
            .kubectl
            .run(&format!("logs -n gw deploy/{backend} --tail=2000"))?;
        let copies = log
            .lines()
            .filter(|line| *line == format!("GET {path}"))
            .count();
        let good = if count == 1 {
            copies >= 1
        } else {
            (count / 4..=count * 3 / 4).contains(&copies)
        };
        ensure!(
            good,
            "{copies} copies of {count} requests for {path} came to {backend}"
        );
        Ok(())
    })
}

/// HTTPRouteBackendProtocolWebSocket: a handshake, and a message that comes back.
pub(super) fn websocket(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(
        b"GET /ws HTTP/1.1\r\nHost: protocol.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    ensure!(
        head.starts_with("http/1.1 101") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'])?;
    let mut frame = [0; 4];
    stream.read_exact(&mut frame)?;
    ensure!(frame == [0x81, 0x02, b'h', b'i'], "{frame:?}");
    Ok(())
}

const TRAFFIC: &[Feature] = &[
    Feature {
        name: "HTTPRouteTimeoutRequest, HTTPRouteTimeoutBackendRequest",
        objects: http_route!(
            "timeouts",
            "timeouts.test",
            r"
  - {matches: [{path: {value: /request}}], timeouts: {request: 300ms}, backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {value: /backend}}], timeouts: {backendRequest: 300ms}, backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {value: /none}}], timeouts: {request: 0s}, backendRefs: [{name: one, port: 80}]}"
        ),
        rows: &[
            get("timeouts.test", "/request").to("one"),
            get("timeouts.test", "/request?delay=0.8").status(504),
            get("timeouts.test", "/backend").to("one"),
            get("timeouts.test", "/backend?delay=0.8").status(504),
            get("timeouts.test", "/none?delay=0.5").to("one"),
        ],
    },
    Feature {
        name: "HTTPRouteRetry, HTTPRouteRetryConnectionError, HTTPRouteRetryWithTimeouts",
        objects: http_route!(
            "retries",
            "retries.test",
            r"
  - {matches: [{path: {value: /500}}], retry: {codes: [500], attempts: 3}, backendRefs: [{name: three, port: 80}]}
  - {matches: [{path: {value: /more}}], retry: {codes: [502, 503], attempts: 2}, backendRefs: [{name: three, port: 80}]}
  - {matches: [{path: {value: /broken}}], retry: {attempts: 3}, backendRefs: [{name: three, port: 80}]}
  - matches: [{path: {value: /slow}}]
    retry: {attempts: 2}
    timeouts: {backendRequest: 200ms}
    backendRefs: [{name: three, port: 80}]
  - matches: [{path: {value: /all}}]
    retry: {codes: [500], attempts: 5}
    timeouts: {backendRequest: 200ms, request: 400ms}
    backendRefs: [{name: three, port: 80}]"
        ),
        rows: &[
            get("retries.test", "/500?key=aUNIQUE&fail=2&status=500").to("three"),
            get("retries.test", "/500?key=bUNIQUE&fail=4&status=500").status(500),
            get("retries.test", "/500?key=cUNIQUE&fail=1&status=503").status(503),
            get("retries.test", "/more?key=dUNIQUE&fail=1&status=502").to("three"),
            get("retries.test", "/more?key=eUNIQUE&fail=3&status=503").status(503),
            get("retries.test", "/broken?key=fUNIQUE&fail=2&drop").to("three"),
            get("retries.test", "/broken?key=gUNIQUE&fail=4&drop").status(503),
            get("retries.test", "/slow?key=hUNIQUE&fail=2&delay=0.6").to("three"),
            get("retries.test", "/slow?key=iUNIQUE&fail=3&delay=0.6").status(504),
            get("retries.test", "/all?key=jUNIQUE&fail=1&status=500").to("three"),
            get(
                "retries.test",
                "/all?key=kUNIQUE&fail=4&delay=0.15&status=500",
            )
            .status(504),
        ],
    },
    Feature {
        name: "HTTPRouteBackendProtocolH2C",
        objects: http_route!(
            "protocol",
            "protocol.test",
            r"
  - {matches: [{path: {value: /h2c}}], backendRefs: [{name: h2c, port: 80}]}
  - {matches: [{path: {value: /ws}}], backendRefs: [{name: ws, port: 80}]}
  - {matches: [{path: {value: /plain}}], backendRefs: [{name: one, port: 80}]}"
        ),
        rows: &[
            get("protocol.test", "/h2c")
                .to("one")
                .arrived(&[("protocol", "HTTP/2.0")]),
            get("protocol.test", "/h2c")
                .options(&["--http2-prior-knowledge"])
                .arrived(&[("protocol", "HTTP/2.0")]),
            get("protocol.test", "/ws")
                .to("one")
                .arrived(&[("protocol", "HTTP/1.1")]),
            get("protocol.test", "/plain")
                .arrived(&[("protocol", "HTTP/1.1"), ("host", "protocol.test")]),
        ],
    },
    Feature {
        name: "HTTPRouteWeight, HTTPRouteRequestHeaderModifierBackendWeights",
        objects: http_route!(
            "weight",
            "weight.test",
            r"
  - backendRefs:
    - {name: one, port: 80, weight: 70}
    - {name: two, port: 80, weight: 30}
    - {name: three, port: 80, weight: 0}"
        ),
        rows: &[get("weight.test", "/")],
    },
    Feature {
        name: "HTTPRouteRequestMirror, HTTPRouteRequestMultipleMirrors, HTTPRouteRequestPercentageMirror",
        objects: http_route!(
            "mirror",
            "mirror.test",
            r"
  - matches: [{path: {value: /mirror-one}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: two, port: 80}}}]
    backendRefs: [{name: one, port: 80}]
  - matches: [{path: {value: /mirror-two}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: two, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: three, port: 80}}}
    backendRefs: [{name: one, port: 80}]
  - matches: [{path: {value: /mirror-half}}]
    filters: [{type: RequestMirror, requestMirror: {percent: 50, backendRef: {name: three, port: 80}}}]
    backendRefs: [{name: one, port: 80}]"
        ),
        rows: &[get("mirror.test", "/mirror-one").to("one")],
    },
];
