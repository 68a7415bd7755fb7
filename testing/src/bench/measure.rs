//! One measurement: a client in a pod's network, and the proxies' CPU time meanwhile.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::load::Outcome;
use crate::processes;

/// What the client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// 64 bytes there and back on one connection.
    Rr1,
    /// The same on sixteen.
    Rr16,
    /// Connect, request, close; one at a time.
    Crr1,
    /// The same, eight at a time.
    Crr8,
    /// Bulk, one flow.
    Bulk1,
    /// Bulk, four flows.
    Bulk4,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Rr1,
        Self::Rr16,
        Self::Crr1,
        Self::Crr8,
        Self::Bulk1,
        Self::Bulk4,
    ];

    fn arguments(self) -> [&'static str; 3] {
        match self {
            Self::Rr1 => ["rr", "--connections", "1"],
            Self::Rr16 => ["rr", "--connections", "16"],
            Self::Crr1 => ["crr", "--connections", "1"],
            Self::Crr8 => ["crr", "--connections", "8"],
            Self::Bulk1 => ["bulk", "--connections", "1"],
            Self::Bulk4 => ["bulk", "--connections", "4"],
        }
    }

    /// Counted in bytes, not in requests.
    pub fn is_bulk(self) -> bool {
        matches!(self, Self::Bulk1 | Self::Bulk4)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rr1 => "request/response, 1 connection",
            Self::Rr16 => "request/response, 16 connections",
            Self::Crr1 => "connect+request+close, 1 at a time",
            Self::Crr8 => "connect+request+close, 8 at a time",
            Self::Bulk1 => "bulk, 1 flow",
            Self::Bulk4 => "bulk, 4 flows",
        })
    }
}

/// A way from client to server, and the processes that carry it.
pub struct Way {
    /// `direct`, `relay` or `tulle`.
    pub name: &'static str,
    /// A process in the client's network.
    pub from: i32,
    /// host:port.
    pub to: String,
    /// Whose CPU time counts.
    pub proxies: Vec<i32>,
}

/// One figure of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Which path.
    pub path: &'static str,
    /// Which workload.
    pub workload: Workload,
    /// Requests or connections per second; bytes per second for bulk.
    pub rate: f64,
    /// Median latency, microseconds; 0 for bulk.
    pub p50_us: f64,
    /// 99th percentile, microseconds; 0 for bulk.
    pub p99_us: f64,
    /// CPU time of all proxies per request or connection, microseconds; per byte, nanoseconds, for bulk.
    pub cpu_per_unit: f64,
}

impl Way {
    /// Runs the client for some seconds.
    pub fn measure(&self, load: &Path, workload: Workload, seconds: f64) -> Result<Sample> {
        let before = self.cpu()?;
        let output = processes::in_network_of(self.from)
            .arg(load)
            .args(workload.arguments())
            .args(["--to", &self.to, "--seconds", &seconds.to_string()])
            .output()?;
        let cpu = self.cpu()?.saturating_sub(before).as_secs_f64();
        ensure!(
            output.status.success(),
            "{} over {}: {}",
            workload,
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        let outcome: Outcome =
            serde_json::from_slice(&output.stdout).context("the client's outcome")?;
        let (units, scale) = if workload.is_bulk() {
            (outcome.bytes, 1e9)
        } else {
            (outcome.ok, 1e6)
        };
        ensure!(
            units > 0,
            "{workload} over {}: nothing went through",
            self.name
        );
        Ok(Sample {
            path: self.name,
            workload,
            rate: units as f64 / outcome.seconds,
            p50_us: outcome.p50_us,
            p99_us: outcome.p99_us,
            cpu_per_unit: cpu * scale / units as f64,
        })
    }

    fn cpu(&self) -> Result<Duration> {
        self.proxies
            .iter()
            .map(|pid| processes::cpu_time(*pid))
            .sum()
    }
}
