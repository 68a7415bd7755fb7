//! RequestAuthentication: keys and tokens are made by samples/jwt.sh, as a user would make them.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::{Kubectl, eventually};

use super::{NOTSLEEP, SLEEP, SOON, URL, ask, counted, gets, logged};
use crate::stage::Stage;

/// A key of an issuer.
struct Key(tempfile::TempDir);

impl Key {
    fn new(stage: &Stage) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        script(stage, &["key", &dir.path().to_string_lossy()])?;
        Ok(Self(dir))
    }

    /// The key set, as one line.
    fn set(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.0.path().join("jwks.json"))?;
        Ok(text.trim().to_owned())
    }

    /// A token with claims of `testing@example.com` beside these; valid for an hour from `offset` seconds on.
    fn token(&self, stage: &Stage, offset: i64, further: &str) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let expires = i64::try_from(now)? + offset + 3600;
        let claims = format!(
            r#"{{"iss":"testing@example.com","sub":"alice","exp":{expires},"groups":["staff","eng"],"nested":{{"role":"admin"}}{further}}}"#
        );
        let dir = self.0.path().to_string_lossy();
        Ok(script(stage, &["token", &dir, &claims])?.trim().to_owned())
    }
}

fn script(stage: &Stage, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(stage.sample("jwt.sh")).args(args).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "jwt.sh {args:?}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn authentication(kubectl: &Kubectl, rule: &str) -> anyhow::Result<()> {
    kubectl.apply(&format!(
        r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: jwt, namespace: authz}}
spec:
  targetRefs: [{{group: "", kind: Service, name: httpbin}}]
  jwtRules:
  - issuer: testing@example.com
    {rule}
"#
    ))
}

const STAFF: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: staff, namespace: authz}
spec:
  targetRefs: [{group: "", kind: Service, name: httpbin}]
  rules:
  - from: [{source: {requestPrincipals: ["testing@example.com/*"]}}]
    when:
    - {key: "request.auth.claims[groups]", values: [staff]}
    - {key: "request.auth.claims[nested][role]", values: [admin]}
  - to: [{operation: {paths: ["/status/*"]}}]
"#;

