//! Routes of Services, in force at the waypoint (GAMMA): clients are pods.

use anyhow::ensure;
use tulle_testing::kubectl::eventually;

use super::{Feature, SOON, walk};
use crate::stage::Stage;
use crate::table::{Asker, call, get};

const CALLS: usize = 200;
pub(super) const CLIENT: &str = "-n gw deploy/sleep";
pub(super) const CLIENT_ELSEWHERE: &str = "-n gw-other deploy/sleep";

pub(super) fn routes(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("label namespace gw-other istio.io/dataplane-mode=ambient --overwrite")?;
    stage.tulle(&[
        "waypoint",
        "apply",
        "-n",
        "gw",
        "--enroll-namespace",
        "--wait",
    ])?;
    let asker = Asker::pod(kubectl, CLIENT);
    walk(stage, &asker, FEATURES, || {
        let elsewhere = Asker::pod(kubectl, CLIENT_ELSEWHERE);
        elsewhere.expect(&[(
            "MeshConsumerRoute",
            &[get("consumed.gw", "/")
                .to("two")
                .answered(&[("x-consumer", "yes")])],
        )])?;
        for row in [
            get("split.gw", "/"),
            call("grpc.gw", "/echo.Grpc/Weighted").port(9090),
        ] {
            let shares = asker.shares(row, CALLS)?;
            let of = |name: &str| shares.get(name).copied().unwrap_or_default();
            ensure!(
                (155..=195).contains(&of("one")) && of("one") + of("two") == CALLS,
                "90 to 10: {shares:?}"
            );
        }
        eventually("requests went through the waypoint", SOON, || {
            let log = kubectl.run("logs -n gw deploy/waypoint --tail=2000")?;
            ensure!(log.contains("GET /exact"), "{log}");
            Ok(())
        })
    })
}

/// A Service over the pods of one echo.
macro_rules! service {
    ($name:literal, $app:literal) => {
        concat!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: ",
            $name,
            ", namespace: gw}\nspec: {selector: {app: ",
            $app,
            "}, ports: [{name: http, port: 80, targetPort: 8080}, {name: http-more, port: 8080}, {name: grpc, port: 9090, targetPort: 8080}]}\n"
        )
    };
}

pub(super) use service;

/// A route of a Service's port.
macro_rules! mesh_route {
    ($kind:literal, $name:literal, $service:literal, $port:literal, $rules:literal) => {
        concat!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ",
            $kind,
            "\nmetadata: {name: ",
            $name,
            ", namespace: gw}\nspec:\n  parentRefs: [{group: '', kind: Service, name: ",
            $service,
            ", port: ",
            $port,
            "}]\n  rules:",
            $rules,
            "\n"
        )
    };
}

pub(super) use mesh_route;

