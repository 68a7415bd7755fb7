//! Walk 3: authorization of requests at waypoints and gateways (docs/authorization.md).
//!
//! A namespace of its own, with httpbin, two clients, an authorizer and an issuer of tokens behind a waypoint.

mod providers;
mod tokens;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::{Kubectl, becomes, eventually};
use tulle_testing::suite::Case;

use crate::proxies;
use crate::stage::Stage;

const SOON: Duration = Duration::from_secs(60);
const SLEEP: &str = "-n authz deploy/sleep";
const NOTSLEEP: &str = "-n authz deploy/notsleep";
const URL: &str = "http://httpbin:8000";

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "authorization: a namespace with a waypoint",
        run: up,
    },
    Case {
        name: "authorization: DENY by path template, host and header",
        run: deny,
    },
    Case {
        name: "authorization: dry run and AUDIT are noted and decide nothing",
        run: noted,
    },
    Case {
        name: "authorization: the root namespace denies by default at all waypoints",
        run: default_deny,
    },
    Case {
        name: "authorization: a policy on an ingress gateway",
        run: at_a_gateway,
    },
    Case {
        name: "authorization: a provider is asked over HTTP",
        run: providers::http,
    },
    Case {
        name: "authorization: a provider is asked over gRPC",
        run: providers::grpc,
    },
    Case {
        name: "authorization: without an answer it is refused, or passes if wanted",
        run: providers::away,
    },
    Case {
        name: "authorization: tokens, keys inline",
        run: tokens::inline,
    },
    Case {
        name: "authorization: tokens in other places, and what the application sees",
        run: tokens::places,
    },
    Case {
        name: "authorization: tokens, keys of an issuer in the cluster",
        run: tokens::by_uri,
    },
    Case {
        name: "authorization: gone again",
        run: down,
    },
];

fn up(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("create namespace authz")?;
    kubectl.run("label namespace authz istio.io/dataplane-mode=ambient")?;
    for sample in [
        "httpbin.yaml",
        "sleep.yaml",
        "notsleep.yaml",
        "ext-authz.yaml",
    ] {
        kubectl.run(&format!("apply -n authz -f {}", stage.sample(sample)))?;
    }
    stage.mesh_config(providers::PROVIDERS)?;
    kubectl.run("wait -n authz deployment --all --for=condition=Available --timeout=120s")?;
    stage.all_enrolled("authz")?;
    stage.tulle(&[
        "waypoint",
        "apply",
        "-n",
        "authz",
        "--enroll-namespace",
        "--wait",
    ])?;
    eventually("requests go through the waypoint", SOON, || {
        let said = kubectl.curl(SLEEP, &[&format!("{URL}/headers")])?;
        ensure!(said.out.to_lowercase().contains("x-request-id"), "{said:?}");
        Ok(())
    })
}

/// What curl gets: the status.
fn ask(kubectl: &Kubectl, from: &str, path: &str, further: &[&str]) -> anyhow::Result<String> {
    let url = format!("{URL}{path}");
    let mut args = vec!["-o", "/dev/null", "-w", "%{http_code}"];
    args.extend(further);
    args.push(&url);
    Ok(kubectl.curl(from, &args)?.out)
}

/// A status that comes about when policies have reached the waypoint.
fn gets(
    kubectl: &Kubectl,
    what: &str,
    (from, path, further): (&str, &str, &[&str]),
    status: &str,
) -> anyhow::Result<()> {
    becomes(what, &status.to_owned(), SOON, || {
        ask(kubectl, from, path, further)
    })
}

/// One line of the waypoint's log has all of these.
fn logged(kubectl: &Kubectl, parts: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("the log says {parts:?}"), SOON, || {
        let log = kubectl.run("logs -n authz deploy/waypoint --tail=400")?;
        let found = log
            .lines()
            .any(|l| parts.iter().all(|part| l.contains(part)));
        ensure!(found, "{log}");
        Ok(())
    })
}

