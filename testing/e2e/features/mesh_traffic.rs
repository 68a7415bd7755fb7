//! How routes of Services send on, at the waypoint: copies, CORS, timeouts, retries, WebSocket, TLS and bytes.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use tulle_linux::NetNs;
use tulle_testing::kubectl::{Kubectl, eventually};
use tulle_testing::processes;

use super::mesh::{CLIENT, mesh_route, service};
use super::secure::greeting;
use super::traffic::{mirrored, websocket};
use super::{Feature, SOON, told, walk};
use crate::stage::Stage;
use crate::table::{Asker, Row, get, secure};

pub(super) fn routes(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let asker = Asker::pod(kubectl, CLIENT);
    walk(stage, &asker, FEATURES, || {
        for (path, backends) in [
            ("/mesh-one", &["two"][..]),
            ("/mesh-two", &["two", "three"]),
        ] {
            asker.shares(get("busy", path).to("one"), 1)?;
            for backend in backends {
                mirrored(stage, backend, path, 1)?;
            }
        }
        let (web, bytes) = (
            address(kubectl, "busy", 80)?,
            address(kubectl, "bytes", 9000)?,
        );
        eventually("WebSocket", SOON, || in_client(kubectl, || websocket(web)))?;
        eventually("TCPRoute", SOON, || {
            let name = in_client(kubectl, || greeting(bytes))?;
            anyhow::ensure!(name == "three", "answered by {name}");
            Ok(())
        })?;
        told(
            kubectl,
            &[
                (
                    "TLSRoute/mesh-tls",
                    "sealed",
                    "Accepted",
                    "True",
                    "Accepted",
                ),
                (
                    "TLSRoute/mesh-tls",
                    "sealed",
                    "ResolvedRefs",
                    "True",
                    "ResolvedRefs",
                ),
                (
                    "TCPRoute/mesh-bytes",
                    "bytes",
                    "Accepted",
                    "True",
                    "Accepted",
                ),
            ],
        )?;
        eventually(
            "what is no request went through the waypoint, too",
            SOON,
            || {
                let log = kubectl.run("logs -n gw deploy/waypoint --tail=2000")?;
                for cluster in [
                    "outbound|443||two.gw.svc.cluster.local",
                    "outbound|9000||three.gw.svc.cluster.local",
                ] {
                    anyhow::ensure!(log.contains(cluster), "nothing about {cluster}: {log}");
                }
                Ok(())
            },
        )
    })
}

/// The address of a Service of namespace `gw`.
fn address(kubectl: &Kubectl, service: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let address: IpAddr = kubectl
        .run(&format!(
            "get service -n gw {service} -o=jsonpath={{.spec.clusterIP}}"
        ))?
        .parse()?;
    Ok(SocketAddr::new(address, port))
}

/// Does something in the network of the client's pod.
fn in_client<T>(kubectl: &Kubectl, what: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let pid = processes::one_of(kubectl, "-n gw -l app=sleep")?;
    let network = NetNs::open(Path::new(&format!("/proc/{pid}/ns/net")))?;
    network
        .enter(what)
        .context("entering the client's network")?
}

