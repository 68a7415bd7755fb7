//! The real kubectl, as a user would type it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Time between two looks at something that is awaited.
const POLL: Duration = Duration::from_millis(100);

/// kubectl with a KUBECONFIG, and other programs with the same environment.
#[derive(Debug, Clone)]
pub struct Kubectl {
    /// Path of the kubeconfig.
    pub kubeconfig: PathBuf,
    /// Directories put before PATH.
    pub path: String,
}

/// What a command inside a pod said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code of the command.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Kubectl {
    /// Any program, with KUBECONFIG and PATH set.
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PATH", &self.path)
            .stdin(Stdio::null());
        command
    }

    /// `kubectl ARGS`; the words are split at spaces. Fails when kubectl does.
    pub fn run(&self, args: &str) -> anyhow::Result<String> {
        self.run_args(&args.split_whitespace().collect::<Vec<_>>())
    }

    /// `kubectl ARGS...`, unsplit.
    pub fn run_args(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.output(args)?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `kubectl ARGS -o json`.
    pub fn json(&self, args: &str) -> anyhow::Result<Value> {
        let text = self.run(&format!("{args} -o json"))?;
        serde_json::from_str(&text).with_context(|| format!("JSON of kubectl {args}"))
    }

    /// `kubectl exec TARGET -- COMMAND...`, whatever its exit code.
    pub fn exec(&self, target: &str, command: &[&str]) -> anyhow::Result<Said> {
        let mut args = vec!["exec"];
        args.extend(target.split_whitespace());
        args.push("--");
        args.extend(command);
        let output = self.output(&args)?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        self.with_manifest(&["apply", "-f", "-"], manifest)
    }

    /// `kubectl delete -f -`; what is gone already is no error.
    pub fn delete(&self, manifest: &str) -> anyhow::Result<()> {
        let args = ["delete", "-f", "-", "--ignore-not-found", "--wait=false"];
        self.with_manifest(&args, manifest)
    }

    fn with_manifest(&self, args: &[&str], manifest: &str) -> anyhow::Result<()> {
        let mut child = self
            .program("kubectl")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(manifest.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    fn output(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.program("kubectl")
            .args(args)
            .output()
            .context("starting kubectl")
    }

    /// curl from a pod; the exit code is curl's.
    pub fn curl(&self, from: &str, args: &[&str]) -> anyhow::Result<Said> {
        let mut command = vec!["curl", "-s", "--max-time", "10"];
        command.extend(args);
        self.exec(from, &command)
    }

    /// The HTTP status that a pod gets, as text, or `exit N`.
    pub fn status_of(&self, from: &str, url: &str) -> anyhow::Result<String> {
        let said = self.curl(from, &["-o", "/dev/null", "-w", "%{http_code}", url])?;
        Ok(if said.code == 0 {
            said.out
        } else {
            format!("exit {}", said.code)
        })
    }
}

/// Looks until it holds; after the deadline, fails with the last reason.
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > end => {
                bail!("{what}: not within {} s: {error:#}", deadline.as_secs())
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Like [`eventually`], for a value that must become equal.
pub fn becomes<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &T,
    deadline: Duration,
    mut look: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    eventually(what, deadline, || {
        let seen = look()?;
        ensure!(seen == *expected, "expected {expected:?}, saw {seen:?}");
        Ok(())
    })
}
