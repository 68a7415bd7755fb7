//! `retries` of HTTP routes, in Envoy's words.

use tulle_api::networking::HttpRetry;
use tulle_route::resource::{Retry, RetryOn};

use crate::networking::findings::{Findings, shown};
use crate::networking::names::duration;

/// What Istio retries on when the user does not say.
pub(super) const DEFAULT_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,reset-before-request";

/// gRPC's status codes, by number.
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A code by its name or number.
pub(super) fn grpc_code(text: &str) -> Option<u32> {
    let position = GRPC_CODES
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    match position {
        Some(code) => u32::try_from(code).ok(),
        None => text.parse().ok().filter(|code| *code <= 16),
    }
}

/// What a user asks for.
pub(super) fn retry(retries: &HttpRetry, path: &str, findings: &mut Findings) -> Option<Retry> {
    let mut span = |field: &str, text: &Option<String>| {
        let text = text.as_deref()?;
        let span = duration(text);
        if span.is_none() {
            findings.invalid(
                format!("{path}.{field}"),
                format!("{:?} is no time span such as 1.5s", shown(text)),
            );
        }
        span.filter(|span| !span.is_zero())
    };
    let per_try = span("perTryTimeout", &retries.per_try_timeout);
    let backoff = span("backoff", &retries.backoff);
    let text = retries
        .retry_on
        .as_deref()
        .filter(|text| !text.trim().is_empty());
    let on = retry_on(text.unwrap_or(DEFAULT_ON), path, findings);
    Some(Retry {
        attempts: u32::try_from(retries.attempts.unwrap_or_default()).unwrap_or_default(),
        on,
        per_try,
        backoff,
        avoid_tried: retries.retry_ignore_previous_hosts.unwrap_or(true),
    })
}

fn retry_on(text: &str, path: &str, findings: &mut Findings) -> RetryOn {
    let mut on = RetryOn::default();
    for word in text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        match word {
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "5xx" => on.server_errors = true,
            "gateway-error" => on.gateway_errors = true,
            "retriable-4xx" => on.conflict = true,
            "cancelled" => on.grpc.push(1),
            "deadline-exceeded" => on.grpc.push(4),
            "resource-exhausted" => on.grpc.push(8),
            "internal" => on.grpc.push(13),
            "unavailable" => on.grpc.push(14),
            // Istio adds the listed statuses itself.
            "retriable-status-codes" => {}
            other => match other.parse::<u16>() {
                Ok(status) if (100..600).contains(&status) => on.statuses.push(status),
                _ => findings.unsupported(
                    format!("{path}.retryOn"),
                    format!("{:?} has no effect", shown(other)),
                ),
            },
        }
    }
    // An attempt that took too long counts as 5xx does.
    on.timeout = on.server_errors || on.gateway_errors;
    on
}
