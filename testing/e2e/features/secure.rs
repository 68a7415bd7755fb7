//! TLS that ends at the gateway, behind it, or nowhere: HTTPS, TLSRoute, TCPRoute, BackendTLSPolicy.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use tulle_testing::kubectl::eventually;

use super::{Feature, SOON, http_route, outside, socket, told, walk};
use crate::stage::Stage;
use crate::table::{get, secure};

pub(super) fn listeners(stage: &Stage) -> anyhow::Result<()> {
    let asker = outside(stage, "gw")?;
    walk(stage, &asker, FEATURES, || {
        let (tcp, split, nowhere) = (
            socket(stage, "gw", 9000)?,
            socket(stage, "gw", 9001)?,
            socket(stage, "gw", 9002)?,
        );
        eventually("TCPRoute", SOON, || {
            ensure!(greeting(tcp)? == "one", "another backend");
            Ok(())
        })?;
        // TCPRouteWeightedRouting
        let mut shares = BTreeMap::<String, usize>::new();
        for _ in 0..100 {
            *shares.entry(greeting(split)?).or_default() += 1;
        }
        let one = shares.get("one").copied().unwrap_or_default();
        ensure!(
            (45..=92).contains(&one) && one + shares["two"] == 100,
            "70 to 30: {shares:?}"
        );
        // TCPRouteInvalidBackendRefNonexistent
        ensure!(
            greeting(nowhere).is_err(),
            "a route to nothing leads somewhere"
        );
        told(
            &stage.kubectl,
            &[
                ("TLSRoute/pass", "gw", "Accepted", "True", "Accepted"),
                (
                    "TLSRoute/pass",
                    "gw",
                    "ResolvedRefs",
                    "True",
                    "ResolvedRefs",
                ),
                ("TCPRoute/tcp-nowhere", "gw", "Accepted", "True", "Accepted"),
                (
                    "TCPRoute/tcp-nowhere",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "BackendNotFound",
                ),
                // TCPRouteInvalidNonTCPListener
                (
                    "TCPRoute/tcp-to-http",
                    "gw",
                    "Accepted",
                    "False",
                    "NotAllowedByListeners",
                ),
                (
                    "BackendTLSPolicy/good",
                    "gw",
                    "Accepted",
                    "True",
                    "Accepted",
                ),
                (
                    "BackendTLSPolicy/good",
                    "gw",
                    "ResolvedRefs",
                    "True",
                    "ResolvedRefs",
                ),
                (
                    "BackendTLSPolicy/contested-a",
                    "gw",
                    "Accepted",
                    "True",
                    "Accepted",
                ),
                (
                    "BackendTLSPolicy/contested-b",
                    "gw",
                    "Accepted",
                    "False",
                    "Conflicted",
                ),
                (
                    "BackendTLSPolicy/of-the-section",
                    "gw",
                    "Accepted",
                    "True",
                    "Accepted",
                ),
                (
                    "BackendTLSPolicy/no-roots",
                    "gw",
                    "Accepted",
                    "False",
                    "NoValidCACertificate",
                ),
                (
                    "BackendTLSPolicy/no-roots",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "InvalidCACertificateRef",
                ),
            ],
        )
    })
}

/// Says something, and hears who gives it back.
pub(super) fn greeting(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"back\n")?;
    let mut lines = BufReader::new(stream).lines();
    let mut next = || lines.next().transpose();
    let (hello, back) = (next()?.unwrap_or_default(), next()?.unwrap_or_default());
    ensure!(back == "back", "{hello:?}, then {back:?}");
    Ok(hello.trim_start_matches("hello from ").to_owned())
}

/// A Service over the TLS port of the echo `one`, whose certificate is for `echo.backend.test`.
macro_rules! tls_service {
    ($name:literal) => {
        concat!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: ",
            $name,
            ", namespace: gw}\nspec: {selector: {app: one}, ports: [{name: https, port: 443, targetPort: 8443, appProtocol: https}]}\n"
        )
    };
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "HTTPRouteHTTPSListener, HTTPRouteHTTPSListenerDetectMisdirectedRequests",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: https-one, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: https-one}]
  rules: [{backendRefs: [{name: one, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: https-two, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: https-two}, {name: gw, sectionName: https-wild}]
  rules: [{backendRefs: [{name: two, port: 80}]}]
",
        rows: &[
            secure("one.secure.test", "/")
                .to("one")
                .arrived(&[("x-forwarded-proto", "https")]),
            secure("one.secure.test", "/")
                .options(&["--http2"])
                .to("one"),
            secure("one.secure.test", "/")
                .options(&["--http1.1"])
                .to("one"),
            secure("one.secure.test", "/")
                .options(&["--tls-max", "1.2"])
                .to("one"),
            secure("two.secure.test", "/").to("two"),
            secure("any.wild.test", "/").to("two"),
            secure("unknown.secure.test", "/").options(&["-k"]).fails(),
            secure("one.secure.test", "/")
                .with(&[("Host", "two.secure.test")])
                .status(421),
            secure("one.secure.test", "/")
                .with(&[("Host", "elsewhere.test")])
                .status(404),
            get("one.secure.test", "/").port(443).fails(),
        ],
    },
    Feature {
        name: "GatewayFrontendClientCertificateValidation",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mutual, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: mutual}]
  rules: [{backendRefs: [{name: three, port: 80}]}]
