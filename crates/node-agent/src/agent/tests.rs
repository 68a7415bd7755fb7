//! Pods in real namespaces, with a scripted proxy and a scripted API server. Needs root.

use super::*;

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use prost::Message;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tulle_linux::{NetNs, Redirect, SeqStream, redirect};
use tulle_proto::workload::zds::workload_request::Payload;
use tulle_proto::workload::zds::{
    Ack, WorkloadRequest, WorkloadResponse, ZdsHello, workload_response,
};
use tulle_telemetry::Registry;

use crate::metrics::Metrics;
use crate::node::Node;
use crate::plugin::{self, Answer, Request};
use crate::records::Records;
use crate::zds::Zds;

const UID: &str = "0aa1b2c3-1111-2222-3333-444455556666";
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened, in order.
#[derive(Clone, Debug, PartialEq)]
enum Happened {
    /// The proxy was told to serve the pod; whether rules were there.
    Added { with_rules: bool },
    /// The proxy was told to let go; whether anything was still captured.
    Deleted { captured: bool },
    /// The annotation was set or removed; whether everything was captured.
    Annotated { on: bool, captured: bool },
}

use Happened::{Added, Annotated, Deleted};

struct World {
    dir: tempfile::TempDir,
    agent: Agent,
    host: NetNs,
    pod: NetNs,
    happened: mpsc::UnboundedReceiver<Happened>,
    last: Option<Happened>,
    script: Arc<Script>,
    registry: Registry,
}

/// The API server and the proxy, as the test wants them.
struct Script {
    pod: NetNs,
    facts: Mutex<Option<(PodFacts, NamespaceFacts)>>,
    refusals: Mutex<Vec<&'static str>>,
    tell: mpsc::UnboundedSender<Happened>,
}

impl Script {
    fn captured(&self) -> bool {
        redirect::intact(&self.pod, &wanted())
    }
}

fn wanted() -> Redirect {
    Redirect {
        ipv6: true,
        ..Redirect::default()
    }
}