const fn preflight(path: &'static str, origin: &'static [(&'static str, &'static str)]) -> Row {
    get("busy", path).options(&["-XOPTIONS"]).with(origin)
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "HTTPRouteRequestMirror, HTTPRouteRequestMultipleMirrors",
        objects: concat!(
            service!("busy", "one"),
            mesh_route!(
                "HTTPRoute",
                "mesh-mirror",
                "busy",
                "80",
                r"
  - matches: [{path: {value: /mesh-one}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: two, port: 80}}}]
    backendRefs: [{name: busy, port: 80}]
  - matches: [{path: {value: /mesh-two}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: two, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: three, port: 80}}}
    backendRefs: [{name: busy, port: 80}]
  - matches: [{path: {value: /ws}}]
    backendRefs: [{name: busy, port: 80}]"
            )
        ),
        rows: &[get("busy", "/ws").to("one")],
    },
    Feature {
        name: "HTTPRouteCORS",
        objects: mesh_route!(
            "HTTPRoute",
            "mesh-cors",
            "busy",
            "80",
            r#"
  - matches: [{path: {value: /cors}}]
    filters: [{type: CORS, cors: {allowOrigins: ["https://*.bar.test"], allowMethods: [GET, PUT], exposeHeaders: [x-a], allowCredentials: true, maxAge: 60}}]
    backendRefs: [{name: two, port: 80}]"#
        ),
        rows: &[
            preflight(
                "/cors",
                &[
                    ("Origin", "https://a.bar.test"),
                    ("access-control-request-method", "PUT"),
                ],
            )
            .answered(&[
                ("access-control-allow-origin", "https://a.bar.test"),
                ("access-control-allow-credentials", "true"),
                ("access-control-max-age", "60"),
            ]),
            get("busy", "/cors")
                .with(&[("Origin", "https://a.bar.test")])
                .to("two")
                .answered(&[
                    ("access-control-allow-origin", "https://a.bar.test"),
                    ("access-control-expose-headers", "x-a"),
                ]),
            get("busy", "/cors")
                .with(&[("Origin", "https://foo.test")])
                .to("two")
                .unanswered(&["access-control-allow-origin"]),
        ],
    },
    Feature {
        name: "HTTPRouteTimeoutRequest, HTTPRouteTimeoutBackendRequest, HTTPRouteRetry, HTTPRouteRetryConnectionError",
        objects: mesh_route!(
            "HTTPRoute",
            "mesh-patience",
            "busy",
            "80",
            r"
  - {matches: [{path: {value: /request}}], timeouts: {request: 300ms}, backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {value: /backend}}], timeouts: {backendRequest: 300ms}, backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {value: /500}}], retry: {codes: [500], attempts: 3}, backendRefs: [{name: three, port: 80}]}
  - {matches: [{path: {value: /broken}}], retry: {attempts: 3}, backendRefs: [{name: three, port: 80}]}"
        ),
        rows: &[
            get("busy", "/request").to("one"),
            get("busy", "/request?delay=0.8").status(504),
            get("busy", "/backend?delay=0.8").status(504),
            get("busy", "/500?key=maUNIQUE&fail=2&status=500").to("three"),
            get("busy", "/500?key=mbUNIQUE&fail=4&status=500").status(500),
            get("busy", "/500?key=mcUNIQUE&fail=1&status=503").status(503),
            get("busy", "/broken?key=mdUNIQUE&fail=2&drop").to("three"),
        ],
    },
    Feature {
        name: "TLSRouteSimpleSameNamespace",
        objects: r#"
---
apiVersion: v1
kind: Service
metadata: {name: sealed, namespace: gw}
spec: {selector: {app: one}, ports: [{name: tls, port: 443, targetPort: 8443}, {name: tls-unrouted, port: 8443}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: mesh-tls, namespace: gw}
spec:
  parentRefs: [{group: "", kind: Service, name: sealed, port: 443}]
  hostnames: [sealed.gw.svc.cluster.local]
  rules: [{backendRefs: [{name: two, port: 443}]}]
"#,
        rows: &[
            secure("sealed.gw.svc.cluster.local", "/")
                .options(&["-k"])
                .to("two")
                .arrived(&[("sni", "sealed.gw.svc.cluster.local")]),
            secure("sealed.gw.svc.cluster.local", "/")
                .port(8443)
                .options(&["-k"])
                .to("one"),
        ],
    },
    Feature {
        name: "TCPRoute",
        objects: r#"
---
apiVersion: v1
kind: Service
metadata: {name: bytes, namespace: gw}
spec: {selector: {app: one}, ports: [{name: tcp, port: 9000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: mesh-bytes, namespace: gw}
spec:
  parentRefs: [{group: "", kind: Service, name: bytes, port: 9000}]
  rules: [{backendRefs: [{name: three, port: 9000}]}]
"#,
        rows: &[],
    },
];
