//! How long a request may take.

use std::time::Duration;

use crate::resource::{Retry, Timeouts};

/// Limits of one request. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// All attempts together.
    pub request: Option<Duration>,
    /// Each attempt.
    pub attempt: Option<Duration>,
}

/// The rule's limits, and the client's own (`grpc-timeout`), which counts where it is shorter.
pub fn deadlines(
    timeouts: &Timeouts,
    retry: Option<&Retry>,
    grpc_timeout: Option<Duration>,
) -> Deadlines {
    let limit = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
    let request = shorter(limit(timeouts.request), grpc_timeout);
    let attempt = limit(retry.and_then(|retry| retry.per_try)).or(limit(timeouts.backend));
    Deadlines {
        request,
        // Longer than the whole request is no limit of its own.
        attempt: attempt.filter(|attempt| request.is_none_or(|request| *attempt < request)),
    }
}

fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Value of a `grpc-timeout` header: at most eight digits and a unit. `None` when it is not one; then it does not count.
pub fn grpc_timeout(value: &str) -> Option<Duration> {
    let unit = value.chars().next_back()?;
    let digits = value.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}