pub(super) fn inline(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let (key, other) = (Key::new(stage)?, Key::new(stage)?);
    let rule = format!("audiences: [shop]\n    jwks: '{}'", key.set()?);
    authentication(kubectl, &rule)?;
    let shop = r#","aud":["shop","mail"]"#;
    let valid = bearer(&key.token(stage, 0, shop)?);
    let get = |header: &str| ask(kubectl, SLEEP, "/get", &["-H", header]);
    let nonsense = ["-H", "Authorization: Bearer a.b.c"];
    gets(kubectl, "nonsense", (SLEEP, "/get", &nonsense), "401")?;
    for (what, token, status) in [
        ("valid", valid.clone(), "200"),
        ("expired", bearer(&key.token(stage, -7200, shop)?), "401"),
        ("no audience", bearer(&key.token(stage, 0, "")?), "401"),
        (
            "another audience",
            bearer(&key.token(stage, 0, r#","aud":"mail""#)?),
            "401",
        ),
        ("another key", bearer(&other.token(stage, 0, shop)?), "401"),
        (
            "not a token of ours",
            "Authorization: Basic YTpi".to_owned(),
            "200",
        ),
    ] {
        let got = get(&token)?;
        ensure!(got == status, "{what}: {got}, not {status}");
    }
    let url = format!("{URL}/get");
    let said = kubectl.curl(
        SLEEP,
        &["-i", "-H", &bearer(&key.token(stage, -7200, shop)?), &url],
    )?;
    ensure!(said.out.contains("Jwt is expired"), "{said:?}");
    ensure!(
        said.out.to_lowercase().contains("www-authenticate: bearer"),
        "{said:?}"
    );
    logged(
        kubectl,
        &[
            " 401 - jwt_authn_access_denied{Jwt_is_expired}",
            "authz/jwt",
        ],
    )?;
    counted(
        kubectl,
        &["tulle_authorization_decisions_total{policy=\"authz/jwt\",result=\"token_refused\"}"],
    )?;
    ensure!(
        ask(kubectl, SLEEP, "/get", &[])? == "200",
        "without a token it passes"
    );

    kubectl.apply(STAFF)?;
    gets(
        kubectl,
        "without a token it is refused",
        (SLEEP, "/get", &[]),
        "403",
    )?;
    ensure!(get(&valid)? == "200", "the claims fit");
    let guest = key.token(stage, 0, r#","aud":"shop","nested":{"role":"guest"}"#)?;
    ensure!(get(&bearer(&guest))? == "403", "a claim does not fit");
    ensure!(
        ask(kubectl, NOTSLEEP, "/status/204", &[])? == "204",
        "a path for everybody"
    );
    logged(
        kubectl,
        &[" 403 ", "no allow policy of authz/staff matched"],
    )?;
    kubectl.run("delete -n authz authorizationpolicy staff")?;
    Ok(())
}

pub(super) fn places(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let key = Key::new(stage)?;
    let token = key.token(stage, 0, "")?;
    let rule = |forward: bool| -> anyhow::Result<String> {
        Ok(format!(
            "jwks: '{}'\n    forwardOriginalToken: {forward}\n    fromHeaders: [{{name: x-token, prefix: 'Jwt '}}]\n    \
             fromParams: [token]\n    fromCookies: [session]\n    outputPayloadToHeader: x-payload\n    \
             outputClaimToHeaders: [{{header: x-user, claim: sub}}, {{header: x-role, claim: nested.role}}]",
            key.set()?
        ))
    };
    authentication(kubectl, &rule(false)?)?;
    let in_header = format!("x-token: Jwt {token}");
    let in_cookie = format!("Cookie: a=b; session={token}; c=d");
    let url = format!("{URL}/anything");
    let with_query = format!("{url}?x=1&token={token}");
    let lied = "x-user: mallory";
    eventually("claims become headers", SOON, || {
        for args in [
            &["-H", lied, "-H", &in_header, &url][..],
            &["-H", lied, "-H", &in_cookie, &url],
            &["-H", lied, &with_query],
        ] {
            let said = kubectl.curl(SLEEP, args)?.out.to_lowercase();
            for seen in ["x-user", "alice", "x-role", "admin", "x-payload"] {
                ensure!(said.contains(seen), "{seen}: {said}");
            }
            ensure!(!said.contains("mallory"), "a lie is believed: {said}");
            ensure!(
                !said.contains(&token.to_lowercase()),
                "the token is seen: {said}"
            );
        }
        Ok(())
    })?;
    let standard = bearer(&token);
    let said = kubectl
        .curl(SLEEP, &["-H", lied, "-H", &standard, &url])?
        .out;
    ensure!(
        !said.contains("mallory") && !said.contains("alice"),
        "{said}"
    );
    authentication(kubectl, &rule(true)?)?;
    eventually("the token is passed on", SOON, || {
        let said = kubectl.curl(SLEEP, &["-H", &in_header, &url])?.out;
        ensure!(said.contains(&token), "{said}");
        Ok(())
    })
}

pub(super) fn by_uri(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let key = Key::new(stage)?;
    let path = key.0.path().join("jwks.json");
    let path = path.to_str().context("a path")?;
    kubectl.run(&format!(
        "create -n authz configmap issuer --from-file={path}"
    ))?;
    kubectl.run(&format!(
        "apply -n authz -f {}",
        stage.sample("issuer.yaml")
    ))?;
    kubectl.run("rollout status -n authz deploy/issuer --timeout=120s")?;
    let valid = bearer(&key.token(stage, 0, "")?);
    let header = ["-H", valid.as_str()];
    // Nobody is there, the proxy itself, the node: refused, and the log says why.
    for (uri, why) in [
        (
            "http://issuer.authz.svc.cluster.local:8000/none",
            "status 404",
        ),
        (
            "http://127.0.0.1:15000/config_dump",
            "it is the proxy's own",
        ),
        ("http://169.254.169.254/latest", "it is link-local"),
    ] {
        authentication(kubectl, &format!("jwksUri: {uri}"))?;
        gets(kubectl, uri, (SLEEP, "/get", &header), "401")?;
        logged(
            kubectl,
            &["the keys of an issuer could not be fetched", uri, why],
        )?;
        ensure!(
            ask(kubectl, SLEEP, "/get", &[])? == "200",
            "without a token"
        );
    }
    authentication(
        kubectl,
        "jwksUri: http://issuer.authz.svc.cluster.local:8000/jwks",
    )?;
    gets(
        kubectl,
        "a token of the issuer",
        (SLEEP, "/get", &header),
        "200",
    )?;
    // The issuer goes; what is known stays.
    kubectl.run("scale -n authz deploy/issuer --replicas=0")?;
    ensure!(
        ask(kubectl, SLEEP, "/get", &header)? == "200",
        "the keys are known"
    );
    kubectl.run("delete -n authz requestauthentication jwt")?;
    kubectl.run("delete -n authz configmap issuer")?;
    Ok(())
}
