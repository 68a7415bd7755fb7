//! The Go programs of the playground: built once, kept in a cache that all clones of the repository share.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::{Progress, interrupt, limits, load_balancer, preflight, prerequisites};

/// Kubernetes, etcd and kubectl: the module of `kubernetes/`.
const GO_MOD: &str = include_str!("../kubernetes/go.mod");
const GO_SUM: &str = include_str!("../kubernetes/go.sum");
const MAIN_GO: &str = include_str!("../kubernetes/main.go");
const PAUSE_C: &str = include_str!("../kubernetes/pause.c");
/// Must agree with `kubernetes/go.mod` (a test compares).
const KUBERNETES: &str = "1.36.3";
/// The names under which the one program is called.
const PARTS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];
/// Programs that install as they are: what they are, at which version, packages, and the directory they go to.
const INSTALLED: [(&str, &str, &[&str], &str); 4] = [
    (
        "containerd",
        "v2.4.2",
        &[
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
        ],
        "bin",
    ),
    (
        "CNI plugins",
        "v1.9.1",
        &[
            "github.com/containernetworking/plugins/plugins/main/bridge",
            "github.com/containernetworking/plugins/plugins/main/loopback",
            "github.com/containernetworking/plugins/plugins/main/ptp",
            "github.com/containernetworking/plugins/plugins/ipam/host-local",
            "github.com/containernetworking/plugins/plugins/meta/portmap",
        ],
        "cni",
    ),
    ("CoreDNS", "v1.15.0", &["github.com/coredns/coredns"], "bin"),
    (
        "MetalLB",
        "v0.15.2",
        &[
            "go.universe.tf/metallb/controller",
            "go.universe.tf/metallb/speaker",
        ],
        "metallb",
    ),
];
/// The module whose `config/crd` holds the Gateway API's resource definitions.
const GATEWAY_API: &str = "sigs.k8s.io/gateway-api@v1.6.3";
/// Definitions that are taken from the experimental channel: routes with retries, and the retry budget. All others are standard.
const EXPERIMENTAL: [&str; 2] = [
    "gateway.networking.k8s.io_httproutes.yaml",
    "gateway.networking.x-k8s.io_xbackendtrafficpolicies.yaml",
];
/// The module whose manifest holds MetalLB's resource definitions and rights. Must agree with [`INSTALLED`] (a test compares).
const METALLB: &str = "go.universe.tf/metallb@v0.15.2";

/// A directory of built programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Where this version's programs are kept, built or not: below `$TULLE_CACHE`, or `tulle` in the user's cache directory.
    pub fn cached() -> Result<Self> {
        Ok(Programs {
            dir: cache()?.join(format!("playground-{}", version_hash())),
        })
    }

    /// Programs that a running playground was started from.
    pub(crate) fn at(dir: &Path) -> Self {
        Programs {
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.dir
    }

    /// Whether they are there; building finishes with one rename.
    pub fn built(&self) -> bool {
        self.dir.is_dir()
    }

    /// The built programs; builds what is missing. From nothing this takes minutes, and shows how far it is. Of several that
    /// build at the same time one works and the others wait for it.
    pub fn build(progress: &mut Progress) -> Result<Self> {
        let programs = Programs::cached()?;
        if programs.built() {
            return Ok(programs);
        }
        let parent = programs
            .dir
            .parent()
            .context("the cache has no parent directory")?
            .to_owned();
        fs::create_dir_all(&parent)
            .with_context(|| format!("creating the cache {}", parent.display()))?;
        let _alone = lock(&programs.dir.with_extension("lock"), progress)?;
        if programs.built() {
            return Ok(programs);
        }
        preflight::free_disk(&parent, limits::FREE_DISK_BUILD)?;
        let unfinished = programs.dir.with_extension("unfinished");
        Builder::new(&unfinished)?.build_all(progress)?;
        fs::rename(&unfinished, &programs.dir)
            .with_context(|| format!("finishing {}", programs.dir.display()))?;
        Ok(programs)
    }

    /// One program, such as `kubelet` or `ctr`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin().join(name)
    }

    /// A directory for the user's PATH: `kubectl` and nothing else.
    pub fn user_path(&self) -> PathBuf {
        self.dir.join("path")
    }

    /// The Gateway API's resource definitions, as one manifest.
    pub fn gateway_api(&self) -> PathBuf {
        self.dir.join("gateway-api.yaml")
    }

    /// MetalLB's resource definitions and rights, as one manifest.
    pub(crate) fn metallb_definitions(&self) -> PathBuf {
        self.dir.join("metallb.yaml")
    }

    /// MetalLB's two programs.
    pub(crate) fn metallb(&self, name: &str) -> PathBuf {
        self.dir.join("metallb").join(name)
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    pub(crate) fn cni(&self) -> PathBuf {
        self.dir.join("cni")
    }
}

