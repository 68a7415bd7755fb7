//! The walks of layer 7: a waypoint for the namespace, routes, faults and canaries, authorization of requests, ingress.
//!
//! The namespace `default` with the samples is enrolled here; the waypoint is gone at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::{Kubectl, becomes, eventually};
use tulle_testing::suite::Case;

use crate::proxies;
use crate::stage::Stage;

const SOON: Duration = Duration::from_secs(60);
const HEADERS: &str = "http://httpbin:8000/headers";
/// Calls that count who answers. A share of 100 calls stays within the bounds below in all but one of a million runs.
const CALLS: usize = 100;

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "waypoint: apply, enrol the namespace, wait",
        run: apply,
    },
    Case {
        name: "waypoint: requests go through it, and it says so",
        run: seen,
    },
    Case {
        name: "waypoint: HTTPRoute splits, matches and edits headers",
        run: http_route,
    },
    Case {
        name: "waypoint: VirtualService delays, aborts and routes to subsets",
        run: virtual_service,
    },
    Case {
        name: "waypoint: authorization by method and principal answers 403",
        run: authorization,
    },
    Case {
        name: "waypoint: a policy of one service does not touch another",
        run: policies_do_not_leak,
    },
    Case {
        name: "waypoint: a rolling restart under load fails no request",
        run: rolling_restart,
    },
    Case {
        name: "waypoint: an ingress gateway is reached at its address",
        run: ingress,
    },
    Case {
        name: "waypoint: deleted, layer 4 is what remains",
        run: delete,
    },
];

fn apply(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("label namespace default istio.io/dataplane-mode=ambient --overwrite")?;
    stage.all_enrolled("default")?;
    let said = stage.tulle(&[
        "waypoint",
        "apply",
        "-n",
        "default",
        "--enroll-namespace",
        "--wait",
    ])?;
    ensure!(said.contains("waypoint default/waypoint applied"), "{said}");
    let gateway = kubectl.json("get gateway waypoint")?;
    for kind in ["Accepted", "Programmed"] {
        ensure!(
            condition(&gateway["status"]["conditions"], kind) == Some(true),
            "{kind}: {gateway:#}"
        );
    }
    kubectl.run("get deployment,service,serviceaccount waypoint")?;
    eventually("the service is bound", SOON, || {
        let service = kubectl.json("get service httpbin")?;
        ensure!(
            condition(&service["status"]["conditions"], "istio.io/WaypointBound") == Some(true),
            "{}",
            service["status"]
        );
        Ok(())
    })?;
    let list = stage.tulle(&["waypoint", "list", "-A"])?;
    ensure!(list.contains("waypoint") && list.contains("True"), "{list}");
    Ok(())
}

fn condition(conditions: &serde_json::Value, kind: &str) -> Option<bool> {
    let found = conditions.as_array()?.iter().find(|c| c["type"] == kind)?;
    Some(found["status"] == "True")
}

/// What httpbin saw of a request's headers, names in lower case.
fn headers_at_server(
    kubectl: &Kubectl,
    further: &[&str],
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut args = further.to_vec();
    args.push(HEADERS);
    let said = kubectl.curl("deploy/sleep", &args)?;
    let seen: serde_json::Value =
        serde_json::from_str(&said.out).with_context(|| format!("httpbin said {said:?}"))?;
    let headers = seen["headers"].as_object().context("no headers")?;
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Array(values) => values[0].as_str().unwrap_or_default().to_owned(),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    Ok(headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), text(value)))
        .collect())
}

fn seen(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    eventually("httpbin sees an x-request-id", SOON, || {
        let headers = headers_at_server(kubectl, &[])?;
        ensure!(headers.contains_key("x-request-id"), "{headers:?}");
        ensure!(
            !headers.contains_key("baggage"),
            "metadata leaks: {headers:?}"
        );
        Ok(())
    })?;
    eventually("the access log has the request", SOON, || {
        let log = kubectl.run("logs deploy/waypoint --tail=50")?;
        ensure!(log.contains("GET /headers"), "{log}");
        Ok(())
    })?;
    eventually("the request is counted", SOON, || {
        let page = proxies::metrics(kubectl, "default", "waypoint")?;
        let counted = |line: &&str| {
            line.starts_with("istio_requests_total{")
                && line.contains("reporter=\"waypoint\"")
                && line.contains("source_workload=\"sleep\"")
                && line.contains("destination_service_name=\"httpbin\"")
                && line.contains("response_code=\"200\"")
        };
        ensure!(page.lines().any(|l| counted(&l)), "{page}");
        Ok(())
    })
}

