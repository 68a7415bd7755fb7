//! How many worker threads.

use super::{Vars, invalid, parse};
use crate::error::Error;

/// Fewer than this many are taken only when a CPU limit says so.
const DEFAULT_WORKERS: usize = 2;

/// `ZTUNNEL_WORKER_THREADS` as a number, `N%` of the CPUs, or 0 for all; else by the pod's CPU limit, else the largest of
/// a quarter of the CPUs, the pod's CPU request and 2.
pub(super) fn workers(vars: &Vars) -> Result<usize, Error> {
    const NAME: &str = "ZTUNNEL_WORKER_THREADS";
    let Some(value) = vars.get(NAME).filter(|v| !v.is_empty()) else {
        return by_default(vars);
    };
    if let Some(percent) = value.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|e| invalid(NAME, value, e))?;
        if !(percent > 0.0 && percent <= 100.0) {
            return Err(invalid(
                NAME,
                value,
                "a percentage is above 0 and at most 100",
            ));
        }
        return Ok(ceiling(cpus(vars)? as f64 * percent / 100.0));
    }
    match value.parse().map_err(|e| invalid(NAME, value, e))? {
        0 => cpus(vars),
        count => Ok(count),
    }
}

fn by_default(vars: &Vars) -> Result<usize, Error> {
    let request = quantity(vars, "ZTUNNEL_RESOURCE_CPU_REQUEST")?.unwrap_or(0);
    if let Some(limit) = quantity(vars, "ZTUNNEL_RESOURCE_CPU_LIMIT")? {
        return Ok(limit.max(request));
    }
    let quarter = cpus(vars)?.div_ceil(4);
    Ok(quarter.max(request).max(DEFAULT_WORKERS))
}

/// The CPUs that this process may count on.
fn cpus(vars: &Vars) -> Result<usize, Error> {
    if let Some(limit) = quantity(vars, "ZTUNNEL_RESOURCE_CPU_LIMIT")? {
        return Ok(limit);
    }
    let told: Option<usize> = parse(vars, "ZTUNNEL_CPU_LIMIT")?;
    let found = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(told.filter(|n| *n > 0).unwrap_or_else(found))
}

/// A Kubernetes CPU quantity (`2`, `1.5`, `500m`) in whole CPUs, rounded up.
fn quantity(vars: &Vars, name: &'static str) -> Result<Option<usize>, Error> {
    let Some(value) = vars.get(name).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let (number, unit) = match value.strip_suffix('m') {
        Some(milli) => (milli, 1000.0),
        None => (value.as_str(), 1.0),
    };
    let cpus = number.parse::<f64>().map_err(|e| invalid(name, value, e))? / unit;
    if cpus.is_finite() && cpus > 0.0 {
        Ok(Some(ceiling(cpus)))
    } else {
        Err(invalid(name, value, "a CPU quantity is above 0"))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and small: a number of CPUs"
)]
fn ceiling(cpus: f64) -> usize {
    (cpus.ceil() as usize).max(1)
}