/// Names the cache by all that goes into it.
fn version_hash() -> String {
    let mut hash = Sha256::new();
    for part in [
        GO_MOD,
        GO_SUM,
        MAIN_GO,
        PAUSE_C,
        KUBERNETES,
        GATEWAY_API,
        METALLB,
    ] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(format!(
        "{PARTS:?} {INSTALLED:?} {EXPERIMENTAL:?} {}",
        std::env::consts::ARCH
    ));
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The cache that all playgrounds of this user share.
pub fn cache() -> Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = variable("TULLE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("tulle")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/tulle")))
        .context("no place for built programs: neither TULLE_CACHE nor HOME is set")?;
    std::path::absolute(&cache).with_context(|| format!("the cache directory {}", cache.display()))
}

/// Holds a lock file until dropped; says so when it has to wait.
fn lock(path: &Path, progress: &mut Progress) -> Result<File> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress.say("another process builds the playground's programs; waiting for it");
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            interrupt::check()?;
            std::thread::sleep(limits::ASK_AGAIN);
        }
    }
    Ok(file)
}

/// Builds into a directory that survives an interruption: what is done already is not done again.
struct Builder {
    dir: PathBuf,
    go: PathBuf,
}

impl Builder {
    fn new(dir: &Path) -> Result<Self> {
        let go = prerequisites::go().context(
            "building the playground's Kubernetes needs Go 1.21 or newer; `playground prerequisites --install` installs it",
        )?;
        for part in ["bin", "cni", "metallb", "path", "source"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        }
        Ok(Builder {
            dir: dir.to_owned(),
            go,
        })
    }

    fn build_all(&self, progress: &mut Progress) -> Result<()> {
        let source = self.dir.join("source");
        for (file, text) in [
            ("go.mod", GO_MOD),
            ("go.sum", GO_SUM),
            ("main.go", MAIN_GO),
            ("pause.c", PAUSE_C),
        ] {
            fs::write(source.join(file), text)
                .with_context(|| format!("writing {file} for the build"))?;
        }
        self.pause(progress)?;
        self.gateway_api(progress)?;
        self.metallb(progress)?;
        self.kubernetes(progress)?;
        for (what, version, packages, to) in INSTALLED {
            progress.step(&format!("build {what} {version}"), |progress| {
                let packages = packages
                    .iter()
                    .map(|package| format!("{package}@{version}"));
                let mut go = self.go();
                go.env("GOBIN", self.dir.join(to))
                    .args(["install", "-v", "-ldflags=-s -w"])
                    .args(packages);
                count(go, None, progress).map(drop)
            })?;
        }
        fs::remove_dir_all(&source).with_context(|| format!("removing {}", source.display()))
    }

    fn go(&self) -> Command {
        let mut go = Command::new(&self.go);
        go.current_dir(self.dir.join("source"))
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off");
        // Kubernetes may want a newer Go than the installed one, which then fetches it as a module.
        if std::env::var_os("GOTOOLCHAIN").is_none() {
            go.env("GOTOOLCHAIN", "auto");
        }
        go
    }

    fn pause(&self, progress: &mut Progress) -> Result<()> {
        progress.step("build the pause program", |_| {
            let mut gcc = Command::new("gcc");
            gcc.current_dir(self.dir.join("source"))
                .args(["-static", "-Os", "-o"]);
            crate::process::run(gcc.arg(self.dir.join("bin/pause")).arg("pause.c"))?;
            link("pause", &self.dir.join("bin/machine-init"))
        })
    }

    /// One multi-call program; the version is set at link time, as Kubernetes's own build does, else clients refuse it.
    fn kubernetes(&self, progress: &mut Progress) -> Result<()> {
        let packages = progress.step(
            &format!("fetch the sources of Kubernetes {KUBERNETES}"),
            |progress| {
                let mut go = self.go();
                go.args(["list", "-deps", "."]);
                count(go, None, progress)
            },
        )?;
        progress.step(&format!("build Kubernetes {KUBERNETES}"), |progress| {
            let (major, rest) = KUBERNETES.split_once('.').context("the version of Kubernetes")?;
            let minor = rest.split('.').next().unwrap_or_default();
            let flags = format!(
                "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES} \
                 -X k8s.io/client-go/pkg/version.gitVersion=v{KUBERNETES} \
                 -X k8s.io/component-base/version.gitMajor={major} -X k8s.io/component-base/version.gitMinor={minor}"
            );
            let mut go = self.go();
            go.args(["build", "-v", &flags, "-o"]).arg(self.dir.join("bin/kubernetes")).arg(".");
            count(go, Some(packages), progress).map(drop)
        })?;
        for part in PARTS {
            link("kubernetes", &self.dir.join("bin").join(part))?;
        }
        link("../bin/kubernetes", &self.dir.join("path/kubectl"))
    }

