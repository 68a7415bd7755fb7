//! CUSTOM: somebody outside decides (samples/ext-authz.yaml).

use anyhow::ensure;
use tulle_testing::kubectl::{Kubectl, eventually};

use super::{SLEEP, SOON, URL, ask, counted, gets, logged};
use crate::stage::Stage;

/// As docs/authorization.md has them.
pub(super) const PROVIDERS: &str = r#"
extensionProviders:
- name: sample-ext-authz-http
  envoyExtAuthzHttp:
    service: ext-authz.authz.svc.cluster.local
    port: 8000
    timeout: 2s
    includeRequestHeadersInCheck: [x-ext-authz]
    includeAdditionalHeadersInCheck: {x-ext-authz-additional-header-override: from-the-mesh}
    headersToUpstreamOnAllow: [x-ext-authz-check-result, x-ext-authz-additional-header-override]
    headersToDownstreamOnAllow: [x-ext-authz-check-received]
    headersToDownstreamOnDeny: [x-ext-authz-check-result]
- name: sample-ext-authz-grpc
  envoyExtAuthzGrpc: {service: ext-authz.authz.svc.cluster.local, port: 9000, timeout: 2s}
- name: away-refuses
  envoyExtAuthzGrpc: {service: ext-authz.authz.svc.cluster.local, port: 9999, timeout: 1s, statusOnError: "503"}
- name: away-passes
  envoyExtAuthzHttp: {service: ext-authz.authz.svc.cluster.local, port: 9999, timeout: 1s, failOpen: true}
"#;

/// A CUSTOM policy on /headers.
fn asks(kubectl: &Kubectl, provider: &str) -> anyhow::Result<()> {
    kubectl.apply(&format!(
        r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ext-authz, namespace: authz}}
spec:
  targetRefs: [{{group: "", kind: Service, name: httpbin}}]
  action: CUSTOM
  provider: {{name: {provider}}}
  rules: [{{to: [{{operation: {{paths: ["/headers"]}}}}]}}]
"#
    ))
}

const ALLOW: &[&str] = &["-H", "x-ext-authz: allow"];

pub(super) fn http(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    asks(kubectl, "sample-ext-authz-http")?;
    gets(kubectl, "denied", (SLEEP, "/headers", &[]), "403")?;
    let url = format!("{URL}/headers");
    let denied = kubectl.curl(SLEEP, &["-i", &url])?.out;
    ensure!(denied.contains("denied by ext_authz"), "{denied}");
    ensure!(
        denied.contains("x-ext-authz-check-result: denied"),
        "{denied}"
    );
    ensure!(!denied.contains("x-ext-authz-check-received"), "{denied}");
    let allowed = kubectl
        .curl(SLEEP, &["-i", "-H", "x-ext-authz: allow", &url])?
        .out;
    let lower = allowed.to_lowercase();
    ensure!(lower.contains("200 ok"), "{allowed}");
    ensure!(
        lower.contains("x-ext-authz-check-received: get httpbin:8000/headers"),
        "{allowed}"
    );
    for seen in ["\"x-ext-authz-check-result\"", "from-the-mesh"] {
        ensure!(
            lower.contains(seen),
            "the application does not see {seen}: {allowed}"
        );
    }
    ensure!(
        ask(kubectl, SLEEP, "/get", &[])? == "200",
        "nobody is asked about /get"
    );
    logged(
        kubectl,
        &[
            " 403 UAEX ext_authz_denied",
            "asked by policy authz/ext-authz rule 0",
        ],
    )?;
    counted(
        kubectl,
        &[
            "istio_requests_total{",
            "response_code=\"403\"",
            "response_flags=\"UAEX\"",
        ],
    )
}

pub(super) fn grpc(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    asks(kubectl, "sample-ext-authz-grpc")?;
    let url = format!("{URL}/headers");
    eventually("gRPC is asked, and allows", SOON, || {
        let said = kubectl
            .curl(SLEEP, &["-H", "x-ext-authz: allow", &url])?
            .out;
        ensure!(
            said.contains("grpc-additional-header-override-value"),
            "{said}"
        );
        Ok(())
    })?;
    let denied = kubectl.curl(SLEEP, &["-i", &url])?.out;
    ensure!(
        denied.contains(" 403 ") && denied.contains("denied by ext_authz"),
        "{denied}"
    );
    let log = kubectl.run("logs -n authz deploy/ext-authz --tail=20")?;
    ensure!(
        log.contains("spiffe://cluster.local/ns/authz/sa/sleep"),
        "{log}"
    );
    Ok(())
}

pub(super) fn away(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    asks(kubectl, "away-refuses")?;
    gets(kubectl, "no answer", (SLEEP, "/headers", ALLOW), "503")?;
    logged(
        kubectl,
        &[
            " 503 UAEX ext_authz_error",
            "no answer of provider away-refuses",
        ],
    )?;
    asks(kubectl, "away-passes")?;
    gets(
        kubectl,
        "no answer, and it passes",
        (SLEEP, "/headers", &[]),
        "200",
    )?;
    asks(kubectl, "nobody")?;
    gets(
        kubectl,
        "a provider that is not there",
        (SLEEP, "/headers", ALLOW),
        "403",
    )?;
    let policy = kubectl.json("get -n authz authorizationpolicy ext-authz")?;
    let text = policy["status"].to_string();
    ensure!(text.contains("extensionProviders"), "{text}");
    kubectl.run("delete -n authz authorizationpolicy ext-authz")?;
    gets(kubectl, "nobody is asked", (SLEEP, "/headers", &[]), "200")
}
