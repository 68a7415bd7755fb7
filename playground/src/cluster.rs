//! The parts of Kubernetes and how they come up: the server's machine and the nodes' at the same time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::component::{Components, PROXIES};
use crate::machine::Machine;
use crate::network::Subnets;
use crate::pki::Authority;
use crate::process::run;
use crate::start::join;
use crate::wiring::{SERVER, node_name};
use crate::{Name, Programs, cgroup, config, health, image, limits, load_balancer};

/// Everything that the parts need to know.
pub(crate) struct Cluster<'a> {
    pub(crate) name: &'a Name,
    pub(crate) nodes: usize,
    pub(crate) subnets: Subnets,
    pub(crate) dir: &'a Path,
    pub(crate) programs: &'a Programs,
    pub(crate) snapshotter: &'static str,
    pub(crate) components: &'a Components,
    pub(crate) api_ready: AtomicBool,
}

impl Cluster<'_> {
    /// Writes the certificates, and access files for the user and for each part.
    pub(crate) fn write_credentials(&self) -> Result<()> {
        let authority = Authority::create(&self.pki())?;
        authority.api_server(&self.subnets)?;
        self.access(&authority, "admin", "admin", Some("system:masters"))?;
        for part in [
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "coredns",
        ] {
            self.access(&authority, part, &format!("system:{part}"), None)?;
        }
        for node in (1..=self.nodes).map(node_name) {
            self.access(
                &authority,
                &node,
                &format!("system:node:{node}"),
                Some("system:nodes"),
            )?;
        }
        let pause = image::Image::new(config::PAUSE_IMAGE)
            .file(self.programs.program("pause"), "/pause")?
            .entrypoint(&["/pause"]);
        image::write_docker_archive(&[pause], &self.pause_image())
    }

    fn access(
        &self,
        authority: &Authority,
        file: &str,
        user: &str,
        group: Option<&str>,
    ) -> Result<()> {
        authority.client(file, user, group)?;
        let text = config::kubeconfig(
            &self.subnets,
            &self.pki(),
            file,
            &format!("tulle-{}", self.name),
        );
        write(&self.kubeconfig(file), &text)
    }

    fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.join(format!("{user}.kubeconfig"))
    }

    fn pause_image(&self) -> PathBuf {
        self.dir.join("pause.tar")
    }

    fn machine(&self, name: &str) -> Result<Machine> {
        let namespace = self.name.network_namespace(name);
        let init = self.programs.program("machine-init");
        Machine::start(
            name,
            &namespace,
            &self.dir.join(name),
            &init,
            self.components,
        )
    }

    /// Starts a part on a machine, with its log in the playground's `log` directory.
    fn start(&self, machine: &Machine, part: &str, arguments: &[String]) -> Result<()> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = machine.command("env");
        command
            .arg(format!(
                "PATH={}:{path}:/usr/sbin:/sbin",
                self.programs.bin().display()
            ))
            .arg(self.programs.program(part))
            .args(arguments);
        let name = if machine.name == SERVER {
            part.to_owned()
        } else {
            format!("{}-{part}", machine.name)
        };
        let log = self.dir.join("log").join(format!("{name}.log"));
        self.components.spawn(&name, log, &command).map(drop)
    }

    /// etcd, API server, controllers, scheduler and cluster DNS.
    pub(crate) fn start_server(&self) -> Result<Machine> {
        let machine = self.machine(SERVER)?;
        self.start(&machine, "etcd", &self.etcd_arguments())?;
        self.start(&machine, "kube-apiserver", &self.api_server_arguments())?;
        self.components.wait(
            "the API server",
            limits::API_SERVER_START,
            limits::LOOK_AGAIN,
            || health::listens(self.subnets.server(), 6443),
        )?;
        self.components.wait(
            "the API server",
            limits::API_SERVER_START,
            limits::ASK_AGAIN,
            || run(self.kubectl().args(["get", "--raw=/readyz"])).map(drop),
        )?;
        self.api_ready.store(true, Ordering::SeqCst);
        self.start(
            &machine,
            "kube-controller-manager",
            &self.controller_arguments(),
        )?;
        let scheduler = format!(
            "--kubeconfig={}",
            self.kubeconfig("kube-scheduler").display()
        );
        self.start(
            &machine,
            "kube-scheduler",
            &[scheduler, "--leader-elect=false".to_owned()],
        )?;
        let corefile = self.dir.join("Corefile");
        write(&corefile, &config::corefile(&self.kubeconfig("coredns")))?;
        self.start(
            &machine,
            "coredns",
            &["-conf".to_owned(), corefile.display().to_string()],
        )?;
        Ok(machine)
    }

    fn etcd_arguments(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}/etcd", self.dir.display()),
            // Nothing in a playground has to survive a power cut.
            "--unsafe-no-fsync".to_owned(),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            // It is alone: whom would it wait for?
            "--heartbeat-interval=50".to_owned(),
            "--election-timeout=500".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn api_server_arguments(&self) -> Vec<String> {
        let pki = self.pki();
        let file = |name: &str| pki.join(name).display().to_string();
        vec![
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--secure-port=6443".to_owned(),
            format!("--advertise-address={}", self.subnets.server()),
            format!("--service-cluster-ip-range={}", self.subnets.services()),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--kubelet-client-certificate={}", file("admin.crt")),
            format!("--kubelet-client-key={}", file("admin.key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--service-account-key-file={}", file("tokens.pub")),
            format!("--service-account-signing-key-file={}", file("tokens.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            // Webhooks are called by endpoint address: this machine has routes to pods, but no kube-proxy.
            "--enable-aggregator-routing=true".to_owned(),
        ]
    }

    fn controller_arguments(&self) -> Vec<String> {
        let pki = self.pki();
        let file = |name: &str| pki.join(name).display().to_string();
        vec![
            format!(
                "--kubeconfig={}",
                self.kubeconfig("kube-controller-manager").display()
            ),
            format!("--service-account-private-key-file={}", file("tokens.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
        ]
    }

    /// containerd, then kubelet and kube-proxy as soon as the API server is ready.
    pub(crate) fn start_node(&self, node: usize) -> Result<Machine> {
        let name = node_name(node);
        cgroup::create(self.name, &name)?;
        let dir = self.dir.join(&name);
        self.write_node_files(node, &dir)?;
        let machine = self.machine(&name)?;
        self.start(
            &machine,
            "containerd",
            &[
                "--config".to_owned(),
                format!("{}/containerd.toml", dir.display()),
            ],
        )?;
        self.components.wait(
            &format!("containerd on {name}"),
            limits::CONTAINERD_START,
            limits::LOOK_AGAIN,
            || {
                let socket = format!(
                    "/proc/{}/root/run/containerd/containerd.sock",
                    machine.init.pid
                );
                ensure!(Path::new(&socket).exists(), "it has not made its socket");
                import_image(&machine, self.programs, &self.pause_image())
            },
        )?;
        self.components.wait(
            "the API server",
            limits::API_SERVER_START,
            limits::LOOK_AGAIN,
            || {
                ensure!(self.api_ready.load(Ordering::SeqCst), "it is not ready yet");
                Ok(())
            },
        )?;
        self.start(&machine, "kubelet", &self.kubelet_arguments(node, &dir))?;
        self.start(&machine, "kube-proxy", &self.proxy_arguments(&name))?;
        Ok(machine)
    }

    fn write_node_files(&self, node: usize, dir: &Path) -> Result<()> {
        for part in ["cni", "cni-programs"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        // Copies: installers of CNI plugins write into this directory.
        let plugins = fs::read_dir(self.programs.cni()).context("listing the CNI plugins")?;
        for plugin in plugins.flatten() {
            let to = dir.join("cni-programs").join(plugin.file_name());
            fs::copy(plugin.path(), &to)
                .with_context(|| format!("copying a CNI plugin to {}", to.display()))?;
        }
        let group = cgroup::of_node(self.name, &node_name(node));
        write(
            &dir.join("containerd.toml"),
            &config::containerd(dir, self.snapshotter),
        )?;
        write(
            &dir.join("kubelet.yaml"),
            &config::kubelet(&self.subnets, node, &self.pki(), dir, &group),
        )?;
        write(
            &dir.join("cni/10-pods.conflist"),
            &config::pod_network(&self.subnets, node, dir),
        )?;
        write(&dir.join("resolv.conf"), "")
    }

    fn kubelet_arguments(&self, node: usize, dir: &Path) -> Vec<String> {
        let name = node_name(node);
        // Two zones, so that what depends on locality has something to see.
        let zone = if node % 2 == 1 { "zone-a" } else { "zone-b" };
        vec![
            format!("--config={}/kubelet.yaml", dir.display()),
            format!("--kubeconfig={}", self.kubeconfig(&name).display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", self.subnets.node(node)),
            format!(
                "--node-labels=topology.kubernetes.io/region=region-1,topology.kubernetes.io/zone={zone}"
            ),
        ]
    }

    fn proxy_arguments(&self, node: &str) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.kubeconfig("kube-proxy").display()),
            format!("--hostname-override={node}"),
            format!("--cluster-cidr={}", self.subnets.pods()),
            "--proxy-mode=nftables".to_owned(),
            // The table of connections is the host's; a machine may not resize it.
            "--conntrack-max-per-core=0".to_owned(),
            "--conntrack-tcp-timeout-established=0".to_owned(),
            "--conntrack-tcp-timeout-close-wait=0".to_owned(),
            "--oom-score-adj=0".to_owned(),
        ]
    }

    /// kubectl as administrator.
    pub(crate) fn kubectl(&self) -> Command {
        kubectl(self.programs, &self.kubeconfig("admin"))
    }

    /// Applies a manifest; tries again while the API server still sets itself up.
    pub(crate) fn apply(&self, what: &str, manifest: &Path) -> Result<()> {
        self.components
            .wait(what, limits::CLUSTER_START, limits::ASK_AGAIN, || {
                run(self
                    .kubectl()
                    .args(["apply", "--server-side", "--field-manager=playground", "-f"])
                    .arg(manifest))
                .map(drop)
            })
    }

    /// The Service of cluster DNS.
    pub(crate) fn apply_dns(&self) -> Result<()> {
        let manifest = self.dir.join("dns.yaml");
        write(&manifest, &config::dns_manifest(&self.subnets))?;
        self.apply("the Service of cluster DNS", &manifest)
    }

    /// MetalLB: its image on all nodes and its definitions at the same time, then itself and the addresses.
    pub(crate) fn apply_load_balancer(&self, nodes: &[Machine]) -> Result<()> {
        let archive = self.dir.join("metallb.tar");
        image::write_docker_archive(&[load_balancer::image(self.programs)?], &archive)?;
        thread::scope(|scope| {
            let import = |node| import_image(node, self.programs, &archive);
            let imports: Vec<_> = nodes
                .iter()
                .map(|node| scope.spawn(move || import(node)))
                .collect();
            let definitions = self.apply(
                "MetalLB's definitions",
                &self.programs.metallb_definitions(),
            );
            imports.into_iter().map(join).fold(definitions, Result::and)
        })?;
        fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
        let manifest = self.dir.join("metallb.yaml");
        let pool = load_balancer::pool(&self.subnets);
        write(
            &manifest,
            &format!("{}---\n{pool}", load_balancer::workloads()),
        )?;
        self.apply("MetalLB", &manifest)
    }

    /// Waits until pods can be made and reach Services by name.
    pub(crate) fn wait_ready(&self) -> Result<()> {
        let wait = |what: &str, look: &mut dyn FnMut() -> Result<()>| {
            self.components
                .wait(what, limits::CLUSTER_START, limits::ASK_AGAIN, look)
        };
        wait("cluster DNS", &mut || {
            health::get(self.subnets.server(), 8181, "/ready")
        })?;
        for node in 1..=self.nodes {
            let what = format!("kube-proxy on {}", node_name(node));
            wait(&what, &mut || {
                health::get(self.subnets.node(node), 10256, "/healthz")
            })?;
        }
        wait("Ready nodes", &mut || self.nodes_ready())?;
        wait("the default service account", &mut || {
            run(self
                .kubectl()
                .args(["get", "serviceaccount", "default", "--namespace=default"]))
            .map(drop)
        })
    }

    fn nodes_ready(&self) -> Result<()> {
        let path = r#"jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}={.status.conditions[?(@.type=="Ready")].message}{"\n"}{end}"#;
        let output = run(self.kubectl().args(["get", "nodes", "--output", path]))?;
        let text = String::from_utf8_lossy(&output);
        for node in (1..=self.nodes).map(node_name) {
            match text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{node}=")))
            {
                None => bail!("{node} has not registered itself"),
                Some(state) if !state.starts_with("True=") => bail!("{node} is not Ready: {state}"),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// kubectl with its access file. It speaks to the API server directly, whatever proxy the host has.
pub(crate) fn kubectl(programs: &Programs, kubeconfig: &Path) -> Command {
    let mut kubectl = Command::new(programs.user_path().join("kubectl"));
    kubectl.env("KUBECONFIG", kubeconfig);
    for variable in PROXIES {
        kubectl
            .env_remove(variable)
            .env_remove(variable.to_lowercase());
    }
    kubectl
}

/// Imports an image archive on one node. By standard input: the machine may not see the file under the same name.
pub(crate) fn import_image(machine: &Machine, programs: &Programs, archive: &Path) -> Result<()> {
    let file = fs::File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
    let mut command = machine.command(programs.program("ctr"));
    command.args([
        "--address=/run/containerd/containerd.sock",
        "--namespace=k8s.io",
        "images",
        "import",
        "-",
    ]);
    let output = command
        .stdin(file)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("starting ctr")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "importing {} on {}: {}",
        archive.display(),
        machine.name,
        said.trim()
    );
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
