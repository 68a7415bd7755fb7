//! `sample <role> [--port N]`: one part of Istio's samples.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tulle_samples::app::{App, Environment, Settings as _};
use tulle_samples::{Role, Server, echo_tls, listen};

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
        let (stopping, stopped) = watch::channel(false);
        let secured = match role {
            Role::Echo => further(&app, &stopped).await?,
            // The same decisions, asked by gRPC.
            Role::ExtAuthz => {
                let listener = listen(self::port("GRPC_PORT", 9000)?).await?;
                Some(beside(Server::new(app.clone(), listener), &stopped))
            }
            _ => None,
        };
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            stopping.send_replace(true);
        };
        Server::new(app, listener).run(stop).await;
        if let Some(secured) = secured {
            secured.await?;
        }
        Ok(())
    })
}

/// What the echo listens on besides: bytes, and TLS if it has a certificate.
async fn further(
    app: &App,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    let bytes = listen(port("TCP_PORT", 9000)?).await?;
    let echo = app.clone();
    tokio::spawn(async move { echo.bytes(bytes).await });
    let directory = Environment.get("TLS_DIRECTORY");
    let directory = directory.unwrap_or_else(|| "/etc/echo/tls".to_owned());
    let Some(tls) = echo_tls(&directory)? else {
        eprintln!("sample: no TLS: there is no tls.crt with a tls.key in {directory}");
        return Ok(None);
    };
    let listener = listen(port("TLS_PORT", 8443)?).await?;
    let server = Server::secured(app.clone(), listener, tls);
    Ok(Some(beside(server, stopped)))
}

/// Serves until everything stops.
fn beside(server: Server, stopped: &watch::Receiver<bool>) -> JoinHandle<()> {
    let mut stopped = stopped.clone();
    tokio::spawn(async move {
        let stop = async {
            // An error is a main loop that ended already.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        server.run(stop).await;
    })
}

fn port(name: &str, default: u16) -> anyhow::Result<u16> {
    let Some(text) = Environment.get(name) else {
        return Ok(default);
    };
    text.parse()
        .with_context(|| format!("{name}={text:?} is no port"))
}
