//! Routes that are refused, as a whole or in part: what their status says, and what their requests get.

use super::{Feature, http_route, outside, told, walk};
use crate::stage::Stage;
use crate::table::get;

pub(super) fn routes(stage: &Stage) -> anyhow::Result<()> {
    let asker = outside(stage, "gw")?;
    walk(stage, &asker, FEATURES, || {
        told(
            &stage.kubectl,
            &[
                (
                    "HTTPRoute/nonexistent",
                    "gw",
                    "Accepted",
                    "True",
                    "Accepted",
                ),
                (
                    "HTTPRoute/nonexistent",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "BackendNotFound",
                ),
                (
                    "HTTPRoute/unknown-kind",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "InvalidKind",
                ),
                (
                    "HTTPRoute/cross-backend",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "RefNotPermitted",
                ),
                (
                    "HTTPRoute/partly",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "RefNotPermitted",
                ),
                (
                    "HTTPRoute/granted",
                    "gw",
                    "ResolvedRefs",
                    "True",
                    "ResolvedRefs",
                ),
                (
                    "HTTPRoute/nowhere",
                    "gw",
                    "ResolvedRefs",
                    "True",
                    "ResolvedRefs",
                ),
                (
                    "HTTPRoute/section",
                    "gw",
                    "Accepted",
                    "False",
                    "NoMatchingParent",
                ),
                (
                    "HTTPRoute/port",
                    "gw",
                    "Accepted",
                    "False",
                    "NoMatchingParent",
                ),
                (
                    "HTTPRoute/section-port",
                    "gw",
                    "Accepted",
                    "False",
                    "NoMatchingParent",
                ),
                (
                    "HTTPRoute/hostname",
                    "gw",
                    "Accepted",
                    "False",
                    "NoMatchingListenerHostname",
                ),
                (
                    "HTTPRoute/kind",
                    "gw",
                    "Accepted",
                    "False",
                    "NotAllowedByListeners",
                ),
                (
                    "TLSRoute/tls-section",
                    "gw",
                    "Accepted",
                    "False",
                    "NoMatchingParent",
                ),
                (
                    "TLSRoute/tls-hostname",
                    "gw",
                    "Accepted",
                    "False",
                    "NoMatchingListenerHostname",
                ),
                (
                    "TLSRoute/tls-kind",
                    "gw",
                    "Accepted",
                    "False",
                    "NotAllowedByListeners",
                ),
                ("TLSRoute/tls-nowhere", "gw", "Accepted", "True", "Accepted"),
                (
                    "TLSRoute/tls-nowhere",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "BackendNotFound",
                ),
                (
                    "TLSRoute/tls-unknown-kind",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "InvalidKind",
                ),
                (
                    "TCPRoute/tcp-grant",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "RefNotPermitted",
                ),
                (
                    "BackendTLSPolicy/roots-of-a-kind",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "InvalidKind",
                ),
                (
                    "BackendTLSPolicy/roots-of-a-kind",
                    "gw",
                    "Accepted",
                    "False",
                    "NoValidCACertificate",
                ),
                (
                    "TLSRoute/tls-grant",
                    "gw",
                    "ResolvedRefs",
                    "False",
                    "RefNotPermitted",
                ),
            ],
        )?;
        // HTTPRouteReferenceGrant: what is not granted any longer is not reached any longer.
        stage
            .kubectl
            .run("delete referencegrant -n gw-other routes")?;
        asker.expect(&[(
            "HTTPRouteReferenceGrant",
            &[get("granted.test", "/").status(500)],
        )])?;
        told(
            &stage.kubectl,
            &[(
                "HTTPRoute/granted",
                "gw",
                "ResolvedRefs",
                "False",
                "RefNotPermitted",
            )],
        )
    })
}

/// A TLSRoute of namespace `gw`.
macro_rules! tls_route {
    ($name:literal, $section:literal, $hosts:literal, $backend:literal) => {
        concat!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {name: ",
            $name,
            ", namespace: gw}\nspec:\n  parentRefs: [{name: gw, sectionName: ",
            $section,
            "}]\n  hostnames: [",
            $hosts,
            "]\n  rules: [{backendRefs: [",
            $backend,
            "]}]\n"
        )
    };
}

