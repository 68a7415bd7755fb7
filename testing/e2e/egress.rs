//! Walk 5: out of the mesh through a waypoint (docs/egress.md).
//!
//! "Outside" is an echo in a namespace that is not enrolled; clients are the samples in `default`, the waypoint is in `egress`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tulle_testing::kubectl::{Kubectl, becomes, eventually};
use tulle_testing::suite::Case;

use crate::certificates::Certificates;
use crate::stage::Stage;
use crate::table::{Asker, Row, get};

const SOON: Duration = Duration::from_secs(60);
const SLEEP: &str = "deploy/sleep";

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "egress: something outside, and a waypoint for it",
        run: up,
    },
    Case {
        name: "egress: names that no DNS server knows, at layer 4",
        run: layer4,
    },
    Case {
        name: "egress: STATIC, DNS and NONE through the waypoint",
        run: resolutions,
    },
    Case {
        name: "egress: a wildcard waits for its waypoint, and names hosts",
        run: wildcard,
    },
    Case {
        name: "egress: denied by default, allowed by method and principal",
        run: authorization,
    },
    Case {
        name: "egress: TLS begins at the waypoint, by DestinationRule",
        run: by_destination_rule,
    },
    Case {
        name: "egress: TLS begins at the waypoint, by BackendTLSPolicy and HTTPRoute",
        run: by_policy_and_route,
    },
    Case {
        name: "egress: a WorkloadEntry behind a ServiceEntry",
        run: workload_entry,
    },
    Case {
        name: "egress: gone again",
        run: down,
    },
];

const LABELS: &str = "{istio.io/use-waypoint: egress, istio.io/use-waypoint-namespace: egress}";

/// A ServiceEntry of `default`.
fn entry(name: &str, labels: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: default, labels: {labels}}}\n\
         spec: {{location: MESH_EXTERNAL, {spec}}}\n"
    )
}

/// HTTP on port 80, and what is to become TLS on 8080, which leads to 443.
const PORTS: &str = "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, \
                     {number: 8080, name: http-for-tls, protocol: HTTP, targetPort: 8443}, \
                     {number: 443, name: https, protocol: HTTPS, targetPort: 8443}]";

/// What the echo sees of a request that came through the waypoint.
const THROUGH: &[crate::table::Pair] = &[("x-istio-source", "waypoint")];

fn through(host: &'static str) -> Row {
    get(host, "/").to("echo").arrived(THROUGH)
}

fn past(host: &'static str) -> Row {
    get(host, "/")
        .to("echo")
        .kept_back(&["x-request-id", "x-istio-source"])
}

fn sleep(kubectl: &Kubectl) -> Asker<'_> {
    Asker::pod(kubectl, SLEEP)
}

fn up(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("label namespace default istio.io/dataplane-mode=ambient --overwrite")?;
    kubectl.apply(
        r#"
apiVersion: v1
kind: Namespace
metadata: {name: egress}
---
apiVersion: v1
kind: Namespace
metadata: {name: beyond}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: egress, namespace: egress}
spec:
  gatewayClassName: istio-waypoint
  listeners:
  - {name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}
"#,
    )?;
    let certificates = Certificates::new()?;
    certificates.sign("root", "echo", "DNS:secure.example")?;
    certificates.sign("root", "client", "DNS:client.example")?;
    certificates.secret(kubectl, "beyond", "echo-tls", "echo", None)?;
    certificates.secret(kubectl, "egress", "client", "client", Some("root"))?;
    certificates.config_map(kubectl, "default", "outside-root", "root")?;
    kubectl.run(&format!("apply -n beyond -f {}", stage.sample("echo.yaml")))?;
    stage.all_enrolled("default")?;
    kubectl.run("wait -n egress gateway/egress --for=condition=Programmed --timeout=60s")?;
    kubectl.run("rollout status -n beyond deploy/echo --timeout=60s")?;
    Ok(())
}

fn echo_address(kubectl: &Kubectl) -> anyhow::Result<String> {
    let address =
        kubectl.run("get pod -n beyond -l app=echo -o=jsonpath={.items[0].status.podIP}")?;
    ensure!(!address.is_empty(), "the echo has no address");
    Ok(address)
}

fn condition(kubectl: &Kubectl, entry: &str, kind: &str) -> anyhow::Result<Value> {
    let object = kubectl.json(&format!("get serviceentry {entry}"))?;
    let found = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let mut found = found.filter(|c| c["type"] == kind);
    Ok(found.next().cloned().unwrap_or_default())
}

fn layer4(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let address = echo_address(kubectl)?;
    let said = kubectl.curl(SLEEP, &["http://static.example/"])?;
    ensure!(said.code == 6, "the name is known already: {said:?}");
    let spec = format!(
        "hosts: [static.example], resolution: STATIC, endpoints: [{{address: {address}}}], {PORTS}"
    );
    kubectl.apply(&entry("static", "{}", &spec))?;
    sleep(kubectl).expect(&[("layer 4", &[past("static.example")])])?;
    let given = kubectl.run("get serviceentry static -o=jsonpath={.status.addresses[0].value}")?;
    ensure!(
        given.starts_with("240.240."),
        "automatic addresses: {given:?}"
    );
    Ok(())
}

