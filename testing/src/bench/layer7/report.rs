//! Medians, and ratios to Envoy.

use std::fmt;
use std::io::{self, Write};

use super::{CONNECTIONS, Findings, IN_TUNNEL, Memory, Sample, Workload};
use crate::bench::report::median;

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear => write!(f, "HTTP/1.1, {CONNECTIONS} connections"),
            Self::ClearHalf => write!(f, "HTTP/1.1, half load"),
            Self::Tunnel => write!(f, "HBONE, {IN_TUNNEL} in one tunnel"),
            Self::TunnelHalf => write!(f, "HBONE, half load"),
            Self::TunnelTwo => write!(f, "HBONE, one tunnel, 2 workers"),
        }
    }
}

/// Prints a table: per workload and proxy the medians, and the ratios of ours to Envoy's.
///
/// # Errors
/// When it cannot be written.
pub fn print(found: &Findings, out: &mut impl Write) -> io::Result<()> {
    if let Some(why) = &found.skipped {
        writeln!(out, "skipped: the comparison of layer 7, {why}")?;
    }
    writeln!(
        out,
        "{:<32} {:<6} {:>10} {:>8} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "REQUESTS",
        "PROXY",
        "RATE",
        "P50 US",
        "P99 US",
        "CPU US",
        "PER CORE",
        "P99/ENVOY",
        "CPU/ENVOY"
    )?;
    for workload in Workload::ALL {
        let of = |proxy: &str, value: fn(&Sample) -> f64| {
            let samples = found.samples.iter();
            let chosen = samples.filter(|s| s.workload == workload && s.proxy == proxy);
            median(chosen.map(value).collect())
        };
        for proxy in ["tulle", "envoy"] {
            let cpu = of(proxy, |s| s.cpu_us);
            if cpu.is_nan() {
                continue;
            }
            let p99 = of(proxy, |s| s.p99_us);
            writeln!(
                out,
                "{:<32} {:<6} {:>10} {:>8.0} {:>8.0} {:>10.1} {:>10.0} {:>10} {:>10}",
                workload.to_string(),
                proxy,
                format!("{:.0} /s", of(proxy, |s| s.rate)),
                of(proxy, |s| s.p50_us),
                p99,
                cpu,
                1e6 / cpu,
                ratio(p99, of("envoy", |s| s.p99_us)),
                ratio(cpu, of("envoy", |s| s.cpu_us)),
            )?;
        }
    }
    if found.memory.is_empty() {
        return Ok(());
    }
    memory(&found.memory, out)
}

fn memory(all: &[Memory], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nMemory before any load (PSS)")?;
    for memory in all {
        let same = |m: &&Memory| m.what == memory.what && m.proxy == "envoy";
        let envoy = all.iter().find(same).map_or(f64::NAN, |m| m.mib);
        writeln!(
            out,
            "  {:<40} {:<6} {:>8.1} MiB {:>6}",
            memory.what,
            memory.proxy,
            memory.mib,
            ratio(memory.mib, envoy)
        )?;
    }
    Ok(())
}

fn ratio(value: f64, envoy: f64) -> String {
    if envoy.is_nan() {
        return "-".to_owned();
    }
    format!("{:.2}", value / envoy)
}
