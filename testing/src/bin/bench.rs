//! `bench`: two ztunnels against a plain relay and the direct path. This is `make bench`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use tulle_playground::{Progress, interrupt};
use tulle_testing::bench::{Options, print, run};
use tulle_testing::stage::Programs;

/// Two ztunnels against a plain two-hop relay and the direct path, in one alternating run
#[derive(Parser)]
#[command(name = "bench", version)]
struct Cli {
    /// The program `tulle`; `sample` and `load` lie beside it
    #[arg(long)]
    tulle: PathBuf,
    /// The CNI plugin, linked statically
    #[arg(long)]
    cni_plugin: PathBuf,
    /// Rounds of direct, relay, mesh, mesh, relay, direct
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Print every sample as JSON instead of the table
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    interrupt::watch()?;
    let tulle = std::path::absolute(&cli.tulle)?;
    let bin = tulle.parent().context("tulle has no directory")?.to_owned();
    let programs = Programs {
        sample: bin.join("sample"),
        cni: std::path::absolute(&cli.cni_plugin)?,
        tulle,
    };
    let options = Options {
        programs,
        load: bin.join("load"),
        rounds: cli.rounds,
        seconds: cli.seconds,
    };
    let findings = run(&options, &mut Progress::stderr())?;
    let mut out = std::io::stdout().lock();
    if cli.json {
        serde_json::to_writer_pretty(&mut out, &findings)?;
    } else {
        print(&findings.samples, &mut out)?;
        findings.operations.print(&mut out)?;
    }
    Ok(())
}