fn resolutions(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let address = echo_address(kubectl)?;
    kubectl.run("label serviceentry static istio.io/use-waypoint=egress istio.io/use-waypoint-namespace=egress")?;
    let dns = format!(
        "hosts: [dns.example], resolution: DNS, endpoints: [{{address: echo.beyond.svc.cluster.local}}], {PORTS}"
    );
    // The Service of the echo leads its own ports on.
    let dns = dns
        .replace("targetPort: 8080", "targetPort: 80")
        .replace("targetPort: 8443", "targetPort: 443");
    // Dialled by its address, as an application would that has it from elsewhere.
    let none = format!(
        "hosts: [none.example], resolution: NONE, addresses: [{address}], ports: [{{number: 8080, name: http, protocol: HTTP}}]"
    );
    let dialled = || -> anyhow::Result<bool> {
        let said = kubectl.curl(
            SLEEP,
            &[
                "-H",
                "host: none.example",
                &format!("http://{address}:8080/"),
            ],
        )?;
        let seen: Value = serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))?;
        Ok(!seen["headers"]["x-istio-source"].is_null())
    };
    ensure!(
        !dialled()?,
        "the address is led through the waypoint already"
    );
    kubectl.apply(&[entry("dns", LABELS, &dns), entry("none", LABELS, &none)].concat())?;
    sleep(kubectl).expect(&[(
        "resolutions",
        &[through("static.example"), through("dns.example")],
    )])?;
    becomes(
        "the address leads through the waypoint",
        &true,
        SOON,
        dialled,
    )?;
    let bound = condition(kubectl, "dns", "istio.io/WaypointBound")?;
    ensure!(
        bound["status"] == "True" && bound["reason"] == "WaypointAccepted",
        "{bound}"
    );
    kubectl.run("delete serviceentry none")?;
    becomes("the address is let through again", &false, SOON, dialled)
}

fn wildcard(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    // A name that cluster DNS has for the pod's address, and that no Service stands for.
    let host = format!(
        "{}.beyond.pod.cluster.local",
        echo_address(kubectl)?.replace('.', "-")
    );
    let url = format!("http://{host}/");
    let spec = format!("hosts: [\"*.beyond.pod.cluster.local\"], resolution: DYNAMIC_DNS, {PORTS}");
    kubectl.apply(&entry("wild", "{}", &spec))?;
    eventually("the condition says what is missing", SOON, || {
        let missing = condition(kubectl, "wild", "istio.io/WaypointMissing")?;
        ensure!(
            missing["status"] == "True" && missing["reason"] == "NoWaypointForWildcardService",
            "{missing}"
        );
        Ok(())
    })?;
    // Until then nothing is different: the address itself answers, on its own port.
    let status = kubectl.status_of(SLEEP, &format!("http://{host}:8080/"))?;
    ensure!(status == "200", "without a waypoint: {status}");
    kubectl.run("label serviceentry wild istio.io/use-waypoint=egress istio.io/use-waypoint-namespace=egress")?;
    becomes("a host of the wildcard", &"200".to_owned(), SOON, || {
        kubectl.status_of(SLEEP, &url)
    })?;
    ensure!(
        condition(kubectl, "wild", "istio.io/WaypointMissing")?.is_null(),
        "the condition stays"
    );
    let with_host = |host: &str| {
        let said = kubectl.curl(
            SLEEP,
            &["-o", "/dev/null", "-w", "%{http_code}", "-H", host, &url],
        )?;
        Ok(said.out)
    };
    becomes(
        "a host that it does not cover",
        &"404".to_owned(),
        SOON,
        || with_host("host: other.example"),
    )?;
    kubectl.run("delete serviceentry wild").map(drop)
}

const DENY: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nothing-leaves, namespace: egress}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: egress}]
"#;

const ALLOW: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: sleep-may-read, namespace: default}
spec:
  targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: static}]
  action: ALLOW
  rules:
  - from: [{source: {principals: ["cluster.local/ns/default/sa/sleep"]}}]
    to: [{operation: {methods: ["GET"]}}]
"#;

fn authorization(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(DENY)?;
    let denied = |host| get(host, "/").status(403);
    sleep(kubectl).expect(&[("denied", &[denied("static.example"), denied("dns.example")])])?;
    kubectl.apply(ALLOW)?;
    let post = denied("static.example").options(&["-X", "POST"]);
    sleep(kubectl).expect(&[(
        "allowed",
        &[through("static.example"), post, denied("dns.example")],
    )])?;
    Asker::pod(kubectl, "deploy/notsleep")
        .expect(&[("another principal", &[denied("static.example")])])?;
    let log = kubectl.run("logs -n egress deploy/egress --tail=50")?;
    ensure!(
        log.contains("rbac_access_denied"),
        "the log does not say why: {log}"
    );
    kubectl.delete(&[DENY, "---", ALLOW].concat())?;
    sleep(kubectl).expect(&[("no policy", &[through("dns.example")])])
}