/// How often each of `names` was in the answer.
fn shares(
    kubectl: &Kubectl,
    url: &str,
    further: &[&str],
    names: &[&str],
) -> anyhow::Result<Vec<usize>> {
    let script = format!(
        "for i in $(seq {CALLS}); do curl -s --max-time 5 {} {url} || echo failed; echo; done",
        further.join(" ")
    );
    let said = kubectl.exec("deploy/sleep", &["sh", "-c", &script])?;
    ensure!(!said.out.contains("failed"), "{}", said.out);
    Ok(names
        .iter()
        .map(|name| said.out.matches(name).count())
        .collect())
}

const SPLIT: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: helloworld-v1, namespace: default}
spec: {selector: {app: helloworld, version: v1}, ports: [{name: http, port: 5000}]}
---
apiVersion: v1
kind: Service
metadata: {name: helloworld-v2, namespace: default}
spec: {selector: {app: helloworld, version: v2}, ports: [{name: http, port: 5000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: helloworld, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: helloworld, port: 5000}]
  rules:
  - matches: [{headers: [{name: end-user, value: jason}]}]
    backendRefs: [{name: helloworld-v2, port: 5000}]
  - backendRefs:
    - {name: helloworld-v1, port: 5000, weight: 90}
    - {name: helloworld-v2, port: 5000, weight: 10}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin}]
  rules:
  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-set-by-route, value: "yes"}], remove: [x-secret]}
    backendRefs: [{name: httpbin, port: 8000}]
"#;

fn http_route(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let url = "http://helloworld:5000/hello";
    kubectl.apply(SPLIT)?;
    eventually("9 of 10 go to v1", SOON, || {
        let shares = shares(kubectl, url, &[], &["version: v1", "version: v2"])?;
        ensure!(shares[0] + shares[1] == CALLS, "{shares:?}");
        ensure!((70..=99).contains(&shares[0]), "{shares:?}");
        Ok(())
    })?;
    let jason = shares(kubectl, url, &["-H", "'end-user: jason'"], &["version: v2"])?;
    ensure!(jason == [CALLS], "the header does not decide: {jason:?}");
    eventually("headers are edited", SOON, || {
        let headers = headers_at_server(kubectl, &["-H", "x-secret: 1"])?;
        ensure!(
            headers.get("x-set-by-route").is_some_and(|v| v == "yes"),
            "{headers:?}"
        );
        ensure!(!headers.contains_key("x-secret"), "{headers:?}");
        Ok(())
    })?;
    let route = kubectl.json("get httproute helloworld")?;
    let parent = &route["status"]["parents"][0]["conditions"];
    for kind in ["Accepted", "ResolvedRefs"] {
        ensure!(
            condition(parent, kind) == Some(true),
            "{kind}: {}",
            route["status"]
        );
    }
    kubectl.run("delete httproute helloworld httpbin")?;
    kubectl.run("delete service helloworld-v1 helloworld-v2")?;
    Ok(())
}

