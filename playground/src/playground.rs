//! One playground, from `up` to `down`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ipnet::Ipv4Net;

use crate::cluster;
use crate::component::Components;
use crate::image::{self, Image};
use crate::machine::Machine;
use crate::network::Subnets;
use crate::process::run;
use crate::start::{Start, join};
use crate::state::{self, State};
use crate::{Name, Programs, Progress, limits, preflight, teardown};

/// What a playground shall be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name: several with different names run beside each other.
    pub name: String,
    /// How many nodes, from 1 to 8; the API server's machine is not one of them.
    pub nodes: usize,
    /// The directory that holds playgrounds, each in a directory of its own name.
    pub directory: PathBuf,
    /// A /16 for machines, pods and Services; chosen by the name when not given.
    pub subnet: Option<Ipv4Net>,
    /// Whether to apply the Gateway API's resource definitions.
    pub gateway_api: bool,
    /// Whether Services of type LoadBalancer get addresses (MetalLB). They come a few seconds after the start.
    pub load_balancer: bool,
}

impl Options {
    /// A playground of two nodes with the Gateway API's definitions, in the usual directory.
    pub fn named(name: &str) -> Self {
        Options {
            name: name.to_owned(),
            nodes: 2,
            directory: PathBuf::from(state::DIRECTORY),
            subnet: None,
            gateway_api: true,
            load_balancer: true,
        }
    }

    /// With another number of nodes.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    fn check(&self) -> Result<Name> {
        let name: Name = self.name.parse()?;
        ensure!(
            (1..=limits::NODES).contains(&self.nodes),
            "a playground has 1 to {} nodes, not {}",
            limits::NODES,
            self.nodes
        );
        ensure!(
            self.directory.is_absolute()
                && !["/run", "/var/run", "/var/log", "/proc", "/sys"]
                    .iter()
                    .any(|hidden| self.directory.starts_with(hidden)),
            "{} cannot hold a playground: the path must be absolute, and not below /run, /var/log, /proc or /sys, where machines have file systems of their own",
            self.directory.display()
        );
        Ok(name)
    }
}

/// How a playground is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing of it is there.
    Absent,
    /// All its processes run.
    Running,
    /// It is half there: what is wrong with it.
    Broken(String),
}

/// A running playground. Dropping it takes it down, unless it was running before or [`Playground::keep`] was called.
#[derive(Debug)]
pub struct Playground {
    name: Name,
    directory: PathBuf,
    state: State,
    programs: Programs,
    /// Empty if another process started it.
    components: Components,
    down_on_drop: bool,
}

impl Playground {
    /// Starts a playground, or finds the one that runs already. One that is half there is taken down first. When this fails, or
    /// is interrupted ([`crate::interrupt::watch`]), nothing of it stays but its logs.
    pub fn up(options: &Options, progress: &mut Progress) -> Result<Self> {
        let name = options.check()?;
        preflight::host()?;
        let programs = Programs::build(progress)?;
        let alone = state::lock(&options.directory, &name, progress)?;
        let dir = options.directory.join(name.as_str());
        match health(&name, &dir)? {
            Health::Running => return Self::found(options, &name, progress),
            Health::Broken(why) => {
                progress.step(
                    &format!("playground {name} is half there ({why}): taking it down first"),
                    |_| teardown::take_down(&name, &dir),
                )?;
            }
            Health::Absent => {}
        }
        let mut start = Start {
            name,
            dir,
            components: Components::default(),
            done: false,
        };
        let state = match start.run(options, &programs, progress) {
            Ok(state) => state,
            Err(error) => {
                drop(start);
                alone.remove()?;
                return Err(error);
            }
        };
        start.done = true;
        Ok(Playground {
            name: start.name.clone(),
            directory: options.directory.clone(),
            state,
            programs,
            components: std::mem::take(&mut start.components),
            down_on_drop: true,
        })
    }

    fn found(options: &Options, name: &Name, progress: &mut Progress) -> Result<Self> {
        let playground = Self::attach_in(&options.directory, name.as_str())?;
        ensure!(
            playground.nodes() == options.nodes,
            "playground {name} runs already, with {} nodes instead of {}; `playground down` ends it",
            playground.nodes(),
            options.nodes
        );
        progress.say(&format!("playground {name} runs already"));
        Ok(playground)
    }

    /// The running playground of this name in the usual directory. It stays up when the value is dropped.
    pub fn attach(name: &str) -> Result<Self> {
        Self::attach_in(Path::new(state::DIRECTORY), name)
    }

    /// The running playground of this name in the given directory. It stays up when the value is dropped.
    pub fn attach_in(directory: &Path, name: &str) -> Result<Self> {
        let name: Name = name.parse()?;
        let dir = directory.join(name.as_str());
        match health(&name, &dir)? {
            Health::Absent => bail!("there is no playground {name}; `playground up` starts it"),
            Health::Broken(why) => {
                bail!("playground {name} is half there: {why}; `playground up` starts it anew")
            }
            Health::Running => {}
        }
        let state =
            State::read(&dir)?.with_context(|| format!("playground {name} vanished just now"))?;
        let programs = Programs::at(&state.programs);
        Ok(Playground {
            name,
            directory: directory.to_owned(),
            state,
            programs,
            components: Components::default(),
            down_on_drop: false,
        })
    }

    /// How the playground of this name is, in the given directory.
    pub fn health(directory: &Path, name: &str) -> Result<Health> {
        let name: Name = name.parse()?;
        health(&name, &directory.join(name.as_str()))
    }