/// A DestinationRule for `static.example` with this TLS on the port that leads to TLS.
fn originating(tls: &str) -> String {
    format!(
        r#"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: tls, namespace: default}}
spec:
  host: static.example
  trafficPolicy:
    portLevelSettings:
    - {{port: {{number: 8080}}, tls: {{{tls}}}}}
    - {{port: {{number: 443}}, tls: {{{tls}}}}}
"#
    )
}

fn by_destination_rule(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let row = || through("static.example").port(8080);
    kubectl.apply(&originating("mode: SIMPLE, insecureSkipVerify: true"))?;
    sleep(kubectl).expect(&[(
        "SIMPLE, unverified",
        &[row().arrived(&[("sni", "static.example")])],
    )])?;
    // The system's roots do not know the echo's.
    kubectl.apply(&originating("mode: SIMPLE, sni: secure.example"))?;
    sleep(kubectl).expect(&[(
        "SIMPLE, verified",
        &[get("static.example", "/").port(8080).status(503)],
    )])?;
    kubectl.apply(&originating(
        "mode: MUTUAL, credentialName: client, sni: secure.example",
    ))?;
    let shown = row().arrived(&[("sni", "secure.example"), ("client", "client.example")]);
    sleep(kubectl).expect(&[("MUTUAL", &[shown])])?;
    kubectl.run("delete destinationrule tls").map(drop)
}

const POLICY: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: tls, namespace: default}
spec:
  targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: static, sectionName: http-for-tls}]
  validation:
    hostname: secure.example
    caCertificateRefs: [{group: "", kind: ConfigMap, name: outside-root}]
"#;

/// What is asked for on port 80 leaves in TLS.
const ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: to-tls, namespace: default}
spec:
  parentRefs: [{group: networking.istio.io, kind: ServiceEntry, name: static}]
  rules:
  - backendRefs: [{group: networking.istio.io, kind: Hostname, name: static.example, port: 443}]
"#;

fn by_policy_and_route(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(POLICY)?;
    let secure = |row: Row| row.arrived(&[("sni", "secure.example")]);
    let policy = secure(through("static.example").port(8080));
    sleep(kubectl).expect(&[("BackendTLSPolicy", &[policy])])?;
    let unverified = originating("mode: SIMPLE, insecureSkipVerify: true, sni: secure.example");
    kubectl.apply(&[unverified.as_str(), "---", ROUTE].concat())?;
    sleep(kubectl).expect(&[("HTTPRoute", &[secure(through("static.example"))])])?;
    let route = kubectl.json("get httproute to-tls")?;
    let conditions = route["status"]["parents"][0]["conditions"]
        .as_array()
        .cloned();
    let conditions = conditions.context("the route has no status")?;
    for kind in ["Accepted", "ResolvedRefs"] {
        let found = conditions.iter().find(|c| c["type"] == kind);
        ensure!(
            found.is_some_and(|c| c["status"] == "True"),
            "{kind}: {conditions:?}"
        );
    }
    kubectl.delete(&[unverified.as_str(), "---", ROUTE, "---", POLICY].concat())
}

fn workload_entry(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let address = echo_address(kubectl)?;
    let machine = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: machine, namespace: default}}\n\
         spec: {{address: {address}, labels: {{app: legacy}}, ports: {{http: 8080}}}}\n"
    );
    let spec = "hosts: [legacy.example], resolution: STATIC, workloadSelector: {labels: {app: legacy}}, \
                ports: [{number: 80, name: http, protocol: HTTP}]";
    kubectl.apply(&[machine, entry("legacy", "{}", spec)].concat())?;
    sleep(kubectl).expect(&[("layer 4", &[past("legacy.example")])])?;
    kubectl.run("label serviceentry legacy istio.io/use-waypoint=egress istio.io/use-waypoint-namespace=egress")?;
    sleep(kubectl).expect(&[("the waypoint", &[through("legacy.example")])])?;
    kubectl.run("delete workloadentry machine")?;
    sleep(kubectl).expect(&[("no machine", &[get("legacy.example", "/").status(503)])])?;
    kubectl.run("delete serviceentry legacy").map(drop)
}

fn down(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("delete serviceentry static dns")?;
    kubectl.run("delete configmap outside-root")?;
    kubectl.run("delete namespace egress beyond --timeout=60s")?;
    let said = kubectl.curl(SLEEP, &["http://static.example/"])?;
    ensure!(said.code == 6, "the name is still known: {said:?}");
    Ok(())
}
