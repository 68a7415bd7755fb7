//! The generic cell rate algorithm: one number per key, the time at which all that was used is paid for.

use std::time::Duration;

use crate::resource::Rate;

/// A rate and what may come at once. Times are nanoseconds of the caller's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    /// One request costs so long; `None` when there is never room for any.
    cost: Option<u64>,
    burst: u64,
}

/// What is left after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// At once.
    pub limit: u64,
    /// Requests that would pass now.
    pub remaining: u64,
    /// Until there is room for all of [`Room::limit`] again.
    pub reset: Duration,
}

impl Gcra {
    /// Without a burst, as many at once as in the rate's whole time.
    pub fn new(rate: Rate, burst: Option<u32>) -> Self {
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        Self {
            cost: per
                .checked_div(u64::from(rate.requests))
                .map(|cost| cost.max(1)),
            burst: u64::from(burst.unwrap_or(rate.requests)).max(1),
        }
    }

    /// What may come at once.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// One request at `now` with everything before paid for at `paid`: the new `paid`, or how long until there is room (`None`: never).
    pub fn take(&self, paid: u64, now: u64) -> Result<(u64, Room), Option<Duration>> {
        let cost = self.cost.ok_or(None)?;
        let after = paid.max(now).saturating_add(cost);
        let debt = after - now;
        let most = cost.saturating_mul(self.burst);
        if debt > most {
            return Err(Some(Duration::from_nanos(debt - most)));
        }
        let room = Room {
            limit: self.burst,
            remaining: (most - debt) / cost,
            reset: Duration::from_nanos(debt),
        };
        Ok((after, room))
    }

    /// As if so many requests more had been made; at most until the next ones have to wait for the whole burst twice.
    pub(super) fn charge(&self, paid: u64, now: u64, requests: u32) -> u64 {
        let cost = self.cost.unwrap_or_default();
        let after = paid
            .max(now)
            .saturating_add(cost.saturating_mul(u64::from(requests)));
        let most = cost.saturating_mul(self.burst).saturating_mul(2);
        after.min(now.saturating_add(most))
    }

    /// As if one request less had been made.
    pub(super) fn give_back(&self, paid: u64) -> u64 {
        paid.saturating_sub(self.cost.unwrap_or_default())
    }
}
