//! What the walks need of a stage beyond kubectl: nodes, pods' namespaces, ztunnels, a server outside of the cluster.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tulle_playground::{Options, Playground, Progress, images, interrupt};
use tulle_testing::kubectl::{Kubectl, eventually};
use tulle_testing::load::Outcome;
use tulle_testing::processes;
use tulle_testing::stage::{Programs, Stage as Base, samples_directory};

use tulle_testing::fixtures;

use crate::certificates::Certificates;

/// A pod outside of the mesh.
pub const OUTSIDER: &str = "-n outside deploy/sleep";

const SOON: Duration = Duration::from_secs(90);

/// A playground with mesh and samples, for one run of the walks.
pub struct Stage {
    base: Base,
    /// kubectl on it.
    pub kubectl: Kubectl,
    load: OnceLock<()>,
    outsider: OnceLock<()>,
    certificates: OnceLock<Certificates>,
    walk_certificates: OnceLock<Certificates>,
    /// The mesh configuration as it was installed.
    mesh: OnceLock<String>,
}

/// An HTTP server of this process, on the host's end of the bridge.
pub struct OutsideServer {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Stage {
    /// A playground of its own, with the mesh and the samples.
    pub fn up() -> anyhow::Result<Self> {
        let of = |name: &str| {
            let path = std::env::var_os(name)
                .with_context(|| format!("{name} is not set; testing/run.sh sets it"))?;
            Ok::<_, anyhow::Error>(PathBuf::from(path))
        };
        interrupt::watch()?;
        let tulle = of("TULLE_BIN")?;
        let sample = tulle
            .parent()
            .context("TULLE_BIN has no directory")?
            .join("sample");
        let programs = Programs {
            sample,
            cni: of("TULLE_CNI")?,
            tulle,
        };
        let mut progress = Progress::stderr();
        let load = images::program(fixtures::LOAD_IMAGE, &of("LOAD_BIN")?, "/load")?;
        let base = Base::start(
            &format!("e2e{}", std::process::id()),
            &programs,
            &[load],
            &mut progress,
        )?;
        let stage = Self {
            kubectl: base.kubectl.clone(),
            base,
            load: OnceLock::new(),
            outsider: OnceLock::new(),
            certificates: OnceLock::new(),
            walk_certificates: OnceLock::new(),
            mesh: OnceLock::new(),
        };
        if let Err(error) = stage.base.install(&mut progress) {
            stage.explain();
            return Err(error);
        }
        Ok(stage)
    }

    /// Whether `up` under the same name finds this playground, and leaves it as it is.
    pub fn up_again(&self) -> anyhow::Result<bool> {
        let before = self.base.playground.node_init(1);
        let options = Options::named(self.base.playground.name().as_str());
        let again = Playground::up(&options, &mut Progress::silent())?.keep();
        Ok(again.node_init(1) == before)
    }

    /// Leaves the playground up.
    pub fn keep(self) {
        drop(self.base.playground.keep());
    }

