//! A start under way: the parts come up side by side, and go down again if one of them does not.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::component::Components;
use crate::machine::Machine;
use crate::playground::report;
use crate::state::{self, State};
use crate::{Name, Options, Programs, Progress, interrupt, limits, preflight, teardown, wiring};

/// A start under way; dropped before it is done, it takes down what it made.
pub(crate) struct Start {
    pub(crate) name: Name,
    pub(crate) dir: PathBuf,
    pub(crate) components: Components,
    pub(crate) done: bool,
}

impl Drop for Start {
    fn drop(&mut self) {
        if !self.done {
            self.keep_logs();
            report(teardown::take_down(&self.name, &self.dir));
            self.components.reap();
        }
    }
}

impl Start {
    pub(crate) fn run(
        &self,
        options: &Options,
        programs: &Programs,
        progress: &mut Progress,
    ) -> Result<State> {
        fs::create_dir_all(self.dir.join("log"))
            .with_context(|| format!("creating {}", self.dir.display()))?;
        preflight::free_disk(&self.dir, limits::FREE_DISK)?;
        preflight::inotify(limits::INOTIFY_INSTANCES)?;
        let snapshotter = preflight::snapshotter(&self.dir)?;
        let subnets = progress.step("choose subnets, make bridge and links", |_| {
            let subnets = wiring::claim_subnets(&self.name, options.nodes, options.subnet)?;
            wiring::join_machines(&self.name, options.nodes, &subnets)?;
            Ok(subnets)
        })?;
        let cluster = Cluster {
            name: &self.name,
            nodes: options.nodes,
            subnets,
            dir: &self.dir,
            programs,
            snapshotter,
            components: &self.components,
            api_ready: AtomicBool::new(false),
        };
        let mut state = State {
            boot: state::boot(),
            nodes: options.nodes,
            subnets,
            programs: programs.directory().to_owned(),
            machines: Vec::new(),
            processes: Vec::new(),
            complete: false,
        };
        state.write(&self.dir)?;
        state.machines = self.bring_up(&cluster, options, progress)?;
        state.processes = self.components.ids();
        state.complete = true;
        interrupt::check()?;
        state.write(&self.dir)?;
        Ok(state)
    }

    /// Server and nodes at the same time; the first error counts, and makes the others give up.
    fn bring_up(
        &self,
        cluster: &Cluster<'_>,
        options: &Options,
        progress: &mut Progress,
    ) -> Result<Vec<Machine>> {
        progress.step("make certificates", |_| cluster.write_credentials())?;
        let machines = thread::scope(|scope| {
            let watched = |part: &mut dyn FnMut() -> Result<Machine>| {
                let result = part();
                if result.is_err() {
                    cluster.components.give_up();
                }
                result
            };
            let nodes: Vec<_> = (1..=options.nodes)
                .map(|node| scope.spawn(move || watched(&mut || cluster.start_node(node))))
                .collect();
            let what = "start etcd, API server, controllers, scheduler, DNS";
            let server = progress.step(what, |_| watched(&mut || cluster.start_server()));
            let what = format!(
                "start {} nodes: containerd, kubelet, kube-proxy",
                options.nodes
            );
            let nodes = progress.step(&what, |_| collect(nodes.into_iter().map(join).collect()));
            first_cause(server, nodes)
        })?;
        progress.step("wait for Ready nodes, DNS and Services", |_| {
            thread::scope(|scope| {
                let definitions = scope.spawn(|| match options.gateway_api {
                    true => cluster.apply(
                        "the Gateway API's definitions",
                        &cluster.programs.gateway_api(),
                    ),
                    false => Ok(()),
                });
                let balancer = scope.spawn(|| match options.load_balancer {
                    // The first machine is the server's.
                    true => cluster.apply_load_balancer(machines.get(1..).unwrap_or_default()),
                    false => Ok(()),
                });
                let ready = cluster.apply_dns().and_then(|()| cluster.wait_ready());
                ready.and(join(definitions)).and(join(balancer))
            })
        })?;
        Ok(machines)
    }

    /// The logs of a failed start go beside the playgrounds, where the next failure replaces them.
    fn keep_logs(&self) {
        if interrupt::interrupted() {
            return;
        }
        let kept = self.dir.with_extension("failed-logs");
        let _ = fs::remove_dir_all(&kept);
        if fs::rename(self.dir.join("log"), &kept).is_ok() {
            Progress::stderr().say(&format!(
                "the logs of the failed start are kept in {}",
                kept.display()
            ));
        }
    }
}

/// Parts that gave up because of another say so; the other's error is the one to show.
fn first_cause(server: Result<Machine>, nodes: Result<Vec<Machine>>) -> Result<Vec<Machine>> {
    match (server, nodes) {
        (Ok(server), Ok(nodes)) => Ok(std::iter::once(server).chain(nodes).collect()),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(server), Err(node)) => Err(if gave_up(&server) { node } else { server }),
    }
}

fn gave_up(error: &anyhow::Error) -> bool {
    error.is::<crate::component::GaveUp>()
}

fn collect(results: Vec<Result<Machine>>) -> Result<Vec<Machine>> {
    let mut machines = Vec::new();
    let mut errors = Vec::new();
    for result in results {
        match result {
            Ok(machine) => machines.push(machine),
            Err(error) => errors.push(error),
        }
    }
    errors.sort_by_key(gave_up);
    errors.into_iter().next().map_or(Ok(machines), Err)
}

pub(crate) fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
