//! VirtualServices at the waypoint: several for one host, delegates, who sees them, and beside an HTTPRoute.

use anyhow::ensure;

use super::mesh::{CLIENT, CLIENT_ELSEWHERE, mesh_route, service};
use super::traffic::mirrored;
use super::{Feature, told, walk};
use crate::stage::Stage;
use crate::table::{Asker, get};

pub(super) fn routes(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let asker = Asker::pod(kubectl, CLIENT);
    walk(stage, &asker, FEATURES, || {
        let elsewhere = Asker::pod(kubectl, CLIENT_ELSEWHERE);
        elsewhere.expect(&[(
            "sourceNamespace",
            &[get("scoped.gw", "/namespace").to("two")],
        )])?;
        mirrored(stage, "three", "/vs-mirror", 1)?;
        told(
            kubectl,
            &[
                ("VirtualService/several-a", "", BOUND, "True", "Accepted"),
                ("VirtualService/several-b", "", BOUND, "True", "Accepted"),
                ("VirtualService/root", "", BOUND, "True", "PartiallyInvalid"),
                ("VirtualService/team", "", BOUND, "True", "Accepted"),
                ("VirtualService/own", "", BOUND, "True", "Accepted"),
                (
                    "VirtualService/inside",
                    "",
                    BOUND,
                    "True",
                    "PartiallyInvalid",
                ),
                (
                    "VirtualService/for-others",
                    "",
                    BOUND,
                    "False",
                    "AncestorNotBound",
                ),
                (
                    "VirtualService/at-gateways",
                    "",
                    BOUND,
                    "False",
                    "AncestorNotBound",
                ),
                ("VirtualService/claiming", "", BOUND, "True", "Accepted"),
                (
                    "HTTPRoute/claiming",
                    "claimed",
                    "Accepted",
                    "True",
                    "Accepted",
                ),
            ],
        )?;
        let why = kubectl.run(
            "get virtualservice -n gw for-others -o=jsonpath={.status.conditions[0].message}",
        )?;
        ensure!(why.contains("exportTo"), "{why}");
        Ok(())
    })
}

const BOUND: &str = "WaypointAccepted";