impl Records for Script {
    fn annotate<'a>(
        &'a self,
        _pod: &'a PodFacts,
        on: bool,
    ) -> BoxFuture<'a, Result<(), tulle_cluster::Error>> {
        let _end_of_test = self.tell.send(Annotated {
            on,
            captured: self.captured(),
        });
        Box::pin(async { Ok(()) })
    }

    fn pod<'a>(
        &'a self,
        _key: &'a Key,
    ) -> BoxFuture<'a, Result<Option<PodFacts>, tulle_cluster::Error>> {
        let facts = self.facts.lock().unwrap().clone();
        Box::pin(async { Ok(facts.map(|(pod, _)| pod)) })
    }

    fn namespace<'a>(
        &'a self,
        _name: &'a str,
    ) -> BoxFuture<'a, Result<Option<NamespaceFacts>, tulle_cluster::Error>> {
        let facts = self.facts.lock().unwrap().clone();
        Box::pin(async { Ok(facts.map(|(_, namespace)| namespace)) })
    }

    fn event<'a>(
        &'a self,
        _pod: &'a PodFacts,
        _reason: &'a str,
        _message: &'a str,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn uninstalling(&self) -> BoxFuture<'_, Result<bool, tulle_cluster::Error>> {
        Box::pin(async { Ok(false) })
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (host, pod) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        for arguments in [
            "link add eth0 type veth peer name eth1",
            "link set eth1 up",
            "addr add 10.1.2.3/24 dev eth0",
            "link set eth0 up",
        ] {
            let words = arguments.split(' ');
            let ran = pod
                .enter(|| std::process::Command::new("ip").args(words).status())
                .unwrap()
                .unwrap();
            assert!(ran.success());
        }
        let proc = dir.path().join("proc");
        fake_process(&proc, 1, "0::/", &host);
        fake_process(
            &proc,
            70,
            &format!("0::/kubepods/burstable/pod{UID}/c"),
            &pod,
        );
        std::os::unix::fs::symlink("/proc/sys", proc.join("sys")).unwrap();
        let (tell, happened) = mpsc::unbounded_channel();
        let script = Arc::new(Script {
            pod: pod.clone(),
            facts: Mutex::default(),
            refusals: Mutex::default(),
            tell,
        });
        let registry = Registry::new();
        let means = Means {
            node: Node::new(proc).unwrap(),
            zds: Zds::new(PATIENCE),
            records: script.clone(),
            metrics: Metrics::new(&registry),
            ipv6: true,
            dns: false,
        };
        let agent = Agent::new(
            means,
            "istio-system".into(),
            BTreeSet::from(["istio-system".to_owned()]),
        );
        Self {
            dir,
            agent,
            host,
            pod,
            happened,
            last: None,
            script,
            registry,
        }
    }

    /// Lists nothing yet, and is at work; with a proxy.
    async fn at_work() -> Self {
        let world = Self::new();
        world.agent.recover().await.unwrap();
        world.proxy().await;
        world
    }

    /// Connects a proxy that takes everything but what the script refuses.
    async fn proxy(&self) {
        let path = self.dir.path().join("z.sock");
        tokio::spawn(self.agent.means.zds.serve(&path).unwrap());
        let stream = SeqStream::connect(&path).unwrap();
        stream
            .send(&ZdsHello { version: 1 }.encode_to_vec(), &[])
            .await
            .unwrap();
        tokio::spawn(play_proxy(stream, self.script.clone()));
    }

    fn pod_is(&self, changes: serde_json::Value) -> PodFacts {
        let facts = pod(changes);
        self.agent.pod_changed(Change::Upsert(facts.clone()));
        facts
    }

    fn namespace_is(&self, name: &str, namespace: serde_json::Value) {
        let facts =
            NamespaceFacts::of(&serde_json::from_value(json!({ "metadata": namespace })).unwrap());
        self.agent
            .namespace_changed(Change::Upsert((name.into(), facts)));
    }

    /// What happened next. The agent may annotate again what its watch has not shown it yet; that counts once.
    async fn next(&mut self) -> Happened {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let happened = tokio::time::timeout_at(patience, self.happened.recv())
                .await
                .expect("nothing happened")
                .unwrap();
            let again = matches!(happened, Annotated { .. }) && self.last == Some(happened.clone());
            self.last = Some(happened.clone());
            if !again {
                return happened;
            }
        }
    }

    async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(500), self.next())
            .await
            .is_err()
    }

    fn probes(&self) -> String {
        let list = || {
            std::process::Command::new("nft")
                .args(["list", "ruleset"])
                .output()
        };
        String::from_utf8(self.host.enter(list).unwrap().unwrap().stdout).unwrap()
    }

    fn ambient(&self) {
        self.namespace_is(
            "shop",
            json!({ "name": "shop", "labels": { "istio.io/dataplane-mode": "ambient" } }),
        );
    }

    /// One call on the plugin's socket.
    async fn plugin(&self, request: &str) -> Answer {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let path = self.dir.path().join("p.sock");
        if !path.exists() {
            tokio::spawn(plugin::serve(
                self.agent.clone(),
                plugin::listen(&path).unwrap(),
            ));
        }
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream
            .write_u32(request.len().try_into().unwrap())
            .await
            .unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut text).await.unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// What `tulle-cni` sends (its tests hold it to the same file), for this world's pod.
    fn plugin_request(&self, command: &str) -> String {
        let text = include_str!("../../../cni-plugin/tests/protocol.json");
        let mut request: Request = serde_json::from_str(text).unwrap();
        request.command = command.into();
        request.netns = Some(path_of(&self.pod));
        serde_json::to_string(&request).unwrap()
    }

    fn server_knows(&self, pod: PodFacts, ambient: bool) {
        let mode = if ambient { "ambient" } else { "none" };
        let namespace = json!({ "metadata": { "labels": { "istio.io/dataplane-mode": mode } } });
        let namespace = NamespaceFacts::of(&serde_json::from_value(namespace).unwrap());
        *self.script.facts.lock().unwrap() = Some((pod, namespace));
    }
}

fn path_of(ns: &NetNs) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), ns.fd().as_raw_fd()).into()
}

fn fake_process(proc: &std::path::Path, pid: u32, cgroup: &str, ns: &NetNs) {
    let directory = proc.join(pid.to_string());
    std::fs::create_dir_all(directory.join("ns")).unwrap();
    std::fs::write(directory.join("cgroup"), cgroup).unwrap();
    std::fs::write(
        directory.join("stat"),
        format!("{pid} (x) S {}{pid} 0", "0 ".repeat(18)),
    )
    .unwrap();
    std::os::unix::fs::symlink(path_of(ns), directory.join("ns/net")).unwrap();
}

fn pod(changes: serde_json::Value) -> PodFacts {
    let mut object = json!({
        "metadata": { "name": "a-1", "namespace": "shop", "uid": UID },
        "spec": { "containers": [], "serviceAccountName": "a" },
        "status": { "phase": "Running", "podIP": "10.1.2.3" },
    });
    for (section, content) in changes.as_object().unwrap() {
        let target = object[section].as_object_mut().unwrap();
        target.extend(content.as_object().unwrap().clone());
    }
    PodFacts::of(&serde_json::from_value::<Pod>(object).unwrap()).unwrap()
}

