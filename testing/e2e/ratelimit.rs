//! RateLimitPolicy, as docs/rate-limits.md describes it.

use anyhow::ensure;
use tulle_testing::kubectl::{Kubectl, eventually};
use tulle_testing::suite::Case;

use crate::proxies;
use crate::requests::{SLEEP, SOON, condition, say, sum, world};
use crate::stage::Stage;

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "rate limits: per header at a service, 429 says when to come back",
        run: per_header,
    },
    Case {
        name: "rate limits: replicas share one",
        run: shared,
    },
    Case {
        name: "rate limits: at a gateway, and in a dry run",
        run: at_a_gateway,
    },
    Case {
        name: "rate limits: what is wrong is in the status and limits nothing",
        run: told,
    },
];

fn policy(name: &str, target: &str, spec: &str) -> String {
    format!(
        r#"
apiVersion: policy.tulle.mesh/v1alpha1
kind: RateLimitPolicy
metadata: {{name: {name}, namespace: requests}}
spec:
  targetRefs: [{target}]
  {spec}
"#
    )
}

const WEB: &str = r#"{group: "", kind: Service, name: web}"#;
const FRONT: &str = "{group: gateway.networking.k8s.io, kind: Gateway, name: front}";

fn becomes(kubectl: &Kubectl, name: &str, told: &str) -> anyhow::Result<String> {
    eventually(&format!("{name} is {told}"), SOON, || {
        let policy = kubectl.json(&format!("get ratelimitpolicy -n requests {name}"))?;
        let conditions = &policy["status"]["conditions"];
        ensure!(
            condition(conditions, "WaypointAccepted") == told,
            "{}",
            policy["status"]
        );
        Ok(conditions[0]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    })
}

/// Answers to requests one after the other, each on a connection of its own: status, and the headers of interest.
fn answers(kubectl: &Kubectl, times: usize, curl: &str) -> anyhow::Result<Vec<String>> {
    let script = format!(
        "for i in $(seq {times}); do curl -s -o /dev/null --max-time 5 -w '%{{http_code}} %header{{retry-after}} %header{{ratelimit-remaining}}\\n' {curl}; done"
    );
    let said = kubectl.exec(SLEEP, &["sh", "-c", &script])?;
    Ok(said.out.lines().map(str::to_owned).collect())
}

fn statuses(answers: &[String], status: &str) -> usize {
    answers.iter().filter(|a| a.starts_with(status)).count()
}

fn per_header(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&policy(
        "per-user",
        WEB,
        "match: [{path: {prefix: /limited}}]\n  limits: [{name: three, requests: 3, per: 1h, key: [{type: Header, name: x-user}]}]",
    ))?;
    let message = becomes(kubectl, "per-user", "True Accepted")?;
    ensure!(message.contains("requests/waypoint"), "{message}");
    // Each replica counts on its own: at most three at each of two.
    let limited = eventually("the limit is in force", SOON, || {
        let limited = answers(kubectl, 10, "-H 'x-user: a' http://web.requests/limited")?;
        ensure!(statuses(&limited, "429") > 0, "{limited:?}");
        Ok(limited)
    })?;
    let refused: Vec<_> = limited.iter().filter(|a| a.starts_with("429")).collect();
    for answer in &refused {
        let parts: Vec<&str> = answer.split(' ').collect();
        let after: u32 = parts[1].parse()?;
        ensure!((1..=3600).contains(&after) && parts[2] == "0", "{answer}");
    }
    let other = answers(kubectl, 3, "-H 'x-user: b' http://web.requests/limited")?;
    ensure!(statuses(&other, "200") == 3, "another user: {other:?}");
    let free = answers(kubectl, 10, "-H 'x-user: a' http://web.requests/free")?;
    ensure!(statuses(&free, "200") == 10, "another path: {free:?}");
    eventually("the log names the policy", SOON, || {
        let log = kubectl.run(
            "logs -n requests -l gateway.networking.k8s.io/gateway-name=waypoint --tail=100",
        )?;
        let named =
            |l: &str| l.contains(" 429 RL ") && l.contains("RateLimitPolicy/requests/per-user");
        ensure!(log.lines().any(named), "{log}");
        Ok(())
    })?;
    let page = proxies::metrics(kubectl, "requests", "waypoint")?;
    let counted = sum(
        &page,
        &[
            "tulle_rate_limited_total",
            "policy_name=\"per-user\"",
            "limit=\"three\"",
            "refused=\"true\"",
        ],
    );
    ensure!(counted >= refused.len() as f64, "{counted}: {page}");
    let requests = sum(
        &page,
        &[
            "istio_requests_total",
            "response_code=\"429\"",
            "response_flags=\"RL\"",
        ],
    );
    ensure!(requests >= refused.len() as f64, "{requests}");
    kubectl.run("delete ratelimitpolicy -n requests per-user")?;
    eventually("no limit any more", SOON, || {
        let free = answers(kubectl, 5, "-H 'x-user: a' http://web.requests/limited")?;
        ensure!(statuses(&free, "200") == 5, "{free:?}");
        Ok(())
    })
}