/// One sample of the waypoint's metrics has all of these.
fn counted(kubectl: &Kubectl, parts: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("the metrics say {parts:?}"), SOON, || {
        let page = proxies::metrics(kubectl, "authz", "waypoint")?;
        let found = page
            .lines()
            .any(|l| parts.iter().all(|part| l.contains(part)));
        ensure!(found, "{page}");
        Ok(())
    })
}

/// A refusal is seen where people look.
fn refused_by(kubectl: &Kubectl, policy: &str, details: &[&str]) -> anyhow::Result<()> {
    let mut line = vec![" 403 "];
    line.extend(details);
    logged(kubectl, &line)?;
    counted(
        kubectl,
        &[
            "istio_requests_total{",
            "response_code=\"403\"",
            "destination_service_name=\"httpbin\"",
            "reporter=\"waypoint\"",
        ],
    )?;
    counted(
        kubectl,
        &[
            "tulle_authorization_decisions_total{",
            &format!("policy=\"{policy}\""),
        ],
    )
}

const DENY: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-secrets, namespace: authz}
spec:
  targetRefs: [{group: "", kind: Service, name: httpbin}]
  action: DENY
  rules:
  - to: [{operation: {paths: ["/anything/{*}/secrets/{**}"]}}]
  - to: [{operation: {hosts: ["evil.example.com*"]}}]
  - when: [{key: "request.headers[x-forbidden]", values: ["yes*"]}]
    from: [{source: {notPrincipals: ["cluster.local/ns/authz/sa/sleep"]}}]
"#;

fn deny(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(DENY)?;
    let secret = "/anything/alice/secrets/a/b";
    gets(
        kubectl,
        "a path that fits the template",
        (SLEEP, secret, &[]),
        "403",
    )?;
    let row = |from, path, further: &[&str]| ask(kubectl, from, path, further);
    // By any spelling; one element is one element.
    ensure!(row(SLEEP, "/anything/alice/%73ecrets/", &["--path-as-is"])? == "403");
    ensure!(row(SLEEP, "/anything/x/../alice/secrets/a", &["--path-as-is"])? == "403");
    ensure!(row(SLEEP, "/anything/a/b/secrets/c", &[])? == "200");
    ensure!(row(SLEEP, "/anything/alice/other", &[])? == "200");
    let evil = "Host: EVIL.example.com:80";
    ensure!(row(SLEEP, "/get", &["-H", evil])? == "403");
    let forbidden = "x-forbidden: yes, really";
    ensure!(row(NOTSLEEP, "/get", &["-H", forbidden])? == "403");
    ensure!(row(SLEEP, "/get", &["-H", forbidden])? == "200");
    ensure!(row(NOTSLEEP, "/get", &["-H", "x-forbidden: no"])? == "200");
    refused_by(
        kubectl,
        "authz/no-secrets",
        &["rbac_access_denied_matched_policy[ns[authz]-policy[no-secrets]-rule[0]]"],
    )?;
    logged(kubectl, &["denied by policy authz/no-secrets rule 2"])?;
    kubectl.run("delete -n authz authorizationpolicy no-secrets")?;
    gets(kubectl, "nothing is forbidden", (SLEEP, secret, &[]), "200")
}

