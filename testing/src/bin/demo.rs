//! `demo up`: a playground with the mesh and the samples on it, and what to try next. This is `make up`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use tulle_playground::{Progress, interrupt};
use tulle_testing::stage::{Programs, Stage};

/// A real Kubernetes on this machine with the mesh and Istio's samples on it
#[derive(Parser)]
#[command(name = "demo", version)]
struct Cli {
    /// Name of the playground
    #[arg(long, default_value = "tulle")]
    name: String,
    /// The program `tulle`; the samples' program lies beside it
    #[arg(long)]
    tulle: PathBuf,
    /// The CNI plugin, linked statically
    #[arg(long)]
    cni_plugin: PathBuf,
}

fn main() -> ExitCode {
    match up(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // One line, also where backtraces are switched on.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up(cli: &Cli) -> anyhow::Result<()> {
    interrupt::watch()?;
    let started = Instant::now();
    let tulle = std::path::absolute(&cli.tulle)?;
    let bin = tulle.parent().context("tulle has no directory")?.to_owned();
    let programs = Programs {
        sample: bin.join("sample"),
        cni: std::path::absolute(&cli.cni_plugin)?,
        tulle,
    };
    let mut progress = Progress::stderr();
    let stage = Stage::start(&cli.name, &programs, &[], &mut progress)?;
    let outcome = stage
        .install(&mut progress)
        .and_then(|()| stage.first_call(&mut progress));
    let (kubeconfig, path) = (
        stage.playground.kubeconfig(),
        stage.playground.programs().user_path(),
    );
    // It stays up even when the mesh did not become ready: there is something to look at, and `make down` ends it.
    drop(stage.playground.keep());
    outcome?;
    progress.say(&format!(
        "\nReady in {:.0} s. Paste these two lines:\n",
        started.elapsed().as_secs_f64()
    ));
    progress.say(&format!("  export KUBECONFIG={}", kubeconfig.display()));
    progress.say(&format!(
        "  export PATH={}:{}:$PATH\n",
        path.display(),
        bin.display()
    ));
    progress.say(NEXT);
    Ok(())
}

const NEXT: &str = "Then try (docs/walk.md goes on from here):
  kubectl get pods -A
  kubectl exec deploy/sleep -- curl -s http://productpage:9080/ | head -n1
  kubectl label namespace default istio.io/dataplane-mode=ambient
  tulle ztunnel-config workloads
  kubectl logs -n istio-system -l app=ztunnel --prefix
`make down` removes all of it.";