const FAULTS: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin, namespace: default}
spec:
  hosts: [httpbin]
  http:
  - match: [{uri: {prefix: /headers}}]
    fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}
    route: [{destination: {host: httpbin}}]
  - match: [{uri: {exact: /get}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: httpbin}}]
  - route: [{destination: {host: httpbin}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets:
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - route: [{destination: {host: reviews, subset: v3}}]
"#;

fn virtual_service(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(FAULTS)?;
    eventually("an abort", SOON, || {
        let status = kubectl.status_of("deploy/sleep", "http://httpbin:8000/get")?;
        ensure!(status == "418", "{status}");
        Ok(())
    })?;
    let said = kubectl.curl(
        "deploy/sleep",
        &["-o", "/dev/null", "-w", "%{time_total}", HEADERS],
    )?;
    let took: f64 = said.out.parse().with_context(|| format!("{said:?}"))?;
    ensure!(took >= 2.0, "not delayed: {took} s");
    let status = kubectl.status_of("deploy/sleep", "http://httpbin:8000/status/204")?;
    ensure!(status == "204", "the last rule: {status}");
    let url = "http://reviews:9080/reviews/1";
    eventually("everybody gets v3", SOON, || {
        let v3 = shares(kubectl, url, &[], &["reviews-v3"])?;
        ensure!(v3 == [CALLS], "{v3:?}");
        Ok(())
    })?;
    let jason = shares(kubectl, url, &["-H", "'end-user: jason'"], &["reviews-v2"])?;
    ensure!(jason == [CALLS], "{jason:?}");
    kubectl.run("delete virtualservice httpbin reviews")?;
    kubectl.run("delete destinationrule reviews")?;
    Ok(())
}

const ONLY_GET: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-get, namespace: default}
spec:
  targetRefs: [{group: "", kind: Service, name: httpbin}]
  action: ALLOW
  rules:
  - from: [{source: {principals: ["cluster.local/ns/default/sa/sleep"]}}]
    to: [{operation: {methods: ["GET"]}}]
"#;

fn status_with(kubectl: &Kubectl, from: &str, method: &str, url: &str) -> anyhow::Result<String> {
    Ok(kubectl
        .curl(
            from,
            &["-o", "/dev/null", "-w", "%{http_code}", "-X", method, url],
        )?
        .out)
}

fn authorization(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let url = "http://httpbin:8000/anything";
    kubectl.apply(ONLY_GET)?;
    becomes(
        "another principal is refused",
        &"403".to_owned(),
        SOON,
        || status_with(kubectl, "deploy/notsleep", "GET", HEADERS),
    )?;
    becomes("sleep may GET", &"200".to_owned(), SOON, || {
        status_with(kubectl, "deploy/sleep", "GET", HEADERS)
    })?;
    becomes("sleep may not POST", &"403".to_owned(), SOON, || {
        status_with(kubectl, "deploy/sleep", "POST", url)
    })?;
    eventually("the log says why", SOON, || {
        let log = kubectl.run("logs deploy/waypoint --tail=50")?;
        ensure!(
            log.lines()
                .any(|l| l.contains(" 403 ") && l.contains("only-get")),
            "{log}"
        );
        Ok(())
    })?;
    eventually("the policy is accepted", SOON, || {
        let policy = kubectl.json("get authorizationpolicy only-get")?;
        ensure!(
            condition(&policy["status"]["conditions"], "WaypointAccepted") == Some(true),
            "{}",
            policy["status"]
        );
        Ok(())
    })
}

fn policies_do_not_leak(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    becomes("helloworld answers", &"200".to_owned(), SOON, || {
        kubectl.status_of("deploy/notsleep", "http://helloworld:5000/hello")
    })?;
    kubectl.run("delete authorizationpolicy only-get")?;
    becomes("httpbin answers again", &"200".to_owned(), SOON, || {
        status_with(kubectl, "deploy/notsleep", "GET", HEADERS)
    })
}

fn rolling_restart(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let script = format!(
        "end=$(($(date +%s) + 15)); while [ $(date +%s) -lt $end ]; do curl -s -o /dev/null --max-time 5 -w '%{{http_code}}\\n' {HEADERS}; done"
    );
    let load = kubectl
        .program("kubectl")
        .args(["exec", "deploy/sleep", "--", "sh", "-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    let restarted = kubectl
        .run("rollout restart deploy/waypoint")
        .and_then(|_| kubectl.run("rollout status deploy/waypoint --timeout=60s"));
    let output = load.wait_with_output()?;
    restarted?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (good, bad): (Vec<&str>, Vec<&str>) = text.lines().partition(|l| *l == "200");
    ensure!(
        bad.is_empty() && good.len() > 50,
        "{} good, bad: {bad:?}",
        good.len()
    );
    Ok(())
}

const INGRESS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ingress, namespace: default}
spec:
  gatewayClassName: istio
  listeners:
  - {name: http, port: 80, protocol: HTTP, hostname: "*.example.com", allowedRoutes: {namespaces: {from: Same}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: productpage, namespace: default}
spec:
  parentRefs: [{name: ingress}]
  hostnames: [bookinfo.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs: [{name: productpage, port: 9080}]
"#;

fn ingress(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(INGRESS)?;
    kubectl.run("rollout status deploy/ingress-istio --timeout=60s")?;
    let get = |host: &str| proxies::status(kubectl, "default", "ingress", host, "/");
    becomes(
        "productpage through the gateway",
        &"200".to_owned(),
        SOON,
        || get("bookinfo.example.com"),
    )?;
    becomes("a host without a route", &"404".to_owned(), SOON, || {
        get("other.example.com")
    })?;
    kubectl.run("delete httproute productpage")?;
    kubectl.run("delete gateway ingress")?;
    eventually("what was made for it is gone", SOON, || {
        let left = kubectl.run("get deploy,service,serviceaccount,pod -l gateway.networking.k8s.io/gateway-name=ingress -o name")?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}

fn delete(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("label namespace default istio.io/use-waypoint-")?;
    stage.tulle(&["waypoint", "delete", "-n", "default", "waypoint"])?;
    eventually("no waypoint in the way", SOON, || {
        let headers = headers_at_server(kubectl, &[])?;
        ensure!(!headers.contains_key("x-request-id"), "{headers:?}");
        Ok(())
    })?;
    eventually("what was made for it is gone", SOON, || {
        let left = kubectl
            .run("get deploy,pod -l gateway.networking.k8s.io/gateway-name=waypoint -o name")?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}
