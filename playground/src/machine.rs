//! A machine of the playground: namespaces, and an init that holds them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::component::Components;
use crate::limits;
use crate::process::ProcessId;

/// What the init of each machine does before it becomes the init.
const INIT: &str = include_str!("machine-init.sh");
/// Mount points that must exist on the host; a machine mounts directories of its own over them.
const MOUNT_POINTS: [&str; 4] = [
    "/etc/cni/net.d",
    "/opt/cni/bin",
    "/var/lib/kubelet",
    "/var/log",
];

/// A started machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Host name, and node name in Kubernetes.
    pub(crate) name: String,
    /// Its files on the host.
    pub(crate) dir: PathBuf,
    /// Process 1 of the machine.
    pub(crate) init: ProcessId,
}

impl Machine {
    /// Starts the init in a network namespace that exists. `init_program` is the program that it becomes.
    pub(crate) fn start(
        name: &str,
        network_namespace: &str,
        dir: &Path,
        init_program: &Path,
        components: &Components,
    ) -> Result<Self> {
        for point in MOUNT_POINTS {
            fs::create_dir_all(point)
                .with_context(|| format!("creating the mount point {point}"))?;
        }
        for part in ["cgroup", "cni", "cni-programs", "kubelet", "log"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{network_namespace}"))
            .args([
                "unshare",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "sh",
                "-c",
                INIT,
                "machine-init",
            ])
            .arg(dir)
            .arg(name)
            .arg(init_program);
        let log = dir.join("init.log");
        components.spawn(&format!("{name}-init"), log, &command)?;
        let init = components.wait(
            &format!("the namespaces of machine {name}"),
            limits::MACHINE_START,
            limits::LOOK_AGAIN,
            || {
                let pid =
                    fs::read_to_string(dir.join("init")).context("its init is still mounting")?;
                let pid = pid.trim().parse().context("the number of its init")?;
                ProcessId::of(pid).context("its init has ended")
            },
        )?;
        Ok(Machine {
            name: name.to_owned(),
            dir: dir.to_owned(),
            init,
        })
    }

    /// A command that runs inside the machine; add arguments to it.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.pid.to_string()])
            .args([
                "--mount", "--pid", "--net", "--uts", "--ipc", "--wd=/", "--",
            ])
            .arg(program.as_ref());
        command
    }
}
