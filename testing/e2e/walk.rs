//! The main job, exactly as a newcomer walks it (docs/walk.md).

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::{Kubectl, becomes, eventually};
use tulle_testing::suite::Case;

use crate::stage::{OUTSIDER, Stage};
use tulle_testing::fixtures;

/// For things that a cluster does in seconds.
const SOON: Duration = Duration::from_secs(60);

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "walk: two nodes, the mesh and the samples are ready",
        run: ready,
    },
    Case {
        name: "walk: outside the mesh the call works, in the clear",
        run: outside,
    },
    Case {
        name: "walk: labelling enrols without a restart, calls go through HBONE",
        run: enrolled,
    },
    Case {
        name: "walk: the access log has Istio's keys in Istio's order, on both nodes",
        run: access_log,
    },
    Case {
        name: "walk: ztunnel-config answers \"is it mTLS?\"",
        run: is_it_mtls,
    },
    Case {
        name: "walk: ALLOW for sleep; notsleep gets a reset; log and metric say why",
        run: allow_sleep,
    },
    Case {
        name: "walk: STRICT refuses plaintext, probes pass, port exceptions work",
        run: strict,
    },
];

fn ready(stage: &Stage) -> anyhow::Result<()> {
    let nodes = stage.kubectl.run("get nodes --no-headers")?;
    ensure!(
        nodes.lines().filter(|l| l.contains(" Ready")).count() == 2,
        "{nodes}"
    );
    eventually("all pods 1/1 Running", SOON, || {
        let pods = stage.kubectl.run("get pods -n istio-system --no-headers")?;
        for prefix in ["istiod-", "istio-cni-node-", "ztunnel-"] {
            let expected = if prefix == "istiod-" { 1 } else { 2 };
            let seen = pods
                .lines()
                .filter(|l| l.starts_with(prefix) && l.contains("1/1") && l.contains("Running"));
            ensure!(
                seen.count() == expected,
                "{prefix}: not {expected}x 1/1 Running:\n{pods}"
            );
        }
        let pods = stage.kubectl.run("get pods --no-headers")?;
        for prefix in [
            "productpage-v1-",
            "details-v1-",
            "reviews-v1-",
            "reviews-v2-",
            "reviews-v3-",
            "ratings-v1-",
            "sleep-",
            "notsleep-",
            "httpbin-",
            "helloworld-v1-",
            "helloworld-v2-",
        ] {
            let seen = pods
                .lines()
                .filter(|l| l.starts_with(prefix) && l.contains("1/1") && l.contains("Running"));
            ensure!(seen.count() == 1, "{prefix}: not one 1/1 Running:\n{pods}");
        }
        Ok(())
    })
}

fn outside(stage: &Stage) -> anyhow::Result<()> {
    product_page(stage)
}

/// The first line that sleep gets of productpage.
fn product_page(stage: &Stage) -> anyhow::Result<()> {
    let said = stage
        .kubectl
        .curl("deploy/sleep", &["http://productpage:9080/"])?;
    ensure!(
        said.code == 0,
        "curl ended with {}: {}",
        said.code,
        said.err
    );
    ensure!(
        said.out.lines().next() == Some("<!DOCTYPE html>"),
        "first line: {:?}",
        said.out.lines().next()
    );
    Ok(())
}

fn enrolled(stage: &Stage) -> anyhow::Result<()> {
    let before = restarts_and_uids(stage)?;
    stage
        .kubectl
        .run("label namespace default istio.io/dataplane-mode=ambient --overwrite")?;
    stage.all_enrolled("default")?;
    ensure!(
        restarts_and_uids(stage)? == before,
        "pods were restarted or replaced"
    );
    eventually("productpage through HBONE", SOON, || {
        product_page(stage)?;
        let log = stage.ztunnel_logs("20s")?;
        let hbone = log.lines().any(|l| {
            l.contains("dst.service=\"productpage.default.svc.cluster.local\"")
                && l.contains("dst.hbone_addr=")
        });
        ensure!(
            hbone,
            "no access-log line with dst.hbone_addr for productpage"
        );
        Ok(())
    })
}