    /// Prints what helps to understand a failure.
    pub fn explain(&self) {
        for args in [
            "get pods -A -o wide",
            "get events -A --sort-by=.lastTimestamp",
        ] {
            let text = self.kubectl.run(args).unwrap_or_else(|e| e.to_string());
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            eprintln!("--- kubectl {args}");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        for app in ["app=istiod", "k8s-app=istio-cni-node", "app=ztunnel"] {
            let args = format!("logs -n istio-system -l {app} --prefix --tail=25 --all-containers");
            eprintln!(
                "--- kubectl {args}\n{}",
                self.kubectl.run(&args).unwrap_or_else(|e| e.to_string())
            );
        }
    }

    /// `tulle ARGS`.
    pub fn tulle(&self, args: &[&str]) -> anyhow::Result<String> {
        self.base.tulle(args)
    }

    /// A sample's manifest.
    pub fn sample(&self, name: &str) -> String {
        samples_directory()
            .join(name)
            .to_string_lossy()
            .into_owned()
    }

    /// Names of the nodes, in order.
    pub fn nodes(&self) -> anyhow::Result<Vec<String>> {
        let text = self.kubectl.run("get nodes -o name")?;
        Ok(text
            .lines()
            .map(|l| l.trim_start_matches("node/").to_owned())
            .collect())
    }

    /// Addresses of the nodes.
    pub fn node_addresses(&self) -> anyhow::Result<Vec<String>> {
        Ok((1..=self.base.playground.nodes())
            .map(|n| self.base.playground.node_address(n).to_string())
            .collect())
    }

    /// The bridge that joins the nodes.
    pub fn bridge(&self) -> String {
        self.base.playground.bridge()
    }

    /// Runs a command inside of a node.
    pub fn on_node(&self, node: &str, command: &[&str]) -> anyhow::Result<String> {
        let number = self
            .nodes()?
            .iter()
            .position(|n| n == node)
            .with_context(|| format!("no node {node}"))?
            + 1;
        let output = self
            .base
            .playground
            .node_command(number, command[0])?
            .args(&command[1..])
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until every running pod of a namespace carries the annotation.
    pub fn all_enrolled(&self, namespace: &str) -> anyhow::Result<()> {
        eventually(
            &format!("all pods of {namespace} are enrolled"),
            SOON,
            || {
                let pods = self.kubectl.json(&format!(
                    "get pods -n {namespace} --field-selector=status.phase=Running"
                ))?;
                let items = pods["items"].as_array().context("no items")?;
                ensure!(!items.is_empty(), "no pods");
                for pod in items
                    .iter()
                    .filter(|p| p["metadata"]["deletionTimestamp"].is_null())
                {
                    let annotation =
                        &pod["metadata"]["annotations"]["ambient.istio.io/redirection"];
                    ensure!(
                        annotation == "enabled",
                        "{}: {annotation}",
                        pod["metadata"]["name"]
                    );
                }
                Ok(())
            },
        )
    }

    /// ztunnel pods with their nodes.
    pub fn ztunnels(&self) -> anyhow::Result<Vec<(String, String)>> {
        let pods = self.kubectl.json(
            "get pods -n istio-system -l app=ztunnel --field-selector=status.phase=Running",
        )?;
        let items = pods["items"].as_array().context("no items")?;
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
        let alive = items
            .iter()
            .filter(|p| p["metadata"]["deletionTimestamp"].is_null());
        Ok(alive
            .map(|p| (text(&p["metadata"]["name"]), text(&p["spec"]["nodeName"])))
            .collect())
    }

    /// Logs of all ztunnels of the last while, such as `20s`.
    pub fn ztunnel_logs(&self, since: &str) -> anyhow::Result<String> {
        self.kubectl.run(&format!(
            "logs -n istio-system -l app=ztunnel --since={since} --tail=-1"
        ))
    }

    /// Metrics of all ztunnels.
    pub fn ztunnel_metrics(&self) -> anyhow::Result<String> {
        let addresses = self
            .kubectl
            .run("get pods -n istio-system -l app=ztunnel -o=jsonpath={.items[*].status.podIP}")?;
        let mut all = String::new();
        for address in addresses.split_whitespace() {
            let output = Command::new("curl")
                .args(["-sf", &format!("http://{address}:15020/metrics")])
                .output()?;
            all.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        Ok(all)
    }

    /// `load` pods in the namespace `load`, enrolled: client on the first node, server on the second.
    pub fn load(&self) -> anyhow::Result<()> {
        if self.load.get().is_some() {
            return Ok(());
        }
        let nodes = self.nodes()?;
        self.kubectl
            .apply(&fixtures::load_namespace("load", &nodes[0], &nodes[1]))?;
        self.kubectl
            .run("label namespace load istio.io/dataplane-mode=ambient --overwrite")?;
        for name in ["client", "server"] {
            self.kubectl.run(&format!(
                "rollout status -n load deploy/{name} --timeout=120s"
            ))?;
        }
        self.all_enrolled("load")?;
        let _ = self.load.set(());
        Ok(())
    }

    /// Runs the load program in a pod of the namespace `load`.
    pub fn load_from(&self, deployment: &str, args: &[&str]) -> anyhow::Result<Outcome> {
        let mut command = vec!["/load"];
        command.extend(args);
        let said = self
            .kubectl
            .exec(&format!("-n load deploy/{deployment}"), &command)?;
        serde_json::from_str(&said.out)
            .with_context(|| format!("load {args:?}: exit {}: {}", said.code, said.err))
    }

    /// Adds to the mesh configuration as it was installed; an empty text puts it back.
    pub fn mesh_config(&self, further: &str) -> anyhow::Result<()> {
        let read = || {
            self.kubectl
                .run("get configmap -n istio-system istio -o=jsonpath={.data.mesh}")
        };
        let installed = match self.mesh.get() {
            Some(installed) => installed,
            None => {
                let installed = read()?;
                self.mesh.get_or_init(|| installed)
            }
        };
        let whole = format!("{}\n{further}", installed.trim_end());
        let patch = serde_json::json!({"data": {"mesh": whole}}).to_string();
        let target = "patch configmap -n istio-system istio --type=merge -p";
        let mut args: Vec<&str> = target.split(' ').collect();
        args.push(&patch);
        self.kubectl.run_args(&args).map(drop)
    }

    /// Loads an image that some walk needs into all nodes.
    pub fn load_image(&self, image: tulle_playground::image::Image) -> anyhow::Result<()> {
        self.base.playground.load_images(&[image])
    }

    /// Keeps certificates for the cases that follow.
    pub fn share(&self, certificates: Certificates) {
        let _ = self.certificates.set(certificates);
    }

    /// Those that an earlier case made.
    pub fn certificates(&self) -> anyhow::Result<&Certificates> {
        let certificates = self.certificates.get();
        certificates.context(
            "the case that makes the certificates has not run; select all cases of the group",
        )
    }

    /// The certificates of walk 4: at first no more than a root.
    pub fn walk_certificates(&self) -> anyhow::Result<&Certificates> {
        if let Some(made) = self.walk_certificates.get() {
            return Ok(made);
        }
        let new = Certificates::new()?;
        Ok(self.walk_certificates.get_or_init(|| new))
    }

    /// A `sleep` in a namespace outside of the mesh.
    pub fn outsider(&self) -> anyhow::Result<()> {
        if self.outsider.get().is_some() {
            return Ok(());
        }
        self.kubectl.run("create namespace outside")?;
        self.kubectl.run(&format!(
            "apply -n outside -f {}",
            self.sample("sleep.yaml")
        ))?;
        self.kubectl
            .run("rollout status -n outside deploy/sleep --timeout=120s")?;
        let _ = self.outsider.set(());
        Ok(())
    }

    /// A server on the host: an address outside of the cluster.
    pub fn outside_server(&self) -> anyhow::Result<OutsideServer> {
        let listener = TcpListener::bind((self.base.playground.bridge_address(), 0))?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 2048]);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
                );
            }
        });
        Ok(OutsideServer { address })
    }

    /// The nftables ruleset in a pod's network namespace.
    pub fn pod_rules(&self, selector: &str) -> anyhow::Result<String> {
        self.in_pod(selector, &["nft", "list", "ruleset"])
    }

    /// Runs a program of the host in the network namespace of the first pod that the selector finds.
    pub fn in_pod(&self, selector: &str, command: &[&str]) -> anyhow::Result<String> {
        let pid = processes::one_of(&self.kubectl, &format!("-l {selector}"))?;
        let output = processes::in_network_of(pid).args(command).output()?;
        ensure!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// kill -9 of the process that carries the traffic of a node (counted from 0): the keeper's child.
    pub fn kill_ztunnel_worker(&self, node: usize) -> anyhow::Result<()> {
        let (_, pid) = processes::ztunnel(&self.kubectl, &self.nodes()?[node])?;
        let pid = rustix::process::Pid::from_raw(pid).context("no such pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        Ok(())
    }
}