/// An HTTPRoute of namespace `gw` with another parent than usual.
macro_rules! route_at {
    ($name:literal, $parent:literal, $hosts:literal) => {
        concat!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: ",
            $name,
            ", namespace: gw}\nspec:\n  parentRefs: [",
            $parent,
            "]\n  hostnames: [",
            $hosts,
            "]\n  rules: [{backendRefs: [{name: one, port: 80}]}]\n"
        )
    };
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "HTTPRouteInvalidNonExistentBackendRef",
        objects: http_route!(
            "nonexistent",
            "nonexistent.test",
            r"
  - {matches: [{path: {value: /bad}}], backendRefs: [{name: no-such-service, port: 80}]}
  - {matches: [{path: {value: /port}}], backendRefs: [{name: one, port: 81}]}
  - {matches: [{path: {value: /good}}], backendRefs: [{name: one, port: 80}]}"
        ),
        rows: &[
            get("nonexistent.test", "/bad").status(500),
            get("nonexistent.test", "/port").status(500),
            get("nonexistent.test", "/good").to("one"),
        ],
    },
    Feature {
        name: "HTTPRouteInvalidBackendRefUnknownKind",
        objects: http_route!(
            "unknown-kind",
            "unknown-kind.test",
            r"
  - {backendRefs: [{group: unknownkind.example.com, kind: NonExistent, name: one, port: 80}]}"
        ),
        rows: &[get("unknown-kind.test", "/").status(500)],
    },
    Feature {
        name: "HTTPRouteInvalidCrossNamespaceBackendRef",
        objects: http_route!(
            "cross-backend",
            "cross-backend.test",
            r"
  - {backendRefs: [{name: three, namespace: gw-other, port: 80}]}"
        ),
        rows: &[get("cross-backend.test", "/").status(500)],
    },
    Feature {
        name: "HTTPRoutePartiallyInvalidViaInvalidReferenceGrant",
        objects: http_route!(
            "partly",
            "partly.test",
            r"
  - {matches: [{path: {value: /v2}}], backendRefs: [{name: three, namespace: gw-other, port: 80}]}
  - {matches: [{path: {value: /}}], backendRefs: [{name: one, port: 80}]}"
        ),
        rows: &[
            get("partly.test", "/v2").status(500),
            get("partly.test", "/").to("one"),
        ],
    },
    Feature {
        name: "HTTPRouteReferenceGrant, HTTPRouteInvalidReferenceGrant",
        objects: concat!(
            r#"
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: routes, namespace: gw-other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: gw}]
  to: [{group: "", kind: Service, name: four}]
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: wrong, namespace: gw-other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: gw}, {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: "", kind: Service, name: three}]
"#,
            http_route!(
                "granted",
                "granted.test",
                r"
  - {backendRefs: [{name: four, namespace: gw-other, port: 80}]}"
            ),
        ),
        rows: &[get("granted.test", "/").to("four")],
    },
    Feature {
        name: "HTTPRouteNoBackendRefs",
        objects: http_route!(
            "nowhere",
            "nowhere.test",
            r"
  - {matches: [{path: {value: /}}]}"
        ),
        rows: &[get("nowhere.test", "/").status(500)],
    },
    Feature {
        name: "HTTPRouteInvalidParentRefNotMatchingSectionName, HTTPRouteInvalidParentRefNotMatchingListenerPort, HTTPRouteInvalidParentRefSectionNameNotMatchingPort",
        objects: concat!(
            route_at!(
                "section",
                "{name: gw, sectionName: no-such-listener}",
                "section.test"
            ),
            route_at!("port", "{name: gw, port: 81}", "section.test"),
            route_at!(
                "section-port",
                "{name: gw, sectionName: http, port: 8080}",
                "section.test"
            ),
            route_at!(
                "hostname",
                "{name: gw, sectionName: host-bar}",
                "section.test"
            ),
        ),
        rows: &[
            get("section.test", "/").status(404),
            get("section.test", "/").port(8081).status(404),
        ],
    },
    Feature {
        name: "HTTPRouteInvalidCrossNamespaceParentRef",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: foreign, namespace: gw-other}
spec:
  parentRefs: [{name: gw, namespace: gw, sectionName: http-8080}]
  hostnames: [foreign.test]
  rules: [{backendRefs: [{name: four, port: 80}]}]
",
        rows: &[get("foreign.test", "/").port(8080).status(404)],
    },
    Feature {
        name: "TCPRouteInvalidCrossNamespaceBackendRef, BackendTLSPolicyInvalidKind",
        objects: concat!(
            r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp-grant, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: tcp-nowhere}]
  rules: [{backendRefs: [{name: four, namespace: gw-other, port: 9000}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: roots-of-a-kind, namespace: gw}
spec:
  targetRefs: [{group: "", kind: Service, name: three}]
  validation: {hostname: echo.backend.test, caCertificateRefs: [{group: unknown.example.com, kind: NonExistent, name: root}]}
"#,
            http_route!(
                "roots-of-a-kind",
                "roots-of-a-kind.test",
                r"
  - {backendRefs: [{name: three, port: 443}]}"
            ),
        ),
        rows: &[
            get("any.test", "/").port(9002).fails(),
            get("roots-of-a-kind.test", "/").status(503),
        ],
    },
    Feature {
        name: "HTTPRouteDisallowedKind",
        objects: route_at!(
            "kind",
            "{name: gw, sectionName: passthrough}",
            "kind.pass.test"
        ),
        rows: &[],
    },
    Feature {
        name: "TLSRouteInvalidNoMatchingListener, TLSRouteInvalidNoMatchingListenerHostname, TLSRouteInvalidBackendRefNonexistent, TLSRouteInvalidBackendRefUnknownKind, TLSRouteInvalidReferenceGrant",
        objects: concat!(
            tls_route!(
                "tls-section",
                "no-such-listener",
                "a.pass.test",
                "{name: one, port: 443}"
            ),
            tls_route!(
                "tls-hostname",
                "passthrough",
                "other.test",
                "{name: one, port: 443}"
            ),
            tls_route!("tls-kind", "http", "a.pass.test", "{name: one, port: 443}"),
            tls_route!(
                "tls-nowhere",
                "passthrough",
                "nowhere.pass.test",
                "{name: no-such-service, port: 443}"
            ),
            tls_route!(
                "tls-unknown-kind",
                "passthrough",
                "kind.pass.test",
                "{group: unknown.example.com, kind: NonExistent, name: one, port: 443}"
            ),
            tls_route!(
                "tls-grant",
                "passthrough",
                "grant.pass.test",
                "{name: three, namespace: gw-other, port: 443}"
            ),
        ),
        rows: &[
            crate::table::secure("nowhere.pass.test", "/")
                .port(8443)
                .fails(),
            crate::table::secure("kind.pass.test", "/")
                .port(8443)
                .fails(),
            crate::table::secure("grant.pass.test", "/")
                .port(8443)
                .fails(),
        ],
    },
];
