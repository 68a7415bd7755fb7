//! The proxy's own questions: addresses of hosts, remembered for a while.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::LookupError;
use crate::forward::{Resolvers, forward};
use crate::limits::{
    ADDRESSES_PER_NAME, FAILURE_REMEMBERED, LOOKUPS_AT_ONCE, REMEMBERED_LEAST, REMEMBERED_MOST,
    REMEMBERED_NAMES, STALE,
};
use crate::message::{self, Family};
use crate::network::{Network, Transport};

type Outcome = Result<Arc<[IpAddr]>, LookupError>;

/// The lookups of one worker. Whoever asks for a name while it is being looked up waits for the same answer.
#[derive(Debug)]
pub struct Lookup<N> {
    resolvers: Resolvers,
    network: N,
    ipv6: bool,
    known: RefCell<HashMap<Arc<str>, Remembered>>,
    under_way: RefCell<HashMap<Arc<str>, watch::Receiver<Option<Outcome>>>>,
}

#[derive(Debug)]
struct Remembered {
    outcome: Outcome,
    until: Instant,
    /// Until then it serves while the resolvers do not answer.
    stale_until: Instant,
}

/// A lookup that is under way is not any more, however it ends.
struct UnderWay<'a, N> {
    lookup: &'a Lookup<N>,
    host: &'a Arc<str>,
}

impl<N> Drop for UnderWay<'_, N> {
    fn drop(&mut self) {
        self.lookup.under_way.borrow_mut().remove(self.host);
    }
}

impl<N: Network> Lookup<N> {
    /// Nothing is known yet. With `ipv6`, IPv6 addresses are asked for too.
    pub fn new(resolvers: Resolvers, network: N, ipv6: bool) -> Self {
        Self {
            resolvers,
            network,
            ipv6,
            known: RefCell::default(),
            under_way: RefCell::default(),
        }
    }

    /// All addresses of a host, of both families, at least one.
    ///
    /// # Errors
    /// When the resolvers know none, or cannot be asked and the last answer is too old.
    pub async fn addresses(&self, host: &Arc<str>) -> Outcome {
        if let Ok(literal) = host.parse::<IpAddr>() {
            return Ok([literal].into());
        }
        loop {
            if let Some(outcome) = self.remembered(host) {
                return outcome;
            }
            let pending = self.under_way.borrow().get(host).cloned();
            let Some(mut pending) = pending else { break };
            if let Ok(outcome) = pending.wait_for(Option::is_some).await
                && let Some(outcome) = outcome.clone()
            {
                return outcome;
            }
            // Whoever asked has left: it is our turn, or somebody else's.
        }
        if self.under_way.borrow().len() >= LOOKUPS_AT_ONCE {
            return Err(LookupError::Full { name: host.clone() });
        }
        let (tell, told) = watch::channel(None);
        self.under_way.borrow_mut().insert(host.clone(), told);
        let under_way = UnderWay { lookup: self, host };
        let outcome = self.ask(host).await;
        let outcome = self.remember(host, outcome);
        drop(under_way);
        // Nobody else may be waiting.
        let _ = tell.send(Some(outcome.clone()));
        outcome
    }

    fn remembered(&self, host: &Arc<str>) -> Option<Outcome> {
        let known = self.known.borrow();
        let entry = known.get(host).filter(|e| e.until > Instant::now())?;
        Some(entry.outcome.clone())
    }

    /// Both families at the same time; one of them is enough.
    async fn ask(&self, host: &Arc<str>) -> Result<(Arc<[IpAddr]>, u32), LookupError> {
        let v6 = async {
            match self.ipv6 {
                true => Some(self.ask_for(host, Family::V6).await),
                false => None,
            }
        };
        let (v4, v6) = tokio::join!(self.ask_for(host, Family::V4), v6);
        let (v4, v6) = match (v4, v6) {
            (Err(error), None | Some(Err(_))) => return Err(error),
            (v4, v6) => (v4.ok(), v6.and_then(Result::ok)),
        };
        let ttl = v4.iter().chain(&v6).map(|(_, ttl)| *ttl).min();
        let both = v4.into_iter().chain(v6).flat_map(|(found, _)| found);
        let all: Vec<IpAddr> = both.take(ADDRESSES_PER_NAME).collect();
        Ok((all.into(), ttl.unwrap_or(0)))
    }

    async fn ask_for(
        &self,
        host: &Arc<str>,
        family: Family,
    ) -> Result<(Vec<IpAddr>, u32), LookupError> {
        let query = message::question(host, family, rand::random())
            .ok_or_else(|| LookupError::Name(host.clone()))?;
        let failed = |error| LookupError::Forward {
            name: host.clone(),
            error,
        };
        let (resolvers, network) = (&self.resolvers, &self.network);
        let mut answer = forward(resolvers, network, &query, Transport::Udp)
            .await
            .map_err(failed)?;
        if message::is_truncated(&answer) {
            answer = forward(resolvers, network, &query, Transport::Tcp)
                .await
                .map_err(failed)?;
        }
        message::addresses(&answer).map_err(|code| LookupError::NoAddress {
            name: host.clone(),
            code: code.into(),
        })
    }

    /// Keeps what was found. While nobody answers, the last addresses serve on.
    fn remember(
        &self,
        host: &Arc<str>,
        outcome: Result<(Arc<[IpAddr]>, u32), LookupError>,
    ) -> Outcome {
        let now = Instant::now();
        let mut known = self.known.borrow_mut();
        if known.len() >= REMEMBERED_NAMES && !known.contains_key(host) {
            make_room(&mut known, now);
        }
        let entry = match outcome {
            Ok((addresses, ttl)) => {
                let ttl = Duration::from_secs(ttl.into());
                let until = now + ttl.clamp(REMEMBERED_LEAST, REMEMBERED_MOST);
                Remembered {
                    outcome: Ok(addresses),
                    until,
                    stale_until: until + STALE,
                }
            }
            Err(error) => {
                let unanswered = matches!(error, LookupError::Forward { .. });
                let stale = known
                    .get(host)
                    .filter(|e| unanswered && e.outcome.is_ok() && e.stale_until > now);
                if stale.is_some() {
                    tracing::warn!(host = &**host, %error, "using addresses that are out of date");
                }
                let until = now + FAILURE_REMEMBERED;
                Remembered {
                    until,
                    stale_until: stale.map_or(until, |e| e.stale_until),
                    outcome: stale.map_or(Err(error), |e| e.outcome.clone()),
                }
            }
        };
        let outcome = entry.outcome.clone();
        known.insert(host.clone(), entry);
        outcome
    }
}

/// Forgets what is out of date, else whatever is so first.
fn make_room(known: &mut HashMap<Arc<str>, Remembered>, now: Instant) {
    known.retain(|_, entry| entry.until > now);
    if known.len() >= REMEMBERED_NAMES {
        let first = known.iter().min_by_key(|(_, entry)| entry.until);
        if let Some(host) = first.map(|(host, _)| host.clone()) {
            known.remove(&host);
        }
    }
}
