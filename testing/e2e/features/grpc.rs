//! GRPCRoute: methods, headers, weights.

use anyhow::ensure;

use super::{Feature, outside, walk};
use crate::stage::Stage;
use crate::table::{call, get};

const CALLS: usize = 200;

/// A GRPCRoute of namespace `gw` at the listener `http` of the Gateway `gw`.
macro_rules! grpc_route {
    ($name:literal, $hosts:literal, $rules:literal) => {
        concat!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: ",
            $name,
            ", namespace: gw}\nspec:\n  parentRefs: [{name: gw, sectionName: http}]\n  hostnames: [",
            $hosts,
            "]\n  rules:",
            $rules,
            "\n"
        )
    };
}

pub(super) fn routes(stage: &Stage) -> anyhow::Result<()> {
    let asker = outside(stage, "gw")?;
    walk(stage, &asker, FEATURES, || {
        let shares = asker.shares(call("weights.grpc.test", "/echo.Grpc/Any"), CALLS)?;
        let of = |name: &str| shares.get(name).copied().unwrap_or_default();
        ensure!(
            (110..=170).contains(&of("one")) && of("one") + of("two") == CALLS,
            "70 to 30: {shares:?}"
        );
        Ok(())
    })
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "GRPCExactMethodMatching",
        objects: grpc_route!(
            "grpc-exact",
            "exact.grpc.test",
            r"
  - {matches: [{method: {service: echo.Grpc, method: One}}], backendRefs: [{name: one, port: 9090}]}
  - {matches: [{method: {service: echo.Grpc, method: Two}}], backendRefs: [{name: two, port: 9090}]}
  - {matches: [{method: {service: echo.All}}], backendRefs: [{name: three, port: 9090}]}
  - {matches: [{method: {method: Anywhere}}], backendRefs: [{name: three, port: 9090}]}
  - {matches: [{method: {type: RegularExpression, service: 'echo\.V[0-9]+', method: 'Get.*'}}], backendRefs: [{name: one, port: 9090}]}"
        ),
        rows: &[
            call("exact.grpc.test", "/echo.Grpc/One")
                .to("one")
                .arrived(&[("protocol", "HTTP/2.0"), ("method", "POST")]),
            call("exact.grpc.test", "/echo.Grpc/Two").to("two"),
            call("exact.grpc.test", "/echo.All/Some").to("three"),
            call("exact.grpc.test", "/some.Other/Anywhere").to("three"),
            call("exact.grpc.test", "/echo.V12/GetIt").to("one"),
            call("exact.grpc.test", "/echo.Grpc/Three").grpc_status("12"),
            call("exact.grpc.test", "/echo.Vx/GetIt").grpc_status("12"),
            // Who does not speak gRPC gets HTTP's word for it.
            get("exact.grpc.test", "/echo.Grpc/Three").status(404),
        ],
    },
    Feature {
        name: "GRPCRouteHeaderMatching",
        objects: grpc_route!(
            "grpc-headers",
            "headers.grpc.test",
            r"
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: one, port: 9090}]}
  - {matches: [{headers: [{name: version, value: two}]}], backendRefs: [{name: two, port: 9090}]}
  - {matches: [{headers: [{name: version, value: two}, {name: color, value: orange}]}], backendRefs: [{name: one, port: 9090}]}
  - matches: [{headers: [{name: color, value: blue}]}, {method: {service: echo.Grpc, method: M}, headers: [{name: color, value: green}]}]
    backendRefs: [{name: three, port: 9090}]"
        ),
        rows: &[
            call("headers.grpc.test", "/echo.Grpc/M")
                .with(&[("version", "one")])
                .to("one"),
            call("headers.grpc.test", "/echo.Grpc/M")
                .with(&[("version", "two")])
                .to("two"),
            call("headers.grpc.test", "/echo.Grpc/M")
                .with(&[("version", "two"), ("color", "orange")])
                .to("one"),
            call("headers.grpc.test", "/echo.Grpc/M")
                .with(&[("color", "blue")])
                .to("three"),
            call("headers.grpc.test", "/echo.Grpc/M")
                .with(&[("color", "green")])
                .to("three"),
            call("headers.grpc.test", "/echo.Grpc/N")
                .with(&[("color", "green")])
                .grpc_status("12"),
            call("headers.grpc.test", "/echo.Grpc/M").grpc_status("12"),
        ],
    },
    Feature {
        name: "GRPCRouteListenerHostnameMatching",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc-bar, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: host-bar}]
  rules: [{backendRefs: [{name: one, port: 9090}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc-wild, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: host-wild-bar}, {name: gw, sectionName: host-wild-foo}]
  rules: [{backendRefs: [{name: three, port: 9090}]}]
",
        rows: &[
            call("bar.test", "/a.B/C").port(8081).to("one"),
            call("baz.bar.test", "/a.B/C").port(8081).to("three"),
            call("a.b.foo.test", "/a.B/C").port(8081).to("three"),
            call("foo.bar.test", "/a.B/C").port(8081).grpc_status("12"),
            call("foo.test", "/a.B/C").port(8081).grpc_status("12"),
        ],
    },
    Feature {
        name: "GRPCRouteRequestHeaderModifier, GRPCRouteNamedRule",
        objects: grpc_route!(
            "grpc-edits",
            "edits.grpc.test",
            r"
  - name: edited
    matches: [{method: {service: echo.Grpc}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: X-Set, value: set}], add: [{name: X-Add, value: added}], remove: [X-Remove]}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Answer, value: '42'}]}}
    backendRefs: [{name: one, port: 9090}]"
        ),
        rows: &[call("edits.grpc.test", "/echo.Grpc/M")
            .with(&[("x-set", "1"), ("x-add", "1"), ("x-remove", "1")])
            .to("one")
            .arrived(&[("x-set", "set"), ("x-add", "1,added")])
            .kept_back(&["x-remove"])
            .answered(&[("x-answer", "42")])],
    },
    Feature {
        name: "GRPCRouteWeight",
        objects: grpc_route!(
            "grpc-weights",
            "weights.grpc.test",
            r"
  - backendRefs:
    - {name: one, port: 9090, weight: 70}
    - {name: two, port: 9090, weight: 30}
    - {name: three, port: 9090, weight: 0}"
        ),
        rows: &[call("weights.grpc.test", "/echo.Grpc/Any")],
    },
];
