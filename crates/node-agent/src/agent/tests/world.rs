//! One pod and one node in real namespaces, a scripted proxy and a scripted API server.

use super::super::*;

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

pub(super) const UID: &str = "0aa1b2c3-1111-2222-3333-444455556666";
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What happened, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Happened {
    /// The proxy was told to serve the pod; whether rules were there.
    Added { with_rules: bool },
    /// The proxy was told to let go; whether anything was still captured.
    Deleted { captured: bool },
    /// The annotation was set or removed; whether everything was captured.
    Annotated { on: bool, captured: bool },
}

pub(super) use Happened::{Added, Annotated, Deleted};

pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) agent: Agent,
    pub(super) host: NetNs,
    pub(super) pod: NetNs,
    pub(super) happened: mpsc::UnboundedReceiver<Happened>,
    pub(super) script: Arc<Script>,
    pub(super) registry: Registry,
}

/// The API server and the proxy, as the test wants them.
pub(super) struct Script {
    pub(super) pod: NetNs,
    pub(super) facts: Mutex<Option<(PodFacts, NamespaceFacts)>>,
    pub(super) refusals: Mutex<Vec<&'static str>>,
    pub(super) tell: mpsc::UnboundedSender<Happened>,
    /// The proxy has been told of all pods that were there when it came.
    pub(super) complete: tokio::sync::Notify,
}

impl Script {
    pub(super) fn captured(&self) -> bool {
        redirect::intact(&self.pod, &wanted())
    }
}

pub(super) fn wanted() -> Redirect {
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
    pub(super) fn new() -> Self {
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
            complete: tokio::sync::Notify::new(),
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
            script,
            registry,
        }
    }

    /// Lists nothing yet, and is at work; with a proxy.
    pub(super) async fn at_work() -> Self {
        let world = Self::new();
        world.agent.recover().await.unwrap();
        world.proxy().await;
        world
    }

    /// Connects a proxy that takes everything but what the script refuses. From then on it hears of each pod once: one that
    /// joins while the snapshot is under way may be told twice.
    pub(super) async fn proxy(&self) {
        let path = self.dir.path().join("z.sock");
        tokio::spawn(self.agent.means.zds.serve(&path).unwrap());
        let stream = SeqStream::connect(&path).unwrap();
        stream
            .send(&ZdsHello { version: 1 }.encode_to_vec(), &[])
            .await
            .unwrap();
        tokio::spawn(play_proxy(stream, self.script.clone()));
        timeout(PATIENCE, self.script.complete.notified())
            .await
            .expect("the snapshot never ends");
    }

    pub(super) fn pod_is(&self, changes: serde_json::Value) -> PodFacts {
        let facts = pod(changes);
        self.agent.pod_changed(Change::Upsert(facts.clone()));
        facts
    }

    pub(super) fn namespace_is(&self, name: &str, namespace: serde_json::Value) {
        let facts =
            NamespaceFacts::of(&serde_json::from_value(json!({ "metadata": namespace })).unwrap());
        self.agent
            .namespace_changed(Change::Upsert((name.into(), facts)));
    }

    pub(super) async fn next(&mut self) -> Happened {
        timeout(PATIENCE, self.happened.recv())
            .await
            .expect("nothing happened")
            .unwrap()
    }

    pub(super) async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(500), self.happened.recv())
            .await
            .is_err()
    }

    pub(super) fn probes(&self) -> String {
        let list = || {
            std::process::Command::new("nft")
                .args(["list", "ruleset"])
                .output()
        };
        String::from_utf8(self.host.enter(list).unwrap().unwrap().stdout).unwrap()
    }

    pub(super) fn ambient(&self) {
        self.namespace_is(
            "shop",
            json!({ "name": "shop", "labels": { "istio.io/dataplane-mode": "ambient" } }),
        );
    }

    /// One call on the plugin's socket.
    pub(super) async fn plugin(&self, request: &str) -> Answer {
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
    pub(super) fn plugin_request(&self, command: &str) -> String {
        let text = include_str!("../../../../cni-plugin/tests/protocol.json");
        let mut request: Request = serde_json::from_str(text).unwrap();
        request.command = command.into();
        request.netns = Some(path_of(&self.pod));
        serde_json::to_string(&request).unwrap()
    }

    pub(super) fn server_knows(&self, pod: PodFacts, ambient: bool) {
        let mode = if ambient { "ambient" } else { "none" };
        let namespace = json!({ "metadata": { "labels": { "istio.io/dataplane-mode": mode } } });
        let namespace = NamespaceFacts::of(&serde_json::from_value(namespace).unwrap());
        *self.script.facts.lock().unwrap() = Some((pod, namespace));
    }
}

pub(super) fn path_of(ns: &NetNs) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), ns.fd().as_raw_fd()).into()
}

pub(super) fn fake_process(proc: &std::path::Path, pid: u32, cgroup: &str, ns: &NetNs) {
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

pub(super) fn pod(changes: serde_json::Value) -> PodFacts {
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

pub(super) fn annotated() -> serde_json::Value {
    json!({ "metadata": { "annotations": { "ambient.istio.io/redirection": "enabled" } } })
}

pub(super) async fn play_proxy(stream: SeqStream, script: Arc<Script>) {
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
            Some(Payload::SnapshotSent(_)) => script.complete.notify_one(),
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