",
        rows: &[
            secure("mutual.test", "/")
                .port(8445)
                .options(&[
                    "--cert",
                    "DIRECTORY/client.crt",
                    "--key",
                    "DIRECTORY/client.key",
                ])
                .to("three"),
            secure("mutual.test", "/")
                .port(8445)
                .options(&[
                    "--cert",
                    "DIRECTORY/unknown.crt",
                    "--key",
                    "DIRECTORY/unknown.key",
                ])
                .fails(),
            secure("mutual.test", "/").port(8445).fails(),
        ],
    },
    Feature {
        name: "TLSRouteSimpleSameNamespace, TLSRouteHostnameIntersection",
        objects: r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: pass, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: passthrough}]
  hostnames: [a.pass.test, b.pass.test, other.test]
  rules: [{backendRefs: [{name: one, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: pass-wild, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: passthrough}]
  hostnames: ["*.pass.test"]
  rules: [{backendRefs: [{name: two, port: 443}]}]
"#,
        rows: &[
            secure("a.pass.test", "/")
                .port(8443)
                .to("one")
                .arrived(&[("sni", "a.pass.test"), ("protocol", "HTTP/2.0")]),
            secure("b.pass.test", "/")
                .port(8443)
                .to("one")
                .arrived(&[("sni", "b.pass.test")]),
            secure("c.pass.test", "/").port(8443).to("two"),
            secure("other.test", "/")
                .port(8443)
                .options(&["-k"])
                .fails(),
        ],
    },
    Feature {
        name: "TLSRouteTerminateSimpleSameNamespace, TLSRouteMixedTerminationSameNamespace",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: terminate, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: terminate}]
  hostnames: [end.test]
  rules: [{backendRefs: [{name: three, port: 80}]}]
",
        rows: &[secure("end.test", "/")
            .port(8443)
            .to("three")
            .arrived(&[("protocol", "HTTP/1.1")])],
    },
    Feature {
        name: "TCPRoute",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: tcp}]
  rules: [{backendRefs: [{name: one, port: 9000}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp-split, namespace: gw}
spec:
  parentRefs: [{name: gw, port: 9001}]
  rules: [{backendRefs: [{name: one, port: 9000, weight: 70}, {name: two, port: 9000, weight: 30}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp-nowhere, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: tcp-nowhere}]
  rules: [{backendRefs: [{name: no-such-service, port: 9000}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp-to-http, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: http-8080}]
  rules: [{backendRefs: [{name: one, port: 9000}]}]
",
        rows: &[],
    },
    Feature {
        name: "BackendTLSPolicy, BackendTLSPolicySANValidation, BackendTLSPolicyConflictResolution, BackendTLSPolicyInvalidCACertificateRef, GatewayTLSBackendClientCertificate",
        objects: concat!(
            tls_service!("tls-good"),
            tls_service!("tls-san"),
            tls_service!("tls-name"),
            tls_service!("tls-root"),
            tls_service!("tls-broken"),
            tls_service!("tls-contested"),
            r#"
---
apiVersion: v1
kind: Service
metadata: {name: tls-sections, namespace: gw}
spec:
  selector: {app: one}
  ports:
  - {name: https, port: 443, targetPort: 8443, appProtocol: https}
  - {name: https-other, port: 8443, targetPort: 8443, appProtocol: https}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: contested-a, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: tls-contested}]
  validation: {hostname: echo.backend.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: root}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: contested-b, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: tls-contested}]
  validation: {hostname: not.in.the.certificate, caCertificateRefs: [{group: "", kind: ConfigMap, name: root}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: of-the-service, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: tls-sections}]
  validation: {hostname: echo.backend.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: root}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: of-the-section, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: tls-sections, sectionName: https}]
  validation: {hostname: not.in.the.certificate, caCertificateRefs: [{group: "", kind: ConfigMap, name: root}]}
"#,
            r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: good, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: tls-good}]
  validation: {hostname: echo.backend.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: root}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: san, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: tls-san, sectionName: https}]
  validation:
    hostname: not.in.the.certificate
    subjectAltNames: [{type: URI, uri: "spiffe://backend.test/echo"}]
    caCertificateRefs: [{group: "", kind: ConfigMap, name: root}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: wrong-name, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: tls-name}]
  validation: {hostname: not.in.the.certificate, caCertificateRefs: [{group: "", kind: ConfigMap, name: root}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: wrong-root, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: tls-root}]
  validation: {hostname: echo.backend.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: stranger}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: no-roots, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: tls-broken}]
  validation: {hostname: echo.backend.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: no-such-map}]}
"#,
            http_route!(
                "backend-tls",
                "backend-tls.test",
                r"
  - {matches: [{path: {value: /good}}], backendRefs: [{name: tls-good, port: 443}]}
  - {matches: [{path: {value: /san}}], backendRefs: [{name: tls-san, port: 443}]}
  - {matches: [{path: {value: /name}}], backendRefs: [{name: tls-name, port: 443}]}
  - {matches: [{path: {value: /root}}], backendRefs: [{name: tls-root, port: 443}]}
  - {matches: [{path: {value: /broken}}], backendRefs: [{name: tls-broken, port: 443}]}
  - {matches: [{path: {value: /contested}}], backendRefs: [{name: tls-contested, port: 443}]}
  - {matches: [{path: {value: /section}}], backendRefs: [{name: tls-sections, port: 443}]}
  - {matches: [{path: {value: /other-section}}], backendRefs: [{name: tls-sections, port: 8443}]}"
            ),
        ),
        rows: &[
            get("backend-tls.test", "/good")
                .to("one")
                .arrived(&[("sni", "echo.backend.test"), ("client", "client.test")]),
            get("backend-tls.test", "/san")
                .to("one")
                .arrived(&[("sni", "not.in.the.certificate")]),
            get("backend-tls.test", "/name").status(503),
            get("backend-tls.test", "/root").status(503),
            get("backend-tls.test", "/broken").status(503),
            get("backend-tls.test", "/contested")
                .to("one")
                .arrived(&[("sni", "echo.backend.test")]),
            get("backend-tls.test", "/section").status(503),
            get("backend-tls.test", "/other-section").to("one"),
        ],
    },
];