fn restarts_and_uids(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let paths = "-o=jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let text = stage.kubectl.run_args(&["get", "pods", paths])?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// Keys of one side's line, in Istio's order; `src.cluster` and `dst.cluster` may be absent.
const OUTBOUND_KEYS: [&str; 13] = [
    "src.addr",
    "src.workload",
    "src.namespace",
    "src.identity",
    "dst.addr",
    "dst.hbone_addr",
    "dst.service",
    "dst.workload",
    "dst.namespace",
    "dst.identity",
    "direction",
    "bytes_sent",
    "duration",
];

fn access_log(stage: &Stage) -> anyhow::Result<()> {
    eventually("lines of both directions on both nodes", SOON, || {
        for _ in 0..4 {
            product_page(stage)?;
        }
        let mut nodes = Vec::new();
        for (pod, node) in stage.ztunnels()? {
            let log = stage
                .kubectl
                .run(&format!("logs -n istio-system {pod} --since=30s"))?;
            let lines: Vec<&str> = log.lines().filter(|l| l.contains("\taccess\t")).collect();
            for line in &lines {
                ordered(line, &OUTBOUND_KEYS)?;
            }
            let with = |word: &str| lines.iter().any(|l| l.contains(word));
            if with("spiffe://cluster.local/ns/default/sa/")
                && (with("direction=\"inbound\"") || with("direction=\"outbound\""))
            {
                nodes.push(node);
            }
        }
        ensure!(nodes.len() == 2, "complete lines only on {nodes:?}");
        Ok(())
    })
}

/// The keys that a line has appear in the order given; a completed mTLS line has most of them.
fn ordered(line: &str, keys: &[&str]) -> anyhow::Result<()> {
    let positions: Vec<(usize, &str)> = keys
        .iter()
        .filter_map(|k| line.find(&format!("{k}=")).map(|at| (at, *k)))
        .collect();
    ensure!(positions.len() >= 5, "too few keys in {line}");
    ensure!(
        positions.windows(2).all(|w| w[0].0 < w[1].0),
        "keys are not in Istio's order: {line}"
    );
    Ok(())
}

fn is_it_mtls(stage: &Stage) -> anyhow::Result<()> {
    let workloads = stage.tulle(&["ztunnel-config", "workloads"])?;
    let header = workloads.lines().next().unwrap_or_default();
    ensure!(
        header.contains("NAMESPACE") && header.contains("PROTOCOL"),
        "header: {header}"
    );
    let page = workloads
        .lines()
        .find(|l| l.contains("productpage-v1-"))
        .context("no productpage line")?;
    ensure!(page.contains("HBONE"), "{page}");
    let api_server = workloads.lines().find(|l| l.contains("kubernetes"));
    ensure!(
        api_server.is_none_or(|l| l.contains("TCP")),
        "{api_server:?}"
    );
    let certificates = stage.tulle(&["ztunnel-config", "certificates"])?;
    ensure!(
        certificates.contains("spiffe://cluster.local/ns/default/sa/sleep"),
        "{certificates}"
    );
    Ok(())
}

fn allow_sleep(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let url = "http://productpage:9080/";
    kubectl.apply(fixtures::ALLOW_SLEEP)?;
    becomes(
        "notsleep is refused with a reset",
        &"exit 56".to_owned(),
        SOON,
        || kubectl.status_of("deploy/notsleep", url),
    )?;
    becomes("sleep is allowed", &"200".to_owned(), SOON, || {
        kubectl.status_of("deploy/sleep", url)
    })?;
    eventually("the server-side log names the policy", SOON, || {
        let log = stage.ztunnel_logs("60s")?;
        let says = log.lines().any(|l| {
            l.contains("direction=\"inbound\"")
                && l.contains("default/productpage-viewer")
                && l.contains("sa/notsleep")
        });
        ensure!(says, "no inbound line names default/productpage-viewer");
        Ok(())
    })?;
    eventually("istio_tcp_connections_failed_total counts it", SOON, || {
        let metrics = stage.ztunnel_metrics()?;
        let counted = metrics.lines().any(|l| {
            l.starts_with("istio_tcp_connections_failed_total{")
                && l.contains("response_flags=\"DENY\"")
                && !l.ends_with(" 0")
        });
        ensure!(counted, "no istio_tcp_connections_failed_total with DENY");
        Ok(())
    })?;
    eventually("the status says that ztunnel took it", SOON, || {
        let policy = kubectl.json("get authorizationpolicy productpage-viewer")?;
        let accepted = policy["status"]["conditions"]
            .as_array()
            .is_some_and(|all| {
                all.iter()
                    .any(|c| c["type"] == "ZtunnelAccepted" && c["status"] == "True")
            });
        ensure!(accepted, "{}", policy["status"]);
        Ok(())
    })?;
    kubectl.run("delete authorizationpolicy productpage-viewer")?;
    becomes("access is back", &"200".to_owned(), SOON, || {
        kubectl.status_of("deploy/notsleep", url)
    })
}

fn strict(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let (page, hello) = (
        "http://productpage.default:9080/",
        "http://helloworld.default:5000/hello",
    );
    stage.outsider()?;
    let status = |url: &str| kubectl.status_of(OUTSIDER, url);
    becomes(
        "plaintext works before STRICT",
        &"200".to_owned(),
        SOON,
        || status(page),
    )?;
    kubectl.apply(fixtures::PROBED)?;
    kubectl.run("rollout status deploy/probed --timeout=60s")?;
    kubectl.apply(fixtures::STRICT)?;
    becomes("plaintext is refused", &"exit 56".to_owned(), SOON, || {
        status(page)
    })?;
    becomes("mTLS goes on", &"200".to_owned(), SOON, || {
        kubectl.status_of("deploy/sleep", page)
    })?;
    kubectl.apply(fixtures::PERMISSIVE_PORT)?;
    becomes(
        "the excepted port takes plaintext",
        &"200".to_owned(),
        SOON,
        || status(hello),
    )?;
    becomes(
        "the others still do not",
        &"exit 56".to_owned(),
        SOON,
        || status(page),
    )?;
    probes_pass(kubectl)?;
    kubectl.run("delete peerauthentication strict helloworld-port")?;
    becomes("plaintext works again", &"200".to_owned(), SOON, || {
        status(page)
    })
}

/// Probes come from the node, in the clear. A pod that is probed each second is neither restarted nor un-Ready for a while.
fn probes_pass(kubectl: &Kubectl) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let pods = kubectl.json("get pods -l app=probed")?;
        let status = &pods["items"][0]["status"]["containerStatuses"][0];
        ensure!(
            status["ready"] == true && status["restartCount"] == 0,
            "a probe does not pass under STRICT: {status}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    kubectl.run("delete deploy probed")?;
    Ok(())
}