const FEATURES: &[Feature] = &[
    Feature {
        name: "MeshBasic",
        objects: concat!(
            service!("unrouted", "one"),
            service!("mesh", "one"),
            service!("split", "one"),
            service!("grpc", "one"),
            service!("consumed", "one")
        ),
        rows: &[
            get("unrouted", "/").to("one"),
            get("unrouted.gw.svc.cluster.local", "/")
                .port(8080)
                .to("one"),
        ],
    },
    Feature {
        name: "MeshHTTPRouteMatching, MeshHTTPRouteQueryParamMatching, MeshHTTPRouteSimpleSameNamespace, MeshHTTPRouteNamedRule",
        objects: mesh_route!(
            "HTTPRoute",
            "mesh-matching",
            "mesh",
            "80",
            r"
  - {matches: [{path: {type: Exact, value: /exact}}], backendRefs: [{name: two, port: 80}]}
  - {matches: [{path: {value: /prefix}}], backendRefs: [{name: two, port: 80}]}
  - {matches: [{path: {value: /header}, headers: [{name: version, value: two}]}], backendRefs: [{name: two, port: 80}]}
  - {matches: [{path: {value: /query}, queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: two, port: 80}]}
  - {matches: [{path: {value: /method}, method: POST}], backendRefs: [{name: two, port: 80}]}
  - {name: named, matches: [{path: {value: /self}}], backendRefs: [{name: mesh, port: 80}]}"
        ),
        rows: &[
            get("mesh", "/exact").to("two"),
            get("mesh.gw", "/exact").to("two"),
            get("mesh", "/exact/no").status(404),
            get("mesh", "/prefix/any").to("two"),
            get("mesh", "/prefixed").status(404),
            get("mesh", "/header").with(&[("version", "two")]).to("two"),
            get("mesh", "/header").status(404),
            get("mesh", "/query?animal=whale").to("two"),
            get("mesh", "/query?animal=cat").status(404),
            get("mesh", "/method").options(&["-XPOST"]).to("two"),
            get("mesh", "/self").to("one"),
            // MeshPorts: the route is of port 80.
            get("mesh", "/exact").port(8080).to("one"),
            // The Host header does not decide.
            get("mesh", "/exact")
                .with(&[("Host", "anything.test")])
                .to("two")
                .arrived(&[("host", "anything.test")]),
        ],
    },
    Feature {
        name: concat!(
            "MeshHTTPRouteRequestHeaderModifier, MeshHTTPRouteBackendRequestHeaderModifier, MeshHTTPRouteRedirectHostAndStatus, ",
            "MeshHTTPRouteSchemeRedirect, MeshHTTPRouteRedirectPort, MeshHTTPRouteRedirectPath, MeshHTTPRoute303Redirect, MeshHTTPRoute307Redirect, MeshHTTPRoute308Redirect, MeshHTTPRouteRewritePath"
        ),
        objects: mesh_route!(
            "HTTPRoute",
            "mesh-filters",
            "mesh",
            "80",
            r"
  - matches: [{path: {value: /edit}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: s}], add: [{name: x-add, value: a}], remove: [x-remove]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-answer, value: r}]}}
    backendRefs: [{name: one, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-backend, value: b}]}}]}]
  - matches: [{path: {value: /host}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 301}}]
  - matches: [{path: {value: /scheme}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
  - matches: [{path: {value: /port}}]
    filters: [{type: RequestRedirect, requestRedirect: {port: 8083, statusCode: 307}}]
  - matches: [{path: {value: /see}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 303}}]
  - matches: [{path: {value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {statusCode: 308, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
  - matches: [{path: {value: /rewrite}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: rewritten.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /here}}}]
    backendRefs: [{name: two, port: 80}]"
        ),
        rows: &[
            get("mesh", "/edit")
                .with(&[("x-set", "1"), ("x-add", "1"), ("x-remove", "1")])
                .arrived(&[("x-set", "s"), ("x-add", "1,a"), ("x-backend", "b")])
                .kept_back(&["x-remove"])
                .answered(&[("x-answer", "r")]),
            get("mesh", "/host").redirected(301, &[("location", "http://example.org/host")]),
            get("mesh", "/scheme").redirected(302, &[("location", "https://mesh/scheme")]),
            get("mesh", "/port").redirected(307, &[("location", "http://mesh:8083/port")]),
            get("mesh", "/see").redirected(303, &[("location", "http://example.org/see")]),
            get("mesh", "/old/x").redirected(308, &[("location", "http://mesh/new/x")]),
            get("mesh", "/rewrite/x")
                .to("two")
                .arrived(&[("path", "/here/x"), ("host", "rewritten.test")]),
        ],
    },
    Feature {
        name: "MeshTrafficSplit, MeshHTTPRouteWeight",
        objects: mesh_route!(
            "HTTPRoute",
            "mesh-split",
            "split",
            "80",
            r"
  - {backendRefs: [{name: one, port: 80, weight: 90}, {name: two, port: 80, weight: 10}]}"
        ),
        rows: &[get("split.gw", "/")],
    },
    Feature {
        name: "MeshGRPCRouteWeight, MeshGRPCRouteRequestHeaderModifier",
        objects: mesh_route!(
            "GRPCRoute",
            "mesh-grpc",
            "grpc",
            "9090",
            r"
  - matches: [{method: {service: echo.Grpc, method: Weighted}}]
    backendRefs: [{name: one, port: 9090, weight: 90}, {name: two, port: 9090, weight: 10}]
  - matches: [{method: {service: echo.Grpc}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: s}]}}]
    backendRefs: [{name: two, port: 9090}]"
        ),
        rows: &[
            call("grpc.gw", "/echo.Grpc/Weighted").port(9090),
            call("grpc.gw", "/echo.Grpc/M")
                .port(9090)
                .to("two")
                .arrived(&[("x-set", "s"), ("protocol", "HTTP/2.0")]),
            call("grpc.gw", "/other.Service/M")
                .port(9090)
                .grpc_status("12"),
        ],
    },
    Feature {
        name: "MeshConsumerRoute",
        objects: r#"
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: consumers, namespace: gw}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: gw-other}]
  to: [{group: "", kind: Service}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: consumer, namespace: gw-other}
spec:
  parentRefs: [{group: "", kind: Service, name: consumed, namespace: gw, port: 80}]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-consumer, value: "yes"}]}}]
    backendRefs: [{name: two, namespace: gw, port: 80}]
"#,
        // Clients of other namespaces see nothing of it.
        rows: &[get("consumed.gw", "/")
            .to("one")
            .unanswered(&["x-consumer"])],
    },
];