    /// Takes the playground of this name down, whole or half dead; whether there was anything to take down.
    pub fn down_named(directory: &Path, name: &str, progress: &mut Progress) -> Result<bool> {
        let name: Name = name.parse()?;
        ensure!(
            rustix::process::geteuid().is_root(),
            "taking a playground down needs root; run this with sudo"
        );
        let alone = state::lock(directory, &name, progress)?;
        let dir = directory.join(name.as_str());
        let was_there = teardown::exists(&name, &dir);
        // Also when nothing is to be seen: control groups may be left.
        teardown::take_down(&name, &dir)?;
        alone.remove()?;
        Ok(was_there)
    }

    /// Takes it down, and says what could not be removed.
    pub fn down(mut self) -> Result<()> {
        self.down_on_drop = false;
        self.take_down()
    }

    fn take_down(&self) -> Result<()> {
        let down = Self::down_named(&self.directory, self.name.as_str(), &mut Progress::silent());
        self.components.reap();
        down.map(drop)
    }

    /// Leaves it running when this value is dropped.
    #[must_use]
    pub fn keep(mut self) -> Self {
        self.down_on_drop = false;
        self
    }

    /// The name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its directory: certificates, configurations, logs.
    pub fn directory(&self) -> PathBuf {
        self.directory.join(self.name.as_str())
    }

    /// The programs that it runs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Access to the cluster as its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory().join("admin.kubeconfig")
    }

    /// kubectl with its KUBECONFIG, and with a PATH on which it is first.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = cluster::kubectl(&self.programs, &self.kubeconfig());
        kubectl.env("PATH", self.path());
        kubectl
    }

    /// A PATH that begins with the playground's kubectl.
    pub fn path(&self) -> std::ffi::OsString {
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.programs.user_path()).chain(std::env::split_paths(&rest));
        std::env::join_paths(all).unwrap_or(rest)
    }

    /// How many nodes it has. They are called `node1`, `node2`, ...
    pub fn nodes(&self) -> usize {
        self.state.nodes
    }

    /// Its addresses.
    pub fn subnets(&self) -> Subnets {
        self.state.subnets
    }

    /// The host's address on the bridge: for pods, an address outside the cluster at which a server of this host listens.
    pub fn bridge_address(&self) -> Ipv4Addr {
        self.state.subnets.bridge()
    }

    /// The bridge on the host: what crosses between machines can be captured on it, and on the links that it joins.
    pub fn bridge(&self) -> String {
        self.name.bridge()
    }

    /// The interface on the host that leads to node `n`, counted from 1.
    pub fn node_interface(&self, n: usize) -> String {
        self.name.link(n)
    }

    /// The address of node `n`, counted from 1: NodePorts answer there.
    pub fn node_address(&self, n: usize) -> Ipv4Addr {
        self.state.subnets.node(n)
    }

    /// A command that runs `program` inside node `n`, counted from 1 (0 is the API server's machine).
    pub fn node_command(&self, n: usize, program: impl AsRef<Path>) -> Result<Command> {
        let count = self.nodes();
        let machine = self
            .state
            .machines
            .get(n)
            .ok_or_else(|| anyhow!("there is no node {n}; the nodes are 1 to {count}"))?;
        Ok(machine.command(program))
    }

    /// containerd's client on node `n`, set to the images and containers of Kubernetes.
    pub fn ctr(&self, n: usize) -> Result<Command> {
        let mut ctr = self.node_command(n, self.programs.program("ctr"))?;
        ctr.args([
            "--address=/run/containerd/containerd.sock",
            "--namespace=k8s.io",
        ]);
        Ok(ctr)
    }

    /// The init of node `n` as the host knows it: `/proc/<pid>/root` shows the node's files.
    pub fn node_init(&self, n: usize) -> Option<i32> {
        self.state.machines.get(n).map(|machine| machine.init.pid)
    }

    /// Imports an image archive on all nodes at the same time.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let nodes: Vec<&Machine> = self.state.machines.iter().skip(1).collect();
        thread::scope(|scope| {
            let imports: Vec<_> = nodes
                .iter()
                .map(|node| scope.spawn(|| cluster::import_image(node, &self.programs, archive)))
                .collect();
            imports.into_iter().try_for_each(join)
        })
    }

    /// Makes an archive of images in the playground's directory and imports it on all nodes.
    pub fn load_images(&self, images: &[Image]) -> Result<()> {
        let first = images.first().context("no image to load")?;
        let file: String = first
            .name()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let archive = self.directory().join(format!("image-{file}.tar"));
        image::write_docker_archive(images, &archive)?;
        let loaded = self.load_image(&archive);
        fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
        loaded
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        if self.down_on_drop {
            report(self.take_down());
        }
    }
}

/// A `drop` has nobody to return an error to.
pub(crate) fn report(result: Result<()>) {
    if let Err(error) = result {
        Progress::stderr().say(&format!(
            "the playground could not be taken down: {error:#}"
        ));
    }
}

fn health(name: &Name, dir: &Path) -> Result<Health> {
    let Some(state) = State::read(dir)? else {
        let left = teardown::exists(name, dir);
        return Ok(if left {
            Health::Broken("an earlier start did not finish".to_owned())
        } else {
            Health::Absent
        });
    };
    if !state.complete {
        return Ok(Health::Broken("an earlier start did not finish".to_owned()));
    }
    let dead = state.dead();
    if !dead.is_empty() {
        return Ok(Health::Broken(format!("not running: {}", dead.join(", "))));
    }
    let mut kubectl = cluster::kubectl(
        &Programs::at(&state.programs),
        &dir.join("admin.kubeconfig"),
    );
    Ok(
        match run(kubectl.args(["get", "--raw=/readyz", "--request-timeout=10s"])) {
            Ok(_) => Health::Running,
            Err(error) => Health::Broken(format!("the API server does not answer: {error:#}")),
        },
    )
}