fn annotated() -> serde_json::Value {
    json!({ "metadata": { "annotations": { "ambient.istio.io/redirection": "enabled" } } })
}

async fn play_proxy(stream: SeqStream, script: Arc<Script>) {
    let mut buffer = [0; 1024];
    while let Ok((length, _fds)) = stream.recv(&mut buffer).await {
        if length == 0 {
            return;
        }
        let mut error = "";
        match WorkloadRequest::decode(&buffer[..length]).unwrap().payload {
            Some(Payload::Add(_)) => {
                error = script.refusals.lock().unwrap().pop().unwrap_or("");
                let _end_of_test = script.tell.send(Added {
                    with_rules: redirect::installed(&script.pod),
                });
            }
            Some(Payload::Del(_)) => {
                let _end_of_test = script.tell.send(Deleted {
                    captured: script.captured(),
                });
            }
            _ => {}
        }
        let ack = workload_response::Payload::Ack(Ack {
            error: error.into(),
        });
        let answer = WorkloadResponse { payload: Some(ack) };
        if stream.send(&answer.encode_to_vec(), &[]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_running_pod_joins_and_leaves_in_order() {
    let mut world = World::at_work().await;
    world.pod_is(json!({}));
    assert!(world.is_quiet().await, "an unlabelled pod is left alone");
    world.ambient();
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    assert!(world.probes().contains("10.1.2.3"));
    world.pod_is(annotated());
    let begun = Instant::now();
    world.namespace_is("shop", json!({ "name": "shop" }));
    assert_eq!(
        world.next().await,
        Annotated {
            on: false,
            captured: false
        }
    );
    assert!(
        redirect::installed(&world.pod),
        "connections go on while it leaves"
    );
    assert_eq!(world.next().await, Deleted { captured: false });
    assert!(
        begun.elapsed() >= LEAVING_GRACE,
        "HBONE is served until the peers know"
    );
    timeout(PATIENCE, async {
        while redirect::installed(&world.pod) || world.probes().contains("10.1.2.3") {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_pod_that_comes_back_while_leaving_is_captured_at_once() {
    let mut world = World::at_work().await;
    world.ambient();
    world.pod_is(json!({}));
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    world.namespace_is("shop", json!({ "name": "shop" }));
    assert_eq!(
        world.next().await,
        Annotated {
            on: false,
            captured: false
        }
    );
    world.ambient();
    assert_eq!(world.next().await, Added { with_rules: true });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    assert!(world.is_quiet().await);
}

#[tokio::test]
async fn a_refused_pod_is_not_captured_and_tried_again() {
    let mut world = World::at_work().await;
    world.script.refusals.lock().unwrap().push("address in use");
    world.ambient();
    world.pod_is(json!({}));
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(Annotated { .. })) {
        seen.push(world.next().await);
    }
    let annotated = Annotated {
        on: true,
        captured: true,
    };
    let added = Added { with_rules: false };
    assert_eq!(seen.first(), Some(&added));
    assert_eq!(seen.last(), Some(&annotated));
    // Undone, then tried again; rules only after the proxy agreed.
    assert!(seen.contains(&Deleted { captured: false }), "{seen:?}");
    assert!(
        seen.iter().filter(|h| **h == added).count() >= 2,
        "{seen:?}"
    );
}

#[tokio::test]
async fn the_plugin_enrols_before_it_is_answered() {
    let mut world = World::at_work().await;
    world.ambient();
    world.server_knows(pod(json!({ "status": { "podIP": null } })), true);
    let answer = world.plugin(&world.plugin_request("ADD")).await;
    assert!(answer.enrolled && answer.error.is_none(), "{answer:?}");
    assert!(redirect::intact(&world.pod, &wanted()));
    assert!(world.probes().contains("10.1.2.3") && world.probes().contains("fd00::3"));
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    // The watch comes after it, first without, then with the address: nothing more is to do.
    world.pod_is(json!({ "status": { "podIP": null } }));
    world.pod_is(annotated());
    assert!(world.is_quiet().await);
    // The sandbox goes.
    assert!(
        world
            .plugin(&world.plugin_request("DEL"))
            .await
            .error
            .is_none()
    );
    assert_eq!(world.next().await, Deleted { captured: true });
}

#[tokio::test]
async fn the_plugin_hears_why_a_pod_may_not_start() {
    let mut world = World::at_work().await;
    world.server_knows(pod(json!({ "metadata": { "uid": "another" } })), true);
    let stale = world
        .plugin(&world.plugin_request("ADD"))
        .await
        .error
        .unwrap();
    assert!(stale.contains("UID another"), "{stale}");
    world.server_knows(pod(json!({})), true);
    world.script.refusals.lock().unwrap().push("address in use");
    let refused = world
        .plugin(&world.plugin_request("ADD"))
        .await
        .error
        .unwrap();
    assert!(refused.contains("address in use"), "{refused}");
    assert!(!redirect::installed(&world.pod));
    assert_eq!(world.next().await, Added { with_rules: false });
    let gone = world
        .plugin_request("ADD")
        .replace(&path_of(&world.pod).display().to_string(), "/nonexistent");
    let missing = world.plugin(&gone).await.error.unwrap();
    assert!(
        missing.contains("/nonexistent") && missing.contains("cniNetnsDir"),
        "{missing}"
    );
    for rubbish in [
        "{}",
        "not json",
        r#"{"command":"FLY","podName":"a","podNamespace":"b","sandboxId":"c"}"#,
    ] {
        assert!(world.plugin(rubbish).await.error.is_some(), "{rubbish}");
    }
}

#[tokio::test]
async fn the_plugin_passes_pods_outside_the_mesh() {
    let mut world = World::at_work().await;
    world.server_knows(pod(json!({})), false);
    let answer = world.plugin(&world.plugin_request("ADD")).await;
    assert!(!answer.enrolled && answer.error.is_none());
    assert!(!redirect::installed(&world.pod) && world.is_quiet().await);
}

#[tokio::test]
async fn after_a_restart_enrolled_pods_are_known_before_the_first_proxy() {
    let mut world = World::new();
    redirect::install(&world.pod, &wanted()).unwrap();
    world.ambient();
    world.pod_is(annotated());
    world.agent.recover().await.unwrap();
    assert!(world.probes().contains("10.1.2.3"));
    world.proxy().await;
    // From the snapshot; nothing else is to do.
    assert_eq!(world.next().await, Added { with_rules: true });
    assert!(world.is_quiet().await);
    assert!(
        world
            .registry
            .encode(tulle_telemetry::Format::negotiate(None))
            .contains("nodeagent_enrolled_pods 1")
    );
}

#[tokio::test]
async fn what_an_interrupted_run_left_is_removed() {
    let mut world = World::new();
    redirect::install(&world.pod, &wanted()).unwrap();
    world.namespace_is("shop", json!({ "name": "shop" }));
    world.pod_is(json!({}));
    world.agent.recover().await.unwrap();
    timeout(PATIENCE, async {
        while redirect::installed(&world.pod) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert!(world.is_quiet().await);
}

#[tokio::test]
async fn the_mesh_can_dismiss_everybody() {
    let mut world = World::at_work().await;
    world.ambient();
    world.pod_is(json!({}));
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    let dismissal =
        json!({ "name": "istio-system", "annotations": { crate::ANNOTATION_UNENROLL: "true" } });
    world.namespace_is("istio-system", dismissal);
    assert_eq!(
        world.next().await,
        Annotated {
            on: false,
            captured: false
        }
    );
    world.server_knows(pod(json!({})), true);
    assert!(!world.plugin(&world.plugin_request("ADD")).await.enrolled);
}

#[tokio::test]
async fn flushed_rules_are_back_within_ten_seconds() {
    let mut world = World::at_work().await;
    world.ambient();
    world.pod_is(json!({}));
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    let repairing = tokio::spawn(crate::repair::run(world.agent.clone()));
    for ns in [&world.pod, &world.host] {
        let flush = || {
            std::process::Command::new("nft")
                .args(["flush", "ruleset"])
                .status()
        };
        assert!(ns.enter(flush).unwrap().unwrap().success());
    }
    timeout(Duration::from_secs(10), async {
        while !redirect::intact(&world.pod, &wanted()) || !world.probes().contains("10.1.2.3") {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    let page = world
        .registry
        .encode(tulle_telemetry::Format::negotiate(None));
    for kind in ["pod", "host"] {
        let line = format!("nodeagent_reconcile_events_total{{type=\"{kind}\"}} 1");
        assert!(page.contains(&line), "{page}");
    }
    repairing.abort();
}

#[tokio::test]
async fn a_finished_or_deleted_pod_is_given_up() {
    for end in [json!({ "status": { "phase": "Succeeded" } }), json!({})] {
        let mut world = World::at_work().await;
        world.ambient();
        let facts = world.pod_is(json!({}));
        assert_eq!(world.next().await, Added { with_rules: false });
        assert_eq!(
            world.next().await,
            Annotated {
                on: true,
                captured: true
            }
        );
        if end == json!({}) {
            world.agent.pod_changed(Change::Remove(facts.key));
        } else {
            world.pod_is(end);
        }
        assert_eq!(world.next().await, Deleted { captured: true });
        timeout(PATIENCE, async {
            while !world.agent.all_slots().is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        assert!(!world.probes().contains("10.1.2.3"));
    }
}
