//! `sample <role> [--port N]`: one part of Istio's samples.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tulle_samples::app::{App, Environment, Settings as _};
use tulle_samples::{Role, Server, listen};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // A link with a role's name plays that role.
    let name = std::env::args().next().unwrap_or_default();
    let link = name.rsplit('/').next().unwrap_or_default();
    if link.parse::<Role>().is_ok() {
        arguments.insert(0, link.to_owned());
    }
    let (role, port) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("sample: {error}\nusage: sample <role> [--port N]");
            return ExitCode::from(2);
        }
    };
    match run(role, port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sample: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<(Role, u16), String> {
    let mut words = arguments.iter().map(String::as_str);
    let role: Role = words.next().ok_or("which sample?")?.parse()?;
    let port = match (words.next(), words.next(), words.next()) {
        (None, ..) => std::env::var("PORT").ok(),
        (Some("--port"), Some(port), None) => Some(port.to_owned()),
        (Some(word), ..) => return Err(format!("{word:?} is not understood here")),
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| format!("{port:?} is no port"))?,
        None => role.default_port(),
    };
    Ok((role, port))
}

fn run(role: Role, port: u16) -> anyhow::Result<()> {
    // One thread is plenty for a sample and keeps a pod at a few megabytes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let app = App::new(role, &Environment);
        let listener = listen(port).await?;
        let version = Environment.get("SERVICE_VERSION").unwrap_or_default();
        eprintln!("sample: {} {version} listening on port {port}", role.name());
        let stop = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Server::new(app, listener).run(stop).await;
        Ok(())
    })
}