/// At the gateway, whose replicas can be asked by turns.
fn shared(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&policy(
        "together",
        FRONT,
        "limits: [{requests: 20, per: 1h, scope: Shared, key: [{type: Path}]}]",
    ))?;
    let outcome = ask_by_turns(kubectl);
    // What is left of it would limit those who come after.
    kubectl.run("delete ratelimitpolicy -n requests together")?;
    outcome
}

fn ask_by_turns(kubectl: &Kubectl) -> anyhow::Result<()> {
    becomes(kubectl, "together", "True Accepted")?;
    eventually("the replicas hear each other", SOON, || {
        let page = proxies::metrics(kubectl, "requests", "front")?;
        let reached = sum(&page, &["tulle_rate_limit_replicas{state=\"reached\"}"]);
        ensure!(reached == 2.0, "{reached} of 2");
        Ok(())
    })?;
    let pods = kubectl.run("get pods -n requests -l gateway.networking.k8s.io/gateway-name=front --field-selector=status.phase=Running -o=jsonpath={.items[*].status.podIP}")?;
    let urls: Vec<String> = pods
        .split_whitespace()
        .map(|ip| format!("http://{ip}/together"))
        .collect();
    ensure!(urls.len() == 2, "{pods}");
    // By turns, on a connection of its own for each answer, with time for the replicas to hear of it.
    let by_turns = format!("{}; sleep 0.1", urls.join(" -o /dev/null "));
    let passed = answers(kubectl, 30, &by_turns)?;
    let passed = statuses(&passed, "200");
    say(&format!(
        "20 requests per hour over two replicas, asked by turns: {passed} of 60 passed"
    ));
    // On its own, each would let 20 through.
    ensure!((20..=30).contains(&passed), "{passed} of 20 passed");
    let page = proxies::metrics(kubectl, "requests", "front")?;
    let refused = |l: &&str| l.starts_with("tulle_rate_limited_total") && l.contains("together");
    ensure!(
        page.lines().filter(refused).count() == 2,
        "not both replicas refused: {page}"
    );
    Ok(())
}

fn at_a_gateway(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&policy(
        "front",
        FRONT,
        "limits: [{requests: 2, per: 1h, key: [{type: ClientAddress}]}]",
    ))?;
    kubectl.apply(&policy(
        "watching",
        FRONT,
        "dryRun: true\n  limits: [{requests: 0, per: 1h}]",
    ))?;
    becomes(kubectl, "front", "True Accepted")?;
    becomes(kubectl, "watching", "True Accepted")?;
    eventually("the gateway refuses", SOON, || {
        let limited = answers(kubectl, 8, "http://front-istio.requests/")?;
        ensure!(statuses(&limited, "429") > 0, "{limited:?}");
        Ok(())
    })?;
    let page = proxies::metrics(kubectl, "requests", "front")?;
    let watched = sum(
        &page,
        &[
            "tulle_rate_limited_total",
            "policy_name=\"watching\"",
            "refused=\"false\"",
        ],
    );
    ensure!(watched > 0.0, "{page}");
    ensure!(
        sum(&page, &["policy_name=\"watching\"", "refused=\"true\""]) == 0.0,
        "{page}"
    );
    kubectl.run("delete ratelimitpolicy -n requests front watching")?;
    eventually("no limit any more", SOON, || {
        let free = answers(kubectl, 8, "http://front-istio.requests/")?;
        ensure!(statuses(&free, "200") == 8, "{free:?}");
        Ok(())
    })
}

fn told(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let kubectl = &stage.kubectl;
    let nowhere = r#"{group: "", kind: Service, name: nowhere}"#;
    kubectl.apply(&policy(
        "nowhere",
        nowhere,
        "limits: [{requests: 0, per: 1h}]",
    ))?;
    kubectl.apply(&policy("wrong", WEB, "limits: [{requests: 0, per: soon}]"))?;
    kubectl.apply(&policy(
        "regex",
        WEB,
        "match: [{path: {regex: '('}}]\n  limits: [{requests: 0, per: 1h}]",
    ))?;
    becomes(kubectl, "nowhere", "False TargetNotFound")?;
    for name in ["wrong", "regex"] {
        let message = becomes(kubectl, name, "False Invalid")?;
        ensure!(message.contains("it limits nothing"), "{message}");
    }
    let free = answers(kubectl, 5, "http://web.requests/")?;
    ensure!(statuses(&free, "200") == 5, "{free:?}");
    kubectl.run("delete ratelimitpolicy -n requests nowhere wrong regex")?;
    Ok(())
}
