//! Which rule of which route a request falls under.

use super::{Feature, http_route, outside, walk};
use crate::stage::Stage;
use crate::table::get;

pub(super) fn routes(stage: &Stage) -> anyhow::Result<()> {
    let asker = outside(stage, "gw")?;
    walk(stage, &asker, FEATURES, || {
        outside(stage, "plain")?.expect(&[(
            "HTTPRouteMultipleGateways",
            &[
                get("many.test", "/both").to("two"),
                get("many.test", "/first").status(404),
            ],
        )])
    })
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "HTTPRouteSimpleSameNamespace",
        objects: http_route!(
            "simple",
            "simple.test",
            r"
  - backendRefs: [{name: one, port: 80}]"
        ),
        rows: &[
            get("simple.test", "/").to("one"),
            get("simple.test", "/any/path?q=1")
                .to("one")
                .arrived(&[("query", "q=1")]),
        ],
    },
    Feature {
        name: "HTTPRouteCrossNamespace",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cross, namespace: gw-other}
spec:
  parentRefs: [{name: gw, namespace: gw, sectionName: http}]
  hostnames: [cross.test]
  rules: [{backendRefs: [{name: four, port: 80}]}]
",
        rows: &[get("cross.test", "/").to("four")],
    },
    Feature {
        name: "HTTPRouteExactPathMatching",
        objects: http_route!(
            "exact",
            "exact.test",
            r"
  - {matches: [{path: {type: Exact, value: /one}}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {type: Exact, value: /two}}], backendRefs: [{name: two, port: 80}]}"
        ),
        rows: &[
            get("exact.test", "/one").to("one"),
            get("exact.test", "/two").to("two"),
            get("exact.test", "/").status(404),
            get("exact.test", "/one/example").status(404),
            get("exact.test", "/two/").status(404),
            get("exact.test", "/Two").status(404),
        ],
    },
    Feature {
        name: "HTTPRouteHeaderMatching",
        objects: http_route!(
            "headers",
            "headers.test",
            r"
  - {matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{headers: [{name: version, value: two}]}], backendRefs: [{name: two, port: 80}]}
  - {matches: [{headers: [{name: version, value: two}, {name: color, value: orange}]}], backendRefs: [{name: one, port: 80}]}
  - matches: [{headers: [{name: color, value: blue}]}, {headers: [{name: color, value: green}]}]
    backendRefs: [{name: one, port: 80}]
  - matches: [{headers: [{name: color, value: red}]}, {headers: [{name: color, value: yellow}]}]
    backendRefs: [{name: two, port: 80}]
  - {matches: [{headers: [{name: pattern, type: RegularExpression, value: 'x[0-9]+'}]}], backendRefs: [{name: three, port: 80}]}"
        ),
        rows: &[
            get("headers.test", "/")
                .with(&[("Version", "one")])
                .to("one"),
            get("headers.test", "/")
                .with(&[("VERSION", "two")])
                .to("two"),
            get("headers.test", "/")
                .with(&[("version", "two"), ("color", "orange")])
                .to("one"),
            get("headers.test", "/")
                .with(&[("color", "orange")])
                .status(404),
            get("headers.test", "/")
                .with(&[("some-other-header", "one")])
                .status(404),
            get("headers.test", "/")
                .with(&[("color", "blue")])
                .to("one"),
            get("headers.test", "/")
                .with(&[("color", "green")])
                .to("one"),
            get("headers.test", "/").with(&[("color", "red")]).to("two"),
            get("headers.test", "/")
                .with(&[("color", "yellow")])
                .to("two"),
            get("headers.test", "/")
                .with(&[("color", "purple")])
                .status(404),
            get("headers.test", "/")
                .with(&[("pattern", "x42")])
                .to("three"),
            get("headers.test", "/")
                .with(&[("pattern", "yx42")])
                .status(404),
        ],
    },
    Feature {
        name: "HTTPRouteMatching",
        objects: http_route!(
            "matching",
            "matching.test",
            r"
  - {matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}]}], backendRefs: [{name: two, port: 80}]}"
        ),
        rows: &[
            get("matching.test", "/").to("one"),
            get("matching.test", "/example").to("one"),
            get("matching.test", "/")
                .with(&[("version", "one")])
                .to("one"),
            get("matching.test", "/v2").to("two"),
            get("matching.test", "/v2/example").to("two"),
            get("matching.test", "/")
                .with(&[("version", "two")])
                .to("two"),
            get("matching.test", "/v2/").to("two"),
            get("matching.test", "/v2example").to("one"),
            get("matching.test", "/foo/v2/example").to("one"),
        ],
    },
    Feature {
        name: "HTTPRouteMatchingAcrossRoutes",
        objects: concat!(
            http_route!(
                "across-1",
                "across.test, across2.test",
                r"
  - {matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}], backendRefs: [{name: one, port: 80}]}"
            ),
            http_route!(
                "across-2",
                "across.test",
                r"
  - {matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}]}], backendRefs: [{name: two, port: 80}]}"
            ),
        ),
        rows: &[
            get("across.test", "/example").to("one"),
            get("across2.test", "/example").to("one"),
            get("across.test", "/example")
                .with(&[("version", "one")])
                .to("one"),
            get("across.test", "/v2").to("two"),
            get("across2.test", "/v2").to("one"),
            get("across.test", "/v2/example").to("two"),
            get("across.test", "/")
                .with(&[("version", "two")])
                .to("two"),
        ],
    },
    Feature {
        name: "HTTPRoutePathMatchOrder",
        objects: http_route!(
            "order",
            "order.test",
            r"
  - {matches: [{path: {type: Exact, value: /match}}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {type: Exact, value: /match/exact}}], backendRefs: [{name: two, port: 80}]}
  - {matches: [{path: {type: Exact, value: /match/exact/one}}], backendRefs: [{name: three, port: 80}]}
  - {matches: [{path: {value: /match/}}], backendRefs: [{name: three, port: 80}]}
  - {matches: [{path: {value: /match/prefix/}}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {value: /match/prefix/one}}], backendRefs: [{name: two, port: 80}]}"
        ),
        rows: &[
            get("order.test", "/match/exact/one").to("three"),
            get("order.test", "/match/exact").to("two"),
            get("order.test", "/match").to("one"),
            get("order.test", "/match/prefix/one/any").to("two"),
            get("order.test", "/match/prefix/any").to("one"),
            get("order.test", "/match/any").to("three"),
        ],
    },
    Feature {
        name: "HTTPRouteMethodMatching",
        objects: http_route!(
            "methods",
            "methods.test",
            r"
  - {matches: [{method: POST}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{method: GET}], backendRefs: [{name: two, port: 80}]}
  - {matches: [{path: {value: /path}, method: PATCH}], backendRefs: [{name: three, port: 80}]}
  - {matches: [{method: PUT, headers: [{name: version, value: four}]}], backendRefs: [{name: one, port: 80}]}"
        ),
        rows: &[
            get("methods.test", "/")
                .options(&["-XPOST"])
                .to("one")
                .arrived(&[("method", "POST")]),
            get("methods.test", "/").to("two"),
            get("methods.test", "/").options(&["-I"]).status(404),
            get("methods.test", "/path")
                .options(&["-XPATCH"])
                .to("three"),
            get("methods.test", "/").options(&["-XPATCH"]).status(404),
            get("methods.test", "/")
                .options(&["-XPUT"])
                .with(&[("version", "four")])
                .to("one"),
            get("methods.test", "/").options(&["-XPUT"]).status(404),
        ],
    },
    Feature {
        name: "HTTPRouteQueryParamMatching",
        objects: http_route!(
            "query",
            "query.test",
            r"
  - {matches: [{queryParams: [{name: animal, value: whale}]}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{queryParams: [{name: animal, value: dolphin}]}], backendRefs: [{name: two, port: 80}]}
  - {matches: [{queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]}], backendRefs: [{name: three, port: 80}]}
  - matches: [{queryParams: [{name: ANIMAL, value: Whale}]}, {queryParams: [{name: animal, type: RegularExpression, value: 'ot+er'}]}]
    backendRefs: [{name: three, port: 80}]
  - {matches: [{path: {value: /path1}, queryParams: [{name: animal, value: shark}]}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {value: /path2}, headers: [{name: version, value: one}], queryParams: [{name: a, value: b}]}], backendRefs: [{name: two, port: 80}]}"
        ),
        rows: &[
            get("query.test", "/?animal=whale").to("one"),
            get("query.test", "/?animal=dolphin").to("two"),
            get("query.test", "/?animal=dolphin&color=blue").to("three"),
            get("query.test", "/?ANIMAL=Whale").to("three"),
            get("query.test", "/?animal=otter").to("three"),
            get("query.test", "/?animal=whale&otherparam=irrelevant").to("one"),
            get("query.test", "/?animal=dog").status(404),
            get("query.test", "/?animal=whaledolphin").status(404),
            get("query.test", "/").status(404),
            get("query.test", "/path1?animal=shark").to("one"),
            get("query.test", "/path2?a=b")
                .with(&[("version", "one")])
                .to("two"),
            get("query.test", "/path2?a=b").status(404),
        ],
    },
    Feature {
        name: "HTTPRouteHostnameIntersection",
        objects: r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: intersection, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: host-foo-bar}, {name: gw, sectionName: host-wild-foo}]
  hostnames: [other.test, "*.bar.test", a.foo.test, b.c.foo.test, foo.test]
  rules: [{matches: [{path: {value: /s}}], backendRefs: [{name: two, port: 80}]}]
