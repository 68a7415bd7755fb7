//! The proxies that are compared: each a process in a namespace of its own.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tulle_policy::settings::ProxySettings;
use tulle_proto::{GATEWAY_TYPE, HTTP_ROUTE_TYPE, PROXY_SETTINGS_TYPE};

use super::control::{self, Control};
use super::envoy;
use super::mesh::{GATEWAY, Kind, Mesh};
use super::world::{Place, World};
use crate::processes;

/// How long a proxy may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker<'a> {
    /// The program `tulle`.
    Tulle(&'a Path),
    /// The program `envoy`.
    Envoy(&'a Path),
}

/// What is started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) maker: Maker<'a>,
    pub(super) kind: Kind,
    pub(super) workers: usize,
    pub(super) routes: usize,
}

/// A proxy that runs until this is dropped.
pub(super) struct Proxy {
    pub(super) place: Place,
    child: Child,
    log: PathBuf,
    _control: Option<Control>,
    _directory: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have died by itself; then a measurement failed and said so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    /// Starts a proxy between `client` and `application`.
    pub(super) fn start(
        world: &mut World,
        wanted: &Wanted<'_>,
        client: IpAddr,
        application: IpAddr,
    ) -> Result<Self> {
        let place = world.place()?;
        let directory = tempfile::tempdir()?;
        let (mut command, control) = match wanted.maker {
            Maker::Tulle(program) => {
                let mesh = Mesh::new(wanted.kind, wanted.routes, place.ip, client, application);
                let control = publish(&place, &mesh)?;
                (
                    tulle(program, wanted.workers, directory.path(), place.ip)?,
                    Some(control),
                )
            }
            Maker::Envoy(program) => {
                let config =
                    envoy::configure(directory.path(), wanted.kind, wanted.routes, application)?;
                let path = directory.path().join("envoy.json");
                fs::write(&path, serde_json::to_vec(&config)?)?;
                let mut command = Command::new(program);
                command.args([
                    "--disable-hot-restart",
                    "--log-level",
                    "warn",
                    "--concurrency",
                ]);
                command.arg(wanted.workers.to_string()).arg("-c").arg(path);
                (command, None)
            }
        };
        let log = directory.path().join("log");
        let file = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = place.netns.enter(|| command.spawn())?;
        Ok(Self {
            place,
            child: child.with_context(|| format!("starting {:?}", wanted.maker))?,
            log,
            _control: control,
            _directory: directory,
        })
    }

    /// Tries until it works.
    pub(super) fn until<T>(&mut self, mut attempt: impl FnMut(&Place) -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let failed = match attempt(&self.place) {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("the proxy does not serve ({failed:#}); it said:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// User and system time so far.
    pub(super) fn cpu(&self) -> Result<Duration> {
        processes::cpu_time(self.child.id().cast_signed())
    }

    /// Proportional set size, MiB.
    pub(super) fn memory(&self) -> Result<f64> {
        let bytes = processes::memory(self.child.id().cast_signed())?;
        Ok(bytes as f64 / f64::from(1 << 20))
    }
}

fn publish(place: &Place, mesh: &Mesh) -> Result<Control> {
    let control = Control::start(&place.netns)?;
    control.addresses(&mesh.services, &mesh.workloads);
    let settings = ProxySettings::default();
    control.put(PROXY_SETTINGS_TYPE, [("mesh".to_owned(), &settings)])?;
    control.put(GATEWAY_TYPE, [(GATEWAY.to_owned(), &mesh.gateway)])?;
    let routes = mesh.routes.iter().map(|r| (r.object.to_string(), r));
    control.put(HTTP_ROUTE_TYPE, routes)?;
    Ok(control)
}

fn tulle(program: &Path, workers: usize, directory: &Path, ip: IpAddr) -> Result<Command> {
    let token = directory.join("token");
    fs::write(&token, "bench")?;
    let control = format!("http://127.0.0.1:{}", control::PORT);
    let mut command = Command::new(program);
    command
        .args(["run", "waypoint"])
        .env_clear()
        .env("XDS_ADDRESS", &control)
        .env("CA_ADDR", &control)
        .env("AUTH_TOKEN", token)
        .env("PROXY_CONCURRENCY", workers.to_string())
        .env("POD_NAME", "proxy")
        .env("POD_NAMESPACE", "bench")
        .env("SERVICE_ACCOUNT", "proxy")
        .env("INSTANCE_IP", ip.to_string());
    Ok(command)
}
