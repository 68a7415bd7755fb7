//! Medians and ratios.

use std::io::{self, Write};

use super::measure::{Sample, Workload};

/// Prints a table: per workload and path the medians, and the ratio to the plain relay.
pub fn print(samples: &[Sample], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<36} {:<7} {:>12} {:>9} {:>9} {:>14} {:>11} {:>11}",
        "WORKLOAD", "PATH", "RATE", "P50 US", "P99 US", "CPU PER UNIT", "RATE/RELAY", "CPU/RELAY"
    )?;
    let measured = |one: &Workload| samples.iter().any(|sample| sample.workload == *one);
    for workload in Workload::ALL.into_iter().filter(measured) {
        let of = |path: &str, value: fn(&Sample) -> f64| {
            let chosen = samples
                .iter()
                .filter(|s| s.workload == workload && s.path == path);
            median(chosen.map(value).collect())
        };
        for path in ["direct", "relay", "tulle"] {
            let (rate, cpu) = (of(path, |s| s.rate), of(path, |s| s.cpu_per_unit));
            let (relay_rate, relay_cpu) =
                (of("relay", |s| s.rate), of("relay", |s| s.cpu_per_unit));
            let (shown, unit) = if workload.is_bulk() {
                (format!("{:.2} Gb/s", rate * 8.0 / 1e9), "ns/B")
            } else {
                (format!("{rate:.0} /s"), "us")
            };
            writeln!(
                out,
                "{:<36} {:<7} {:>12} {:>9.0} {:>9.0} {:>14} {:>11.2} {:>11.2}",
                workload.to_string(),
                path,
                shown,
                of(path, |s| s.p50_us),
                of(path, |s| s.p99_us),
                format!("{cpu:.2} {unit}"),
                rate / relay_rate,
                cpu / relay_cpu
            )?;
        }
    }
    Ok(())
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
