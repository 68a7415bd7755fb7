//! Whether a request is tried again.

use std::sync::LazyLock;
use std::time::Duration;

use crate::limits::RETRIES;
use crate::resource::{Retry, RetryOn};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection to the endpoint.
    Connect,
    /// The peer surely did nothing (REFUSED_STREAM, or GOAWAY below our stream).
    Refused,
    /// The connection ended before the request was sent whole.
    ResetBeforeRequest,
    /// The connection ended before the answer's head.
    Reset,
    /// The attempt took too long.
    Timeout,
    /// An answer with this status.
    Status(u16),
    /// An answer with this gRPC code, seen in its head (trailers-only).
    Grpc(u32),
}

/// What is known when an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// How it ended.
    pub failure: Failure,
    /// Attempts so far, this one included: 1 after the first.
    pub attempts: u32,
    /// The request can be sent again from its first byte.
    pub replayable: bool,
    /// Any number, for the jitter.
    pub dice: u64,
}

/// Try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// After this pause.
    pub pause: Duration,
    /// Not on an endpoint that was tried.
    pub avoid_tried: bool,
}

/// Where no route says otherwise, as Istio's two sidecars do it together: two more attempts, on other endpoints, when the first
/// surely had no effect, or gRPC says that it may be repeated. 503 is not in it: it does not say that nothing was done.
pub fn default_retry() -> &'static Retry {
    static DEFAULT: LazyLock<Retry> = LazyLock::new(|| Retry {
        attempts: 2,
        on: RetryOn {
            connect_failure: true,
            refused_stream: true,
            reset_before_request: true,
            grpc: vec![GRPC_CANCELLED, GRPC_UNAVAILABLE],
            ..RetryOn::default()
        },
        per_try: None,
        backoff: None,
        avoid_tried: true,
    });
    &DEFAULT
}

const GRPC_CANCELLED: u32 = 1;
const GRPC_UNAVAILABLE: u32 = 14;

/// Pause before the first retry, if the route does not say; doubles each time up to ten times as much (Envoy's figures).
const PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: u32 = 10;

/// Whether to try again, and after which pause. Budgets and circuit breakers are asked after this.
pub fn retry(policy: &Retry, attempted: Attempted) -> Option<Again> {
    let left = attempted.attempts <= policy.attempts.min(RETRIES);
    let again = left && attempted.replayable && policy.on.covers(attempted.failure);
    again.then(|| Again {
        pause: pause(policy, attempted.attempts, attempted.dice),
        avoid_tried: policy.avoid_tried,
    })
}

impl RetryOn {
    /// Whether a failure of this kind is worth another attempt.
    pub fn covers(&self, failure: Failure) -> bool {
        // As Envoy: `5xx` and `gateway-error` include that there was no answer at all.
        let unanswered = self.server_errors || self.gateway_errors;
        match failure {
            Failure::Connect => self.connect_failure || self.reset || unanswered,
            Failure::Refused => self.refused_stream || self.reset || unanswered,
            Failure::ResetBeforeRequest => self.reset_before_request || self.reset || unanswered,
            Failure::Reset => self.reset || unanswered,
            Failure::Timeout => self.timeout || self.reset || unanswered,
            Failure::Status(status) => {
                (self.server_errors && (500..600).contains(&status))
                    || (self.gateway_errors && matches!(status, 502..=504))
                    || (self.conflict && status == 409)
                    || self.statuses.contains(&status)
            }
            Failure::Grpc(code) => self.grpc.contains(&code),
        }
    }
}

/// Somewhere between nothing and the doubled pause, so that clients that failed together do not return together.
fn pause(policy: &Retry, attempts: u32, dice: u64) -> Duration {
    let base = policy.backoff.unwrap_or(PAUSE);
    let factor = 1u32
        .checked_shl(attempts)
        .unwrap_or(LONGEST_PAUSE)
        .min(LONGEST_PAUSE);
    let most = base.saturating_mul(factor);
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(dice % nanos.max(1))
}