"#,
        rows: &[
            get("foo.bar.test", "/s").port(8081).to("two"),
            get("foo.bar.test", "/s")
                .port(8081)
                .with(&[("Host", "foo.bar.test:1234")])
                .to("two"),
            get("a.foo.test", "/s").port(8081).to("two"),
            get("b.c.foo.test", "/s").port(8081).to("two"),
            get("z.foo.test", "/s").port(8081).status(404),
            get("foo.test", "/s").port(8081).status(404),
            get("x.bar.test", "/s").port(8081).status(404),
            get("other.test", "/s").port(8081).status(404),
            get("a.foo.test", "/other").port(8081).status(404),
        ],
    },
    Feature {
        // GatewayHTTPListenerIsolation: a request belongs to the most specific listener, and to no other.
        name: "HTTPRouteListenerHostnameMatching",
        objects: r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: listener-1, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: host-bar}]
  rules: [{matches: [{path: {value: /l}}], backendRefs: [{name: one, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: listener-2, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: host-foo-bar}]
  rules: [{matches: [{path: {value: /l}}], backendRefs: [{name: two, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: listener-3, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: host-wild-bar}, {name: gw, sectionName: host-wild-foo}]
  rules: [{matches: [{path: {value: /l}}, {path: {value: /wild-only}}], backendRefs: [{name: three, port: 80}]}]
"#,
        rows: &[
            get("bar.test", "/l").port(8081).to("one"),
            get("foo.bar.test", "/l").port(8081).to("two"),
            get("baz.bar.test", "/l").port(8081).to("three"),
            get("multiple.prefixes.bar.test", "/l")
                .port(8081)
                .to("three"),
            get("multiple.prefixes.foo.test", "/l")
                .port(8081)
                .to("three"),
            get("foo.test", "/l").port(8081).status(404),
            get("no.matching.host", "/l").port(8081).status(404),
            get("foo.bar.test", "/wild-only").port(8081).status(404),
        ],
    },
    Feature {
        name: "HTTPRouteListenerPortMatching",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: port-80, namespace: gw}
spec:
  parentRefs: [{name: gw, port: 80}]
  hostnames: [ports.test]
  rules: [{backendRefs: [{name: one, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: port-8080, namespace: gw}
spec:
  parentRefs: [{name: gw, port: 8080}]
  hostnames: [ports.test]
  rules: [{backendRefs: [{name: two, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: port-section, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: http-8080, port: 8080}]
  hostnames: [section.test]
  rules: [{backendRefs: [{name: three, port: 80}]}]
",
        rows: &[
            get("ports.test", "/").to("one"),
            get("ports.test", "/").port(8080).to("two"),
            get("section.test", "/").port(8080).to("three"),
            get("section.test", "/").status(404),
        ],
    },
    Feature {
        name: "HTTPRouteMultipleGateways",
        objects: r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: both, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: http}, {name: plain}]
  hostnames: [many.test]
  rules: [{matches: [{path: {value: /both}}], backendRefs: [{name: two, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: first, namespace: gw}
spec:
  parentRefs: [{name: gw, sectionName: http}]
  hostnames: [many.test]
  rules: [{matches: [{path: {value: /first}}], backendRefs: [{name: one, port: 80}]}]
",
        rows: &[
            get("many.test", "/both").to("two"),
            get("many.test", "/first").to("one"),
        ],
    },
    Feature {
        name: "HTTPRouteServiceTypes",
        objects: http_route!(
            "services",
            "services.test",
            r"
  - {matches: [{path: {value: /headless}}], backendRefs: [{name: headless, port: 80}]}"
        ),
        rows: &[get("services.test", "/headless").to("two")],
    },
];