/// A VirtualService of namespace `gw`.
macro_rules! virtual_service {
    ($name:literal, $spec:literal) => {
        concat!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ",
            $name,
            ", namespace: gw}\nspec:",
            $spec,
            "\n"
        )
    };
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "several for one host: the older one first, what takes everything last",
        objects: concat!(
            service!("several", "one"),
            virtual_service!(
                "several-a",
                r#"
  hosts: [several]
  http:
  - {match: [{uri: {prefix: /first}}], route: [{destination: {host: two}}]}
  - {route: [{destination: {host: one}, headers: {response: {set: {x-rest: a}}}}]}"#
            ),
            virtual_service!(
                "several-b",
                r#"
  hosts: [several.gw.svc.cluster.local]
  http:
  - {match: [{uri: {prefix: /first}}, {uri: {prefix: /second}}], route: [{destination: {host: three}}]}
  - {route: [{destination: {host: three}}]}"#
            ),
        ),
        rows: &[
            get("several", "/first").to("two"),
            get("several", "/second").to("three"),
            get("several", "/other")
                .to("one")
                .answered(&[("x-rest", "a")]),
        ],
    },
    Feature {
        name: "in one the first match wins, whatever stands behind it",
        objects: concat!(
            service!("ordered", "one"),
            virtual_service!(
                "ordered",
                r#"
  hosts: [ordered]
  http:
  - {match: [{uri: {prefix: /before}}], route: [{destination: {host: two}}]}
  - {match: [{uri: {prefix: /}}], route: [{destination: {host: one}}]}
  - {match: [{uri: {exact: /behind}}], route: [{destination: {host: three}}]}"#
            ),
        ),
        rows: &[
            get("ordered", "/before").to("two"),
            get("ordered", "/behind").to("one"),
        ],
    },
    Feature {
        name: "delegates",
        objects: concat!(
            service!("delegated", "one"),
            virtual_service!(
                "root",
                r#"
  hosts: [delegated]
  http:
  - {match: [{uri: {prefix: /team}}], delegate: {name: team}}
  - {match: [{uri: {prefix: /other}}], delegate: {name: exported, namespace: gw-other}}
  - {match: [{uri: {prefix: /private}}], delegate: {name: private, namespace: gw-other}}
  - {match: [{uri: {prefix: /gone}}], delegate: {name: nobody}}
  - {route: [{destination: {host: one}}]}"#
            ),
            virtual_service!(
                "team",
                r#"
  http:
  - {match: [{uri: {prefix: /team/a}}], rewrite: {uri: /rewritten}, route: [{destination: {host: two}}]}
  - {match: [{uri: {prefix: /other}}], route: [{destination: {host: two}}]}
  - {route: [{destination: {host: three}}]}"#
            ),
            r#"
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: exported, namespace: gw-other}
spec: {exportTo: [gw], http: [{route: [{destination: {host: three.gw.svc.cluster.local}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: private, namespace: gw-other}
spec: {exportTo: ["."], http: [{route: [{destination: {host: three.gw.svc.cluster.local}}]}]}
"#
        ),
        rows: &[
            get("delegated", "/team/a/x")
                .to("two")
                .arrived(&[("path", "/rewritten/x")]),
            get("delegated", "/team/b").to("three"),
            get("delegated", "/other").to("three"),
            get("delegated", "/private").to("one"),
            get("delegated", "/gone").to("one"),
            get("delegated", "/").to("one"),
        ],
    },
    Feature {
        name: "exportTo, namespaces, gateways, sourceLabels, sourceNamespace",
        objects: concat!(
            service!("scoped", "one"),
            virtual_service!(
                "own",
                r#"
  hosts: [scoped]
  exportTo: ["."]
  http:
  - {match: [{uri: {prefix: /own}}], route: [{destination: {host: two}}]}
  - {route: [{destination: {host: one}}]}"#
            ),
            virtual_service!(
                "for-others",
                r#"
  hosts: [scoped]
  exportTo: [gw-other]
  http: [{match: [{uri: {prefix: /for-others}}], route: [{destination: {host: two}}]}]"#
            ),
            virtual_service!(
                "at-gateways",
                r#"
  hosts: [scoped]
  gateways: [no-such-gateway]
  http: [{match: [{uri: {prefix: /at-gateways}}], route: [{destination: {host: two}}]}]"#
            ),
            virtual_service!(
                "inside",
                r#"
  hosts: [scoped]
  gateways: [mesh, no-such-gateway]
  http:
  - {match: [{uri: {prefix: /mesh}, gateways: [mesh]}], route: [{destination: {host: two}}]}
  - {match: [{uri: {prefix: /not-mesh}, gateways: [no-such-gateway]}], route: [{destination: {host: two}}]}
  - {match: [{uri: {prefix: /labels}, sourceLabels: {app: sleep}}], route: [{destination: {host: two}}]}
  - {match: [{uri: {prefix: /namespace}, sourceNamespace: gw-other}], route: [{destination: {host: two}}]}"#
            ),
            r#"
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outsider, namespace: gw-other}
spec:
  hosts: [scoped.gw.svc.cluster.local]
  http: [{match: [{uri: {prefix: /outsider}}], route: [{destination: {host: two.gw.svc.cluster.local}}]}]
"#
        ),
        rows: &[
            get("scoped", "/own").to("two"),
            get("scoped", "/for-others").to("one"),
            get("scoped", "/at-gateways").to("one"),
            get("scoped", "/mesh").to("two"),
            get("scoped", "/not-mesh").to("one"),
            get("scoped", "/labels").to("one"),
            get("scoped", "/namespace").to("one"),
            get("scoped", "/outsider").to("one"),
        ],
    },
    Feature {
        name: "beside an HTTPRoute of the same Service",
        objects: concat!(
            service!("claimed", "one"),
            virtual_service!(
                "claiming",
                r#"
  hosts: [claimed]
  http: [{match: [{uri: {prefix: /both}}], route: [{destination: {host: two}}]}]"#
            ),
            mesh_route!(
                "HTTPRoute",
                "claiming",
                "claimed",
                "80",
                r"
  - {matches: [{path: {type: Exact, value: /both}}, {path: {value: /route}}], backendRefs: [{name: three, port: 80}]}"
            ),
        ),
        rows: &[
            get("claimed", "/both").to("two"),
            get("claimed", "/route").to("three"),
            get("claimed", "/neither").status(404),
        ],
    },
    Feature {
        name: "what a rule can do",
        objects: concat!(
            service!("edited", "one"),
            virtual_service!(
                "edited",
                r#"
  hosts: [edited]
  http:
  - match: [{uri: {prefix: /redirect}, ignoreUriCase: true}]
    redirect: {uri: /there, authority: elsewhere.test, redirectCode: 308}
  - match: [{uri: {prefix: /direct}}]
    directResponse: {status: 418, body: {string: "short and stout"}}
  - match: [{uri: {regex: "/v[0-9]+/.*"}, withoutHeaders: {x-stay: {}}}]
    rewrite: {uriRegexRewrite: {match: "^/v[0-9]+(/.*)$", rewrite: "\\1"}, authority: rewritten.test}
    route: [{destination: {host: two}}]
  - match: [{uri: {prefix: /cors}}]
    corsPolicy: {allowOrigins: [{exact: "https://foo.test"}], allowMethods: [GET], maxAge: 60s}
    route: [{destination: {host: two}}]
  - match: [{uri: {prefix: /slow}}]
    timeout: 0.3s
    route: [{destination: {host: one}}]
  - match: [{uri: {prefix: /again}}]
    retries: {attempts: 2, retryOn: 5xx}
    route: [{destination: {host: one}}]
  - match: [{uri: {prefix: /vs-mirror}}]
    mirror: {host: three}
    route: [{destination: {host: one}}]
  - headers: {request: {set: {x-set: s}, remove: [x-remove]}, response: {add: {x-answer: r}}}
    route: [{destination: {host: one}}]"#
            ),
        ),
        rows: &[
            get("edited", "/REDIRECT")
                .redirected(308, &[("location", "http://elsewhere.test/there")]),
            get("edited", "/direct").status(418),
            get("edited", "/v1/x")
                .to("two")
                .arrived(&[("path", "/x"), ("host", "rewritten.test")]),
            get("edited", "/v1/x").with(&[("x-stay", "1")]).to("one"),
            get("edited", "/cors")
                .options(&["-XOPTIONS"])
                .with(&[
                    ("Origin", "https://foo.test"),
                    ("access-control-request-method", "GET"),
                ])
                .answered(&[("access-control-allow-origin", "https://foo.test")]),
            get("edited", "/slow?delay=0.8").status(504),
            get("edited", "/again?key=vaUNIQUE&fail=2&status=500").to("one"),
            get("edited", "/again?key=vbUNIQUE&fail=3&status=500").status(500),
            get("edited", "/vs-mirror").to("one"),
            get("edited", "/")
                .with(&[("x-remove", "1")])
                .arrived(&[("x-set", "s")])
                .kept_back(&["x-remove"])
                .answered(&[("x-answer", "r")]),
        ],
    },
];
