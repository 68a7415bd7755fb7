//! The one program: installs, removes, shows and is the mesh.

mod cli;
mod exit;
mod http;
mod install;
mod limits;
mod output;
mod progress;
mod run;
mod status;
mod table;
mod uninstall;
mod values;
mod version;
mod waypoint;
mod ztunnel_config;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tulle_cluster::Client;

use crate::cli::{Cli, Command, Global, ManifestCommand};
use crate::output::Terminal;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failures; everything else is a mistake of the caller.
            let _ = error.print();
            return if error.use_stderr() {
                exit::USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // The parts of the mesh bring their own runtimes, and must not pay for anything of the rest.
    if let Command::Run(part) = cli.command {
        return run::run(&part);
    }
    let terminal = Terminal::detect();
    match block_on(command(cli, &terminal)) {
        Ok(code) => code,
        Err(error) => exit::report(&error, &terminal),
    }
}

/// Runs a command to its end or to Ctrl-C.
fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => Err(exit::Interrupted.into()),
        }
    })
}

async fn command(cli: Cli, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Install(arguments) => install::install(global, &arguments, terminal).await?,
        Command::Uninstall(arguments) => {
            uninstall::uninstall(global, &arguments, terminal).await?;
        }
        Command::Version(arguments) => version::version(global, &arguments, terminal).await?,
        Command::Status(arguments) => return status::status(global, &arguments, terminal).await,
        Command::ZtunnelConfig(arguments) => {
            ztunnel_config::ztunnel_config(global, &arguments.command, terminal).await?;
        }
        Command::Waypoint(arguments) => {
            return waypoint::waypoint(global, &arguments, terminal).await;
        }
        Command::Manifest(ManifestCommand::Generate(arguments)) => {
            install::generate(&arguments, terminal)?;
        }
        Command::Manifest(ManifestCommand::Values(arguments)) => {
            install::show_values(&arguments, terminal)?;
        }
        // Handled before the runtime was started.
        Command::Run(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// A client for the cluster that the user means.
async fn connect(global: &Global) -> tulle_cluster::Result<Client> {
    let connect = tulle_cluster::Connect {
        kubeconfig: global.kubeconfig.clone(),
        context: global.context.clone(),
    };
    tulle_cluster::connect(&connect).await
}
