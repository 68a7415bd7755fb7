//! Bad input: each gives one clear answer that says what, which object, and what to do; nothing hangs or crashes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::{becomes, eventually};
use tulle_testing::suite::Case;

use crate::stage::Stage;

const SOON: Duration = Duration::from_secs(60);

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "refusals: a policy with an unknown field, by kubectl",
        run: unknown_field,
    },
    Case {
        name: "refusals: a DENY with L7 parts denies more, and says so",
        run: deny_with_l7,
    },
    Case {
        name: "refusals: an ALLOW with only L7 parts allows nobody",
        run: allow_with_l7,
    },
    Case {
        name: "refusals: rubbish on 15008 and on the proxy's own ports",
        run: rubbish,
    },
    Case {
        name: "refusals: installing without the needed rights lists them",
        run: no_rights,
    },
    Case {
        name: "refusals: an unreachable cluster",
        run: unreachable,
    },
    Case {
        name: "refusals: a second playground of the same name is the first",
        run: second_up,
    },
];

fn unknown_field(stage: &Stage) -> anyhow::Result<()> {
    let answer = stage.kubectl.apply(
        r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: typo, namespace: default}
spec: {selector: {matchLabels: {app: httpbin}}, rules: [{from: [{source: {principles: ["x"]}}]}]}
"#,
    );
    let error = answer
        .err()
        .context("kubectl took a policy with an unknown field")?
        .to_string();
    ensure!(
        error.contains("principles"),
        "the error does not name the field: {error}"
    );
    Ok(())
}

/// Applies a policy on httpbin and waits for the condition that ztunnel's part gets.
fn with_policy(stage: &Stage, rule: &str, reason: &str, expected: &str) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let url = "http://httpbin:8000/get";
    becomes("httpbin answers before", &"200".to_owned(), SOON, || {
        kubectl.status_of("deploy/sleep", url)
    })?;
    kubectl.apply(&format!(
        r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: l7, namespace: default}}
spec: {{selector: {{matchLabels: {{app: httpbin}}}}, {rule}}}
"#
    ))?;
    let outcome = becomes("the outcome", &expected.to_owned(), SOON, || {
        kubectl.status_of("deploy/sleep", url)
    })
    .and_then(|()| {
        eventually("the status says why", SOON, || {
            let policy = kubectl.json("get authorizationpolicy l7")?;
            let conditions = policy["status"]["conditions"].to_string();
            ensure!(conditions.contains(reason), "{conditions}");
            Ok(())
        })
    });
    kubectl.run("delete authorizationpolicy l7")?;
    outcome?;
    becomes("httpbin answers after", &"200".to_owned(), SOON, || {
        kubectl.status_of("deploy/sleep", url)
    })
}

fn deny_with_l7(stage: &Stage) -> anyhow::Result<()> {
    let rule = r#"action: DENY, rules: [{from: [{source: {principals: ["cluster.local/ns/default/sa/sleep"]}}], to: [{operation: {paths: ["/admin"]}}]}]"#;
    with_policy(stage, rule, "PartiallyInvalid", "exit 56")
}

fn allow_with_l7(stage: &Stage) -> anyhow::Result<()> {
    let rule = r#"action: ALLOW, rules: [{to: [{operation: {methods: ["GET"]}}]}]"#;
    with_policy(stage, rule, "Invalid", "exit 56")
}

fn rubbish(stage: &Stage) -> anyhow::Result<()> {
    let pod = stage
        .kubectl
        .run("get pod -l app=httpbin -o=jsonpath={.items[0].status.podIP}")?;
    for port in [15008, 15006, 15001] {
        // Refused outright, or closed after the rubbish: never an answer, never a hang.
        let Ok(mut stream) =
            TcpStream::connect_timeout(&format!("{pod}:{port}").parse()?, Duration::from_secs(5))
        else {
            continue;
        };
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        // The peer may have closed already.
        let _ = stream.write_all(&[0x42; 4096]);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => anyhow::bail!("port {port}: {error}"),
        }
        // A TLS alert is at most a few bytes.
        ensure!(
            answer.len() < 64,
            "port {port} answered {} bytes",
            answer.len()
        );
    }
    becomes("httpbin still answers", &"200".to_owned(), SOON, || {
        stage
            .kubectl
            .status_of("deploy/sleep", "http://httpbin:8000/get")
    })
}

fn no_rights(stage: &Stage) -> anyhow::Result<()> {
    let token = stage.kubectl.run("create token sleep -n default")?;
    let file = tempfile::NamedTempFile::new()?;
    let admin = std::fs::read_to_string(&stage.kubectl.kubeconfig)?;
    std::fs::write(file.path(), admin)?;
    let path = file.path().to_string_lossy().into_owned();
    let sleep = |args: &[&str]| {
        let mut all = vec!["--kubeconfig", &path, "config"];
        all.extend(args);
        stage.kubectl.run_args(&all)
    };
    sleep(&[
        "set-credentials",
        "sleep",
        &format!("--token={}", token.trim()),
    ])?;
    sleep(&["set-context", "--current", "--user=sleep"])?;
    let error = stage
        .tulle(&["install", "--kubeconfig", &path])
        .err()
        .context("it installed without rights")?;
    let text = error.to_string();
    ensure!(
        text.contains("create") && text.contains("daemonsets"),
        "missing rights are not listed: {text}"
    );
    Ok(())
}

fn unreachable(stage: &Stage) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let admin = std::fs::read_to_string(&stage.kubectl.kubeconfig)?;
    std::fs::write(file.path(), admin.replace(":6443", ":1"))?;
    let path = file.path().to_string_lossy().into_owned();
    let error = stage
        .tulle(&["status", "--kubeconfig", &path])
        .err()
        .context("it reached nothing")?
        .to_string();
    ensure!(
        error.contains(":1"),
        "the error does not name the address: {error}"
    );
    Ok(())
}

fn second_up(stage: &Stage) -> anyhow::Result<()> {
    let again = stage.up_again()?;
    ensure!(again, "a second up did not find the first");
    Ok(())
}
