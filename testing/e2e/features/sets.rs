//! Listeners: what is wrong with some of the Gateway's own, and those that ListenerSets add.

use anyhow::ensure;
use tulle_testing::kubectl::eventually;

use super::{Feature, SOON, outside, told, walk};
use crate::stage::Stage;
use crate::table::{get, secure};

pub(super) fn listeners(stage: &Stage) -> anyhow::Result<()> {
    let asker = outside(stage, "gw")?;
    let kubectl = &stage.kubectl;
    walk(stage, &asker, FEATURES, || {
        told(kubectl, OWN)?;
        told(kubectl, SETS)?;
        eventually("a set of another namespace is refused", SOON, || {
            let set = kubectl.json("get listenerset -n gw-other elsewhere")?;
            let accepted = set["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|c| c["type"] == "Accepted");
            let seen = accepted.map(|c| (c["status"].as_str(), c["reason"].as_str()));
            ensure!(seen == Some((Some("False"), Some("NotAllowed"))), "{set:#}");
            Ok(())
        })?;
        eventually("routes and sets are counted", SOON, || {
            let gateway = kubectl.json("get gateway -n gw gw")?;
            ensure!(
                gateway["status"]["attachedListenerSets"] == 1,
                "{}",
                gateway["status"]["attachedListenerSets"]
            );
            let listeners = gateway["status"]["listeners"]
                .as_array()
                .into_iter()
                .flatten();
            let counts: Vec<_> = listeners
                .filter(|l| l["name"] == "http-8080")
                .map(|l| &l["attachedRoutes"])
                .collect();
            ensure!(counts == [2], "{counts:?}");
            Ok(())
        })?;
        // GatewayModifyListeners: one more, and away with it.
        let add = r#"[{"op":"add","path":"/spec/listeners/-","value":{"name":"late","port":8099,"protocol":"HTTP","hostname":"late.test"}}]"#;
        kubectl.run_args(&[
            "patch",
            "gateway",
            "-n",
            "gw",
            "gw",
            "--type=json",
            "-p",
            add,
        ])?;
        told(
            kubectl,
            &[
                ("Gateway/gw", "late", "Programmed", "True", "Programmed"),
                ("Gateway/gw", "", "Programmed", "True", "Programmed"),
            ],
        )?;
        let late = get("late.test", "/late").port(8099);
        asker.expect(&[("GatewayModifyListeners", &[late.to("one")])])?;
        let last = kubectl.json("get gateway -n gw gw")?["spec"]["listeners"]
            .as_array()
            .map_or(0, Vec::len)
            - 1;
        let remove = format!(r#"[{{"op":"remove","path":"/spec/listeners/{last}"}}]"#);
        kubectl.run_args(&[
            "patch",
            "gateway",
            "-n",
            "gw",
            "gw",
            "--type=json",
            "-p",
            &remove,
        ])?;
        asker.expect(&[("GatewayModifyListeners", &[late.fails()])])
    })
}

const OWN: &[super::Told] = &[
    ("Gateway/gw", "", "Accepted", "True", "ListenersNotValid"),
    ("Gateway/gw", "", "Programmed", "True", "Programmed"),
    ("Gateway/gw", "http", "Accepted", "True", "Accepted"),
    ("Gateway/gw", "http", "Programmed", "True", "Programmed"),
    ("Gateway/gw", "http", "Conflicted", "False", "NoConflicts"),
    // GatewayInvalidTLSConfiguration
    (
        "Gateway/gw",
        "bad-missing",
        "ResolvedRefs",
        "False",
        "InvalidCertificateRef",
    ),
    ("Gateway/gw", "bad-missing", "Accepted", "True", "Accepted"),
    (
        "Gateway/gw",
        "bad-missing",
        "Programmed",
        "False",
        "Invalid",
    ),
    (
        "Gateway/gw",
        "bad-group",
        "ResolvedRefs",
        "False",
        "InvalidCertificateRef",
    ),
    (
        "Gateway/gw",
        "bad-kind",
        "ResolvedRefs",
        "False",
        "InvalidCertificateRef",
    ),
    (
        "Gateway/gw",
        "bad-content",
        "ResolvedRefs",
        "False",
        "InvalidCertificateRef",
    ),
    // GatewaySecretMissingReferenceGrant, GatewaySecretReferenceGrantSpecific
    (
        "Gateway/gw",
        "bad-grant",
        "ResolvedRefs",
        "False",
        "RefNotPermitted",
    ),
    (
        "Gateway/gw",
        "granted",
        "ResolvedRefs",
        "True",
        "ResolvedRefs",
    ),
    // GatewayListenerUnsupportedProtocol
    (
        "Gateway/gw",
        "bad-protocol",
        "Accepted",
        "False",
        "UnsupportedProtocol",
    ),
    // GatewayInvalidRouteKind, TLSRouteListenerPassthroughSupportedKinds
    (
        "Gateway/gw",
        "bad-kinds",
        "ResolvedRefs",
        "False",
        "InvalidRouteKinds",
    ),
    (
        "Gateway/gw",
        "half-kinds",
        "ResolvedRefs",
        "False",
        "InvalidRouteKinds",
    ),
    (
        "Gateway/gw",
        "tls-kinds",
        "ResolvedRefs",
        "False",
        "InvalidRouteKinds",
    ),
];

const SETS: &[super::Told] = &[
    (
        "ListenerSet/set",
        "",
        "Accepted",
        "True",
        "ListenersNotValid",
    ),
    (
        "ListenerSet/set",
        "set-http",
        "Accepted",
        "True",
        "Accepted",
    ),
    (
        "ListenerSet/set",
        "set-http",
        "Programmed",
        "True",
        "Programmed",
    ),
    (
        "ListenerSet/set",
        "set-https",
        "ResolvedRefs",
        "True",
        "ResolvedRefs",
    ),
    (
        "ListenerSet/set",
        "same-host",
        "Conflicted",
        "True",
        "HostnameConflict",
    ),
    (
        "ListenerSet/set",
        "same-host",
        "Accepted",
        "False",
        "HostnameConflict",
    ),
    (
        "ListenerSet/set",
        "same-port",
        "Conflicted",
        "True",
        "ProtocolConflict",
    ),
    (
        "ListenerSet/unwanted",
        "",
        "Accepted",
        "False",
        "NotAllowed",
    ),
    ("HTTPRoute/set", "set", "Accepted", "True", "Accepted"),
    (
        "HTTPRoute/set-section",
        "gw",
        "Accepted",
        "False",
        "NoMatchingParent",
    ),
];

const FEATURES: &[Feature] = &[
    Feature {
        name: concat!(
            "ListenerSetHTTPRouting, ListenerSetDualParentRefIndependence, ListenerSetHostnameConflict, ",
            "ListenerSetProtocolConflict, ListenerSetDefaultNotAllowed, ListenerSetAllowedNamespaceSame, ListenerSetGatewayParentSectionNameNotFound"
        ),
        objects: r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: set, namespace: gw}
spec:
  parentRef: {name: gw}
  listeners:
  - {name: set-http, port: 8090, protocol: HTTP, hostname: set.test}
  - {name: set-https, port: 443, protocol: HTTPS, hostname: set.test, tls: {certificateRefs: [{name: two}]}}
  - {name: same-host, port: 8081, protocol: HTTP, hostname: bar.test}
  - {name: same-port, port: 9000, protocol: HTTP, hostname: set.test}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: unwanted, namespace: gw}
spec:
  parentRef: {name: plain}
  listeners: [{name: http, port: 8091, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: elsewhere, namespace: gw-other}
spec:
  parentRef: {name: gw, namespace: gw}
  listeners: [{name: http, port: 8092, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: set, namespace: gw}
spec:
  parentRefs: [{kind: ListenerSet, name: set}]
  rules: [{matches: [{path: {value: /set}}], backendRefs: [{name: one, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: set-both, namespace: gw}
spec:
  parentRefs: [{kind: ListenerSet, name: set}, {name: gw, sectionName: http}]
  hostnames: [set.test]
  rules: [{matches: [{path: {value: /both}}], backendRefs: [{name: two, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: set-section, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: set-http}]
  rules: [{matches: [{path: {value: /section}}], backendRefs: [{name: two, port: 80}]}]
"#,
        rows: &[
            get("set.test", "/set").port(8090).to("one"),
            secure("set.test", "/set").to("one"),
            get("set.test", "/set").status(404),
            get("bar.test", "/set").port(8081).status(404),
            get("set.test", "/both").port(8090).to("two"),
            get("set.test", "/both").to("two"),
            get("set.test", "/section").port(8090).status(404),
            get("set.test", "/").port(8092).fails(),
        ],
    },
    Feature {
        name: "GatewayWithAttachedRoutes, GatewayWithAttachedRoutesWithPort8080, GatewaySecretReferenceGrantSpecific",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: attached, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: http-8080}]
  rules: [{backendRefs: [{name: one, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: certificate-granted, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: granted}]
  rules: [{backendRefs: [{name: three, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: late, namespace: gw}
spec:
  parentRefs: [{name: gw}]
  hostnames: [late.test]
  rules: [{matches: [{path: {value: /late}}], backendRefs: [{name: one, port: 80}]}]
",
        rows: &[
            get("any.test", "/").port(8080).to("one"),
            secure("granted.test", "/").port(9106).to("three"),
            secure("granted.test", "/")
                .port(9105)
                .options(&["-k"])
                .fails(),
        ],
    },
];
