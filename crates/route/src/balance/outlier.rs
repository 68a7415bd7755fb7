//! Endpoints that fail are left out for a while.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::State;
use crate::limits::EJECTION_SECONDS;
use crate::resource::OutlierDetection;

/// How a request to an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Status(u16),
    /// There was no answer: no connection, a reset, a timeout.
    LocalFailure,
}

/// Why an endpoint is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// `consecutive5xxErrors`.
    ServerErrors,
    /// `consecutiveGatewayErrors`.
    GatewayErrors,
    /// `consecutiveLocalOriginFailures`.
    LocalFailures,
}

/// An endpoint is left out from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Why.
    pub symptom: Symptom,
    /// For so long.
    pub duration: Duration,
}

/// An [`OutlierDetection`] with Istio's defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detector {
    settings: OutlierDetection,
}

const SERVER_ERRORS: u32 = 5;
const LOCAL_FAILURES: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const EJECTION: Duration = Duration::from_secs(30);
const EJECTION_PERCENT: u32 = 10;

impl Detector {
    /// With these settings.
    pub fn new(settings: OutlierDetection) -> Self {
        Self { settings }
    }

    /// With fewer healthy endpoints than this percentage, ejections do not count.
    pub fn minimum_health(&self) -> u32 {
        self.settings
            .min_health_percent
            .unwrap_or_default()
            .min(100)
    }

    /// Takes note of an outcome; `all` is how many endpoints there are, `ejected` counts those that are left out.
    pub fn report(
        &self,
        state: &State,
        outcome: Outcome,
        now: Duration,
        all: usize,
        ejected: impl FnOnce() -> usize,
    ) -> Option<Ejection> {
        let symptom = self.symptom(state, outcome)?;
        if state.is_ejected(now) || !self.may_eject(all, ejected()) {
            return None;
        }
        let duration = self.eject(state, now);
        Some(Ejection { symptom, duration })
    }

    /// Counts; the first threshold that is reached.
    fn symptom(&self, state: &State, outcome: Outcome) -> Option<Symptom> {
        let settings = &self.settings;
        let split = settings.split_external_local_origin_errors;
        let threshold = |wanted: Option<u32>, default| wanted.unwrap_or(default);
        // Without the split, no answer is as bad as a 503.
        let status = match outcome {
            Outcome::Status(status) => {
                state.local_failures.store(0, Relaxed);
                status
            }
            Outcome::LocalFailure if split => {
                let limit = threshold(settings.consecutive_local_origin_failures, LOCAL_FAILURES);
                return reached(&state.local_failures, limit).then_some(Symptom::LocalFailures);
            }
            Outcome::LocalFailure => 503,
        };
        if !(500..600).contains(&status) {
            state.server_errors.store(0, Relaxed);
            state.gateway_errors.store(0, Relaxed);
            return None;
        }
        let gateway = if matches!(status, 502..=504) {
            let limit = threshold(settings.consecutive_gateway_errors, 0);
            reached(&state.gateway_errors, limit)
        } else {
            state.gateway_errors.store(0, Relaxed);
            false
        };
        let limit = threshold(settings.consecutive_5xx_errors, SERVER_ERRORS);
        let server = reached(&state.server_errors, limit);
        match (gateway, server) {
            (true, _) => Some(Symptom::GatewayErrors),
            (false, true) => Some(Symptom::ServerErrors),
            (false, false) => None,
        }
    }

    /// A percentage that a user gave is kept; Istio's default lets one of several go, however few there are.
    fn may_eject(&self, all: usize, ejected: usize) -> bool {
        let percent = self.settings.max_ejection_percent;
        let after = (ejected as u64 + 1) * 100;
        after <= u64::from(percent.unwrap_or(EJECTION_PERCENT)) * all as u64
            || (percent.is_none() && ejected == 0 && all > 1)
    }

    /// Longer each time; forgiven step by step with every interval without an ejection.
    fn eject(&self, state: &State, now: Duration) -> Duration {
        let interval = self.settings.interval.unwrap_or(INTERVAL);
        let base = self.settings.base_ejection_time.unwrap_or(EJECTION);
        let quiet = now.saturating_sub(Duration::from_nanos(state.ejected_until()));
        let forgiven = quiet.as_nanos() / interval.as_nanos().max(1);
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        let times = state.ejections.load(Relaxed).saturating_sub(forgiven) + 1;
        let longest = base.max(Duration::from_secs(EJECTION_SECONDS));
        let duration = base.saturating_mul(times).min(longest);
        state.ejections.store(times, Relaxed);
        let until = u64::try_from((now + duration).as_nanos()).unwrap_or(u64::MAX);
        state.ejected_until.store(until, Relaxed);
        for counter in [
            &state.server_errors,
            &state.gateway_errors,
            &state.local_failures,
        ] {
            counter.store(0, Relaxed);
        }
        duration
    }
}

/// Counts one more; whether that is the limit. 0 is no limit.
fn reached(counter: &AtomicU32, limit: u32) -> bool {
    let count = counter.fetch_add(1, Relaxed).saturating_add(1);
    limit > 0 && count >= limit
}