const NOTED: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: maybe-deny, namespace: authz, annotations: {istio.io/dry-run: "true"}}
spec:
  targetRefs: [{group: "", kind: Service, name: httpbin}]
  action: DENY
  rules: [{to: [{operation: {paths: ["/uuid"]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: maybe-allow, namespace: authz, annotations: {istio.io/dry-run: "true"}}
spec:
  targetRefs: [{group: "", kind: Service, name: httpbin}]
  rules: [{from: [{source: {principals: ["cluster.local/ns/authz/sa/sleep"]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: watched, namespace: authz}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]
  action: AUDIT
  rules: [{to: [{operation: {methods: ["DELETE"]}}]}]
"#;

fn noted(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(NOTED)?;
    eventually("everything is noted", SOON, || {
        for (from, path, further) in [
            (SLEEP, "/uuid", &[][..]),
            (NOTSLEEP, "/get", &[]),
            (SLEEP, "/delete", &["-X", "DELETE"]),
        ] {
            let status = ask(kubectl, from, path, further)?;
            ensure!(status == "200", "{path}: {status}");
        }
        let page = proxies::metrics(kubectl, "authz", "waypoint")?;
        for (policy, result) in [
            ("maybe-deny", "would_be_denied"),
            ("maybe-allow", "would_be_allowed"),
            ("maybe-allow", "would_not_be_allowed"),
            ("watched", "audited"),
        ] {
            let sample = format!("{{policy=\"authz/{policy}\",result=\"{result}\"}}");
            ensure!(page.contains(&sample), "{sample}: {page}");
        }
        Ok(())
    })?;
    logged(
        kubectl,
        &[
            "would be denied by dry-run policy authz/maybe-deny rule 0",
            "httpbin:8000/uuid",
        ],
    )?;
    logged(
        kubectl,
        &["audited by policy authz/watched rule 0", "sa/sleep"],
    )?;
    kubectl.run("delete -n authz authorizationpolicy --all")?;
    Ok(())
}

const DEFAULT_DENY: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-all-waypoints, namespace: istio-system}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: but-sleep-may-get, namespace: authz}
spec:
  targetRefs: [{group: "", kind: Service, name: httpbin}]
  rules:
  - from: [{source: {principals: ["cluster.local/ns/authz/sa/sleep"]}}]
    to: [{operation: {methods: ["GET"]}}]
"#;

fn default_deny(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(DEFAULT_DENY)?;
    gets(
        kubectl,
        "others are refused",
        (NOTSLEEP, "/get", &[]),
        "403",
    )?;
    gets(kubectl, "sleep may GET", (SLEEP, "/get", &[]), "200")?;
    let post = ask(kubectl, SLEEP, "/post", &["-X", "POST"])?;
    ensure!(post == "403", "sleep may not POST: {post}");
    refused_by(
        kubectl,
        "istio-system/deny-all-waypoints",
        &["no allow policy of authz/but-sleep-may-get, istio-system/deny-all-waypoints matched"],
    )?;
    let policy = kubectl.json("get authorizationpolicy -n istio-system deny-all-waypoints")?;
    let conditions = policy["status"]["conditions"].as_array();
    let accepted = |c: &serde_json::Value| c["type"] == "WaypointAccepted" && c["status"] == "True";
    ensure!(
        conditions.is_some_and(|all| all.iter().any(accepted)),
        "{}",
        policy["status"]
    );
    kubectl.run("delete -n istio-system authorizationpolicy deny-all-waypoints")?;
    kubectl.run("delete -n authz authorizationpolicy but-sleep-may-get")?;
    gets(kubectl, "everybody may", (NOTSLEEP, "/get", &[]), "200")
}

const GATEWAY: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: authz}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front, namespace: authz}
spec:
  parentRefs: [{name: front}]
  rules: [{backendRefs: [{name: httpbin, port: 8000}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: front-door, namespace: authz}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: front}]
  action: DENY
  rules: [{to: [{operation: {hosts: ["closed.example.com"], notPaths: ["/status/*"]}}]}]
"#;

fn at_a_gateway(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(GATEWAY)?;
    let status = |host: &str, path: &str| proxies::status(kubectl, "authz", "front", host, path);
    becomes("a host that is closed", &"403".to_owned(), SOON, || {
        status("closed.example.com", "/get")
    })?;
    ensure!(status("closed.example.com", "/status/204")? == "204");
    ensure!(status("open.example.com", "/get")? == "200");
    let log = kubectl.run("logs -n authz deploy/front-istio --tail=50")?;
    ensure!(
        log.contains("ns[authz]-policy[front-door]-rule[0]"),
        "{log}"
    );
    kubectl.delete(GATEWAY)
}

fn down(stage: &Stage) -> anyhow::Result<()> {
    stage.mesh_config("").context("the mesh configuration")?;
    stage.kubectl.run("delete namespace authz --wait=false")?;
    Ok(())
}
