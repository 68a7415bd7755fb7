//! What rules do to requests and answers.

use super::{Feature, http_route, outside, walk};
use crate::stage::Stage;
use crate::table::{Row, get};

pub(super) fn edits(stage: &Stage) -> anyhow::Result<()> {
    let asker = outside(stage, "gw")?;
    walk(stage, &asker, EDITS, || Ok(()))
}

const fn preflight(path: &'static str, headers: &'static [(&'static str, &'static str)]) -> Row {
    get("cors.test", path).options(&["-XOPTIONS"]).with(headers)
}

const EDITS: &[Feature] = &[
    Feature {
        name: "HTTPRouteRequestHeaderModifier",
        objects: http_route!(
            "request-headers",
            "request-headers.test",
            r"
  - matches: [{path: {value: /set}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: set-overwrites}]}}]
    backendRefs: [{name: one, port: 80}]
  - matches: [{path: {value: /add}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-Header-Add, value: add-appends}]}}]
    backendRefs: [{name: one, port: 80}]
  - matches: [{path: {value: /remove}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [X-Header-Remove]}}]
    backendRefs: [{name: one, port: 80}]
  - matches: [{path: {value: /all}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: X-A, value: a}, {name: X-B, value: b}], add: [{name: X-C, value: c}], remove: [X-D, X-E]}
    backendRefs: [{name: one, port: 80}]"
        ),
        rows: &[
            get("request-headers.test", "/set")
                .with(&[("Some", "h")])
                .arrived(&[("x-header-set", "set-overwrites"), ("some", "h")]),
            get("request-headers.test", "/set")
                .with(&[("X-Header-Set", "x")])
                .arrived(&[("x-header-set", "set-overwrites")]),
            get("request-headers.test", "/add").arrived(&[("x-header-add", "add-appends")]),
            get("request-headers.test", "/add")
                .with(&[("X-Header-Add", "x")])
                .arrived(&[("x-header-add", "x,add-appends")]),
            get("request-headers.test", "/remove")
                .with(&[("X-Header-Remove", "x")])
                .kept_back(&["x-header-remove"]),
            get("request-headers.test", "/all")
                .with(&[
                    ("x-a", "1"),
                    ("x-c", "1"),
                    ("x-d", "1"),
                    ("X-E", "1"),
                    ("x-f", "1"),
                ])
                .arrived(&[("x-a", "a"), ("x-b", "b"), ("x-c", "1,c"), ("x-f", "1")])
                .kept_back(&["x-d", "x-e"]),
        ],
    },
    Feature {
        name: "HTTPRouteResponseHeaderModifier",
        objects: http_route!(
            "response-headers",
            "response-headers.test",
            r"
  - filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: X-Set, value: set}], add: [{name: X-Add, value: add}], remove: [X-Remove]}
    backendRefs: [{name: one, port: 80}]"
        ),
        rows: &[
            get(
                "response-headers.test",
                "/?header=x-set:1&header=x-remove:1&header=x-other:1",
            )
            .answered(&[("x-set", "set"), ("x-add", "add"), ("x-other", "1")])
            .unanswered(&["x-remove"]),
            get("response-headers.test", "/").answered(&[("x-set", "set"), ("x-add", "add")]),
        ],
    },
    Feature {
        name: "HTTPRouteBackendRequestHeaderModifier",
        objects: http_route!(
            "backend-headers",
            "backend-headers.test",
            r"
  - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-Both, value: rule}]}}]
    backendRefs:
    - name: one
      port: 80
      weight: 1
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Own, value: backend}], add: [{name: X-Both, value: backend}]}}]
    - {name: two, port: 80, weight: 0}"
        ),
        rows: &[get("backend-headers.test", "/")
            .to("one")
            .arrived(&[("x-own", "backend"), ("x-both", "rule,backend")])],
    },
    Feature {
        name: "HTTPRouteRedirectHostAndStatus, HTTPRoute303Redirect, HTTPRoute307Redirect, HTTPRoute308Redirect, HTTPRouteRedirectScheme, HTTPRouteRedirectPort, HTTPRouteRedirectPortAndScheme",
        objects: http_route!(
            "redirect",
            "redirect.test",
            r"
  - matches: [{path: {value: /host}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org}}]
  - matches: [{path: {value: /status}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 301}}]
  - matches: [{path: {value: /303}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 303}}]
  - matches: [{path: {value: /307}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 307}}]
  - matches: [{path: {value: /308}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 308}}]
  - matches: [{path: {value: /scheme}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
  - matches: [{path: {value: /scheme-status}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: example.org, statusCode: 301}}]
  - matches: [{path: {value: /port}}]
    filters: [{type: RequestRedirect, requestRedirect: {port: 8083}}]
  - matches: [{path: {value: /port-80}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, port: 80}}]
  - matches: [{path: {value: /port-scheme}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 443}}]"
        ),
        rows: &[
            get("redirect.test", "/host")
                .redirected(302, &[("location", "http://example.org/host")]),
            get("redirect.test", "/host?a=b")
                .redirected(302, &[("location", "http://example.org/host?a=b")]),
            get("redirect.test", "/status")
                .redirected(301, &[("location", "http://example.org/status")]),
            get("redirect.test", "/303").redirected(303, &[("location", "http://example.org/303")]),
            get("redirect.test", "/307").redirected(307, &[("location", "http://example.org/307")]),
            get("redirect.test", "/308").redirected(308, &[("location", "http://example.org/308")]),
            get("redirect.test", "/scheme")
                .redirected(302, &[("location", "https://redirect.test/scheme")]),
            get("redirect.test", "/scheme-status")
                .redirected(301, &[("location", "https://example.org/scheme-status")]),
            get("redirect.test", "/port")
                .redirected(302, &[("location", "http://redirect.test:8083/port")]),
            get("redirect.test", "/port-80")
                .redirected(302, &[("location", "http://example.org/port-80")]),
            get("redirect.test", "/port-scheme")
                .redirected(302, &[("location", "https://redirect.test/port-scheme")]),
        ],
    },
    Feature {
        name: "HTTPRouteRedirectPath",
        objects: http_route!(
            "redirect-path",
            "redirect-path.test",
            r"
  - matches: [{path: {value: /original-prefix}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}}}]
  - matches: [{path: {value: /full}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /full-path-replacement}}}]
  - matches: [{path: {value: /prefix-and-host}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]"
        ),
        rows: &[
            get("redirect-path.test", "/original-prefix/lemon").redirected(
                302,
                &[(
                    "location",
                    "http://redirect-path.test/replacement-prefix/lemon",
                )],
            ),
            get("redirect-path.test", "/full/path/original").redirected(
                302,
                &[(
                    "location",
                    "http://redirect-path.test/full-path-replacement",
                )],
            ),
            get("redirect-path.test", "/prefix-and-host/lemon")
                .redirected(302, &[("location", "http://example.org/lemon")]),
        ],
    },
    Feature {
        name: "HTTPRouteBackendRequestRedirect",
        objects: http_route!(
            "backend-redirect",
            "backend-redirect.test",
            r"
  - backendRefs:
    - name: one
      port: 80
      filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /redirected}}}]"
        ),
        rows: &[get("backend-redirect.test", "/original").redirected(
            302,
            &[(
                "location",
                "http://backend-redirect.test/redirected/original",
            )],
        )],
    },
    Feature {
        name: "HTTPRouteRewriteHost, HTTPRouteRewritePath",
        objects: http_route!(
            "rewrite",
            "rewrite.test",
            r"
  - matches: [{path: {value: /host}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: two.example.org}}]
    backendRefs: [{name: two, port: 80}]
  - matches: [{path: {value: /prefix/one}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}}]
    backendRefs: [{name: one, port: 80}]
  - matches: [{path: {value: /strip-prefix}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: one, port: 80}]
  - matches: [{path: {value: /full/one}}]
    filters:
    - {type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /one}}}
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: also}]}}
    backendRefs: [{name: one, port: 80}]"
        ),
        rows: &[
            get("rewrite.test", "/host")
                .to("two")
                .arrived(&[("host", "two.example.org"), ("path", "/host")]),
            get("rewrite.test", "/prefix/one/two")
                .arrived(&[("path", "/one/two"), ("host", "rewrite.test")]),
            get("rewrite.test", "/prefix/one?a=b").arrived(&[("path", "/one"), ("query", "a=b")]),
            get("rewrite.test", "/strip-prefix/three").arrived(&[("path", "/three")]),
            get("rewrite.test", "/strip-prefix").arrived(&[("path", "/")]),
            get("rewrite.test", "/full/one/two").arrived(&[("path", "/one"), ("x-set", "also")]),
        ],
    },
    Feature {
        name: "HTTPRouteBackendURLRewrite",
        objects: http_route!(
            "backend-rewrite",
            "backend-rewrite.test",
            r"
  - matches: [{path: {value: /old}}]
    backendRefs:
    - name: one
      port: 80
      filters: [{type: URLRewrite, urlRewrite: {hostname: new.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]"
        ),
        rows: &[get("backend-rewrite.test", "/old/x")
            .to("one")
            .arrived(&[("path", "/new/x"), ("host", "new.test")])],
    },
    Feature {
        name: "HTTPRouteCORS",
        objects: http_route!(
            "cors",
            "cors.test",
            r#"
  - matches: [{path: {value: /some}}]
    filters:
    - type: CORS
      cors:
        allowOrigins: ["https://www.foo.test", "https://*.bar.test"]
        allowMethods: [GET, OPTIONS]
        allowHeaders: [x-header-1, x-header-2]
        exposeHeaders: [x-header-3, x-header-4]
        allowCredentials: true
        maxAge: 3600
    backendRefs: [{name: one, port: 80}]
  - matches: [{path: {value: /any}}]
    filters: [{type: CORS, cors: {allowOrigins: ["*"], allowMethods: ["*"], allowHeaders: ["*"]}}]
    backendRefs: [{name: one, port: 80}]"#
        ),
        rows: &[
            preflight(
                "/some",
                &[
                    ("Origin", "https://www.foo.test"),
                    ("access-control-request-method", "GET"),
                ],
            )
            .answered(&[
                ("access-control-allow-origin", "https://www.foo.test"),
                ("access-control-allow-credentials", "true"),
                ("access-control-max-age", "3600"),
            ]),
            preflight(
                "/some",
                &[
                    ("Origin", "https://a.b.bar.test"),
                    ("access-control-request-method", "GET"),
                ],
            )
            .answered(&[("access-control-allow-origin", "https://a.b.bar.test")]),
            preflight(
                "/some",
                &[
                    ("Origin", "https://foobar.test"),
                    ("access-control-request-method", "GET"),
                ],
            )
            .unanswered(&["access-control-allow-origin"]),
            get("cors.test", "/some")
                .with(&[("Origin", "https://www.foo.test")])
                .to("one")
                .answered(&[("access-control-allow-origin", "https://www.foo.test")]),
            get("cors.test", "/some")
                .with(&[("Origin", "https://foobar.test")])
                .to("one")
                .unanswered(&["access-control-allow-origin"]),
            preflight(
                "/any",
                &[
                    ("Origin", "https://x.test"),
                    ("access-control-request-method", "PUT"),
                ],
            )
            .answered(&[("access-control-max-age", "5")]),
            get("cors.test", "/any")
                .to("one")
                .unanswered(&["access-control-allow-origin"]),
        ],
    },
];