    fn gateway_api(&self, progress: &mut Progress) -> Result<()> {
        progress.step(&format!("fetch the definitions of {GATEWAY_API}"), |_| {
            let definitions = self.module(GATEWAY_API)?.join("config/crd");
            let manifest = gateway_api_manifest(&definitions)?;
            fs::write(self.dir.join("gateway-api.yaml"), manifest)
                .context("writing gateway-api.yaml")
        })
    }

    fn metallb(&self, progress: &mut Progress) -> Result<()> {
        progress.step(&format!("fetch the definitions of {METALLB}"), |_| {
            let path = self
                .module(METALLB)?
                .join("config/manifests/metallb-native.yaml");
            let manifest =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let definitions = load_balancer::definitions(&manifest);
            ensure!(
                definitions.contains("kind: CustomResourceDefinition"),
                "no resource definition in {}",
                path.display()
            );
            fs::write(self.dir.join("metallb.yaml"), definitions).context("writing metallb.yaml")
        })
    }

    /// Downloads the sources of a module; returns their directory.
    fn module(&self, module: &str) -> Result<PathBuf> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Downloaded {
            dir: PathBuf,
        }
        let output = crate::process::run(self.go().args(["mod", "download", "-json", module]))?;
        let module: Downloaded =
            serde_json::from_slice(&output).context("reading what `go mod download` says")?;
        Ok(module.dir)
    }
}

/// The standard channel, with what [`EXPERIMENTAL`] names in its experimental form.
fn gateway_api_manifest(definitions: &Path) -> Result<String> {
    let standard = definitions.join("standard");
    let listed =
        fs::read_dir(&standard).with_context(|| format!("listing {}", standard.display()))?;
    let names = listed
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.chain(EXPERIMENTAL.map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    let mut manifest = String::new();
    for name in names.iter().filter(|name| name.ends_with(".yaml")) {
        let channel = match EXPERIMENTAL.contains(&name.as_str()) {
            true => "experimental",
            false => "standard",
        };
        let file = definitions.join(channel).join(name);
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        if text.contains("kind: CustomResourceDefinition") {
            manifest.push_str("---\n");
            manifest.push_str(&text);
        }
    }
    ensure!(
        !manifest.is_empty(),
        "no resource definition in {}",
        standard.display()
    );
    Ok(manifest)
}

/// A symbolic link, also if an interrupted build made it already.
fn link(target: &str, path: &Path) -> Result<()> {
    match symlink(target, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("linking {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Runs Go and shows how many packages it has listed, fetched or compiled; returns how many it listed.
fn count(mut go: Command, of: Option<usize>, progress: &mut Progress) -> Result<usize> {
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    let errors = writer.try_clone().context("making a pipe")?;
    let mut child = go
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .spawn()
        .context("starting go")?;
    drop(go); // It holds the writing ends, and the pipe would never end.
    let (mut packages, mut modules, mut other) = (0, 0, Vec::new());
    for line in BufReader::new(reader).lines() {
        let line = line.context("reading what go says")?;
        if line.starts_with("go: downloading ") {
            modules += 1;
        } else if line.contains(' ') || line.starts_with('#') {
            other.push(line);
        } else {
            packages += 1;
        }
        let total = of.map(|of| format!(" of at most {of}")).unwrap_or_default();
        progress.report(&match (packages, modules) {
            (0, fetched) => format!("{fetched} modules fetched"),
            (done, _) => format!("{done}{total} packages"),
        });
        if interrupt::interrupted() {
            let _ = child.kill();
        }
    }
    let status = child.wait().context("waiting for go")?;
    interrupt::check()?;
    if !status.success() {
        let last: Vec<_> = other
            .iter()
            .rev()
            .take(limits::LOG_TAIL_LINES)
            .rev()
            .cloned()
            .collect();
        bail!("go failed ({status}):\n{}", last.join("\n"));
    }
    Ok(packages)
}

#[cfg(test)]
mod tests;
