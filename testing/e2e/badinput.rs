//! What the certificate authority and discovery are asked for by those who may not: each gets one clear refusal, quickly, and
//! who may still gets what it asks for. Spoken to over gRPC on 15012, as a node proxy does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tulle_identity::{CertificateRequest, Issuer as _};
use tulle_model::Identity;
use tulle_testing::kubectl::eventually;
use tulle_testing::suite::Case;
use tulle_xds::ca::CertificateAuthority;
use tulle_xds::client::{self, Batch, Config, Event, Handler, Rejection, StreamError};
use tulle_xds::endpoint::{Endpoint, RootSource};
use tulle_xds::node::NodeInfo;

use crate::stage::Stage;

const SOON: Duration = Duration::from_secs(60);
/// A refusal that takes longer than this is a hang.
const AT_ONCE: Duration = Duration::from_secs(20);

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "bad input: tokens and requests that the authority must refuse",
        run: authority_refuses,
    },
    Case {
        name: "bad input: discovery for a caller without a good token",
        run: discovery_refuses,
    },
    Case {
        name: "bad input: a ztunnel that reaches nobody says so and is not ready",
        run: reaches_nobody,
    },
];

/// A file with a token for the life of the value.
struct Token(tempfile::NamedTempFile);

impl Token {
    fn of(text: &str) -> anyhow::Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        Ok(Self(file))
    }

    /// `kubectl create token ARGS`.
    fn made(stage: &Stage, args: &str) -> anyhow::Result<Self> {
        Self::of(&stage.kubectl.run(&format!("create token {args}"))?)
    }

    /// As the kubelet mounts it into a pod of istio-system.
    fn bound(stage: &Stage, account: &str, pod: &str) -> anyhow::Result<Self> {
        let uid = stage.kubectl.run(&format!(
            "get pod -n istio-system {pod} -o=jsonpath={{.metadata.uid}}"
        ))?;
        Self::made(
            stage,
            &format!(
                "{account} -n istio-system --audience istio-ca --bound-object-kind Pod --bound-object-name {pod} \
                 --bound-object-uid {}",
                uid.trim()
            ),
        )
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

fn endpoint(stage: &Stage, token: Option<&Token>) -> anyhow::Result<Endpoint> {
    let address = stage
        .kubectl
        .run("get pod -n istio-system -l app=istiod -o=jsonpath={.items[0].status.podIP}")?;
    let roots = stage
        .kubectl
        .run(r"get configmap -n default istio-ca-root-cert -o=jsonpath={.data.root-cert\.pem}")?;
    Ok(Endpoint {
        address: format!("https://{address}:15012"),
        roots: RootSource::Inline(roots),
        server_name: Some("istiod.istio-system.svc".to_owned()),
        token: token.map(Token::path),
        cluster_id: "Kubernetes".to_owned(),
        headers: Vec::new(),
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Asks for `identity` with a request that names `named`; the refusal's words.
fn ask(
    stage: &Stage,
    token: Option<&Token>,
    identity: &Identity,
    csr: String,
) -> anyhow::Result<Result<(), String>> {
    let authority = CertificateAuthority::new(endpoint(stage, token)?);
    let asked = authority.issue(identity, csr, Duration::from_secs(3600));
    let started = Instant::now();
    let answered = runtime()?.block_on(asked);
    ensure!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    Ok(answered.map(drop).map_err(|error| error.to_string()))
}

fn authority_refuses(stage: &Stage) -> anyhow::Result<()> {
    let nodes = stage.nodes()?;
    let node_of = |app: &str| {
        let args = format!("get pod -l app={app} -o=jsonpath={{.items[0].spec.nodeName}}");
        stage.kubectl.run(&args)
    };
    let home = node_of("sleep")?;
    let elsewhere = nodes.iter().find(|n| **n != home).context("one node")?;
    let on = |node: &str| -> anyhow::Result<String> {
        let all = stage.ztunnels()?;
        let found = all.into_iter().find(|(_, at)| at == node);
        Ok(found.context("no ztunnel on a node")?.0)
    };
    let near = Token::bound(stage, "ztunnel", &on(&home)?)?;
    let far = Token::bound(stage, "ztunnel", &on(elsewhere)?)?;
    let unbound = Token::made(stage, "ztunnel -n istio-system --audience istio-ca")?;
    let audience = Token::made(stage, "ztunnel -n istio-system --audience elsewhere")?;
    let other = Token::made(stage, "notsleep -n default --audience istio-ca")?;
    let rubbish = Token::of("rubbish")?;
    let sleep = Identity::new("cluster.local", "default", "sleep");
    let someone = Identity::new("cluster.local", "default", "httpbin");
    let foreign = Identity::new("elsewhere", "default", "sleep");
    let csr = |of: &Identity| CertificateRequest::new(of).map(|request| request.csr_pem);
    let denied = "impersonation";
    let unknown = "authentication failure";
    let cases = [
        ("no token", None, &sleep, csr(&sleep)?, "credentials"),
        (
            "rubbish as a token",
            Some(&rubbish),
            &sleep,
            csr(&sleep)?,
            unknown,
        ),
        (
            "another audience",
            Some(&audience),
            &sleep,
            csr(&sleep)?,
            unknown,
        ),
        (
            "a token of no pod",
            Some(&unbound),
            &sleep,
            csr(&sleep)?,
            denied,
        ),
        (
            "a ztunnel of another node",
            Some(&far),
            &sleep,
            csr(&sleep)?,
            denied,
        ),
        (
            "no ztunnel at all",
            Some(&other),
            &sleep,
            csr(&sleep)?,
            denied,
        ),
        (
            "another trust domain",
            Some(&near),
            &foreign,
            csr(&foreign)?,
            denied,
        ),
        (
            "a request for someone else",
            Some(&near),
            &sleep,
            csr(&someone)?,
            "it names",
        ),
        (
            "no request",
            Some(&near),
            &sleep,
            "rubbish".to_owned(),
            "PEM",
        ),
    ];
    // Who may is served, before and after.
    let good = || -> anyhow::Result<()> {
        let answered = ask(stage, Some(&near), &sleep, csr(&sleep)?)?;
        ensure!(
            answered.is_ok(),
            "the pod's own ztunnel is refused: {answered:?}"
        );
        Ok(())
    };
    good()?;
    for (what, token, identity, csr, expected) in cases {
        let refused = ask(stage, token, identity, csr)?
            .err()
            .with_context(|| format!("{what}: a certificate was issued"))?;
        ensure!(
            refused.contains(expected) && refused.contains("refused a certificate for"),
            "{what}: {refused}"
        );
    }
    good()?;
    // The log says which rule; the caller does not learn it.
    eventually("the log says why", SOON, || {
        let log = stage
            .kubectl
            .run("logs -n istio-system -l app=istiod --tail=200 --since=120s")?;
        for words in [
            "where the caller istio-system/ztunnel is",
            "is no trusted node account",
            "did not show a token bound to a pod",
        ] {
            ensure!(log.contains(words), "nothing about {words:?}");
        }
        Ok(())
    })
}

/// Waits for the end of the first stream.
struct Ended(tokio::sync::mpsc::Sender<String>);

impl Handler for Ended {
    fn update(&mut self, _batch: Batch) -> Vec<Rejection> {
        let _ = self.0.try_send("was told about the mesh".to_owned());
        Vec::new()
    }

    fn event(&mut self, event: Event<'_>) {
        if let Event::Disconnected { error, .. } = event {
            let kind = matches!(error, StreamError::Refused { .. });
            let _ = self.0.try_send(format!("refused={kind}: {error}"));
        }
    }
}

fn discovery_refuses(stage: &Stage) -> anyhow::Result<()> {
    let rubbish = Token::of("rubbish")?;
    let audience = Token::made(stage, "ztunnel -n istio-system --audience elsewhere")?;
    let ztunnel = Token::made(stage, "ztunnel -n istio-system --audience istio-ca")?;
    for (what, token, namespace, expected) in [
        (
            "rubbish",
            &rubbish,
            "istio-system",
            "authentication failure",
        ),
        (
            "another audience",
            &audience,
            "istio-system",
            "authentication failure",
        ),
        ("another namespace", &ztunnel, "default", "NAMESPACE"),
    ] {
        let config = Config {
            endpoint: endpoint(stage, Some(token))?,
            node: NodeInfo {
                ip: "10.0.0.1".to_owned(),
                pod: "nobody".to_owned(),
                namespace: namespace.to_owned(),
                ..NodeInfo::default()
            },
            types: client::default_types(),
        };
        let (send, mut ended) = tokio::sync::mpsc::channel(8);
        let said = runtime()?.block_on(async {
            let first = async {
                tokio::select! {
                    never = client::run(config, Ended(send)) => match never {},
                    said = ended.recv() => said,
                }
            };
            tokio::time::timeout(AT_ONCE, first).await
        });
        let said = said
            .ok()
            .flatten()
            .with_context(|| format!("{what}: nothing"))?;
        ensure!(
            said.starts_with("refused=true") && said.contains(expected),
            "{what}: {said}"
        );
    }
    Ok(())
}

/// A ztunnel of its own, far from the node agent, whose control plane is a port where nobody listens.
fn reaches_nobody(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let image = kubectl.run(
        "get daemonset -n istio-system ztunnel -o=jsonpath={.spec.template.spec.containers[0].image}",
    )?;
    kubectl.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: lost, namespace: istio-system, labels: {{app: lost, istio.io/dataplane-mode: none}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: istio-proxy
    image: {image}
    command: [/usr/local/bin/tulle, run, ztunnel]
    env:
    - {{name: XDS_ADDRESS, value: "https://127.0.0.1:1"}}
    - {{name: CA_ADDRESS, value: "https://127.0.0.1:1"}}
    readinessProbe: {{httpGet: {{path: /healthz/ready, port: 15021}}, periodSeconds: 1}}
    volumeMounts:
    - {{name: root, mountPath: /var/run/secrets/istio}}
    - {{name: token, mountPath: /var/run/secrets/tokens}}
    - {{name: run, mountPath: /var/run/ztunnel}}
    - {{name: run, mountPath: /tmp}}
  volumes:
  - name: root
    configMap: {{name: istio-ca-root-cert}}
  - name: token
    projected: {{sources: [{{serviceAccountToken: {{audience: istio-ca, path: istio-token}}}}]}}
  - name: run
    emptyDir: {{}}
"#
    ))?;
    let outcome = eventually("it says what it cannot reach", SOON, || {
        let log = kubectl.run("logs -n istio-system lost")?;
        ensure!(log.contains("cannot reach 127.0.0.1:1"), "{log}");
        let pod = kubectl.json("get pod -n istio-system lost")?;
        let container = &pod["status"]["containerStatuses"][0];
        ensure!(container["state"]["running"].is_object(), "it does not run");
        ensure!(container["restartCount"] == 0, "it was restarted");
        ensure!(container["ready"] == false, "it is ready");
        Ok(())
    });
    kubectl.run("delete pod -n istio-system lost")?;
    outcome
}
