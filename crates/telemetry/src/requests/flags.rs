//! What went wrong with a request, in Envoy's short words: dashboards and people read them.

use std::fmt;

/// One thing that happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Flag {
    /// No healthy endpoint.
    NoHealthyUpstream,
    /// No answer in time.
    UpstreamTimeout,
    /// The proxy reset the stream.
    LocalReset,
    /// The endpoint reset the stream.
    UpstreamReset,
    /// No connection to the endpoint.
    UpstreamConnectFailure,
    /// The endpoint's connection ended before its answer.
    UpstreamTermination,
    /// A limit of connections or requests.
    UpstreamOverflow,
    /// No route matches.
    NoRoute,
    /// Delayed on purpose.
    DelayInjected,
    /// Answered with an error on purpose.
    FaultInjected,
    /// Over a rate limit.
    RateLimited,
    /// The external authorization service refused.
    UnauthorizedExternal,
    /// The client went away.
    DownstreamTermination,
    /// All attempts failed.
    RetryLimit,
    /// Nothing moved for too long.
    IdleTimeout,
    /// The client broke the protocol.
    DownstreamProtocol,
    /// The endpoint broke the protocol.
    UpstreamProtocol,
    /// The route names a destination that does not exist.
    NoCluster,
    /// The proxy has all the requests that it takes.
    Overload,
    /// A name that cannot be resolved.
    DnsFailure,
}

impl Flag {
    /// In the order in which several are written.
    const ALL: [(Self, &'static str); 20] = [
        (Self::NoHealthyUpstream, "UH"),
        (Self::UpstreamTimeout, "UT"),
        (Self::LocalReset, "LR"),
        (Self::UpstreamReset, "UR"),
        (Self::UpstreamConnectFailure, "UF"),
        (Self::UpstreamTermination, "UC"),
        (Self::UpstreamOverflow, "UO"),
        (Self::NoRoute, "NR"),
        (Self::DelayInjected, "DI"),
        (Self::FaultInjected, "FI"),
        (Self::RateLimited, "RL"),
        (Self::UnauthorizedExternal, "UAEX"),
        (Self::DownstreamTermination, "DC"),
        (Self::RetryLimit, "URX"),
        (Self::IdleTimeout, "SI"),
        (Self::DownstreamProtocol, "DPE"),
        (Self::UpstreamProtocol, "UPE"),
        (Self::NoCluster, "NC"),
        (Self::Overload, "OM"),
        (Self::DnsFailure, "DF"),
    ];
}

/// What happened to a request; as a rule nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flags(u32);

impl Flags {
    /// Notes that something happened.
    pub fn set(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u8;
    }

    /// Forgets it: a later attempt went well.
    pub fn clear(&mut self, flag: Flag) {
        self.0 &= !(1 << flag as u8);
    }

    /// Whether it happened.
    pub fn has(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }

    /// Whether nothing happened.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Self {
        Self(1 << flag as u8)
    }
}

impl fmt::Display for Flags {
    /// `-`, `UH`, `UF,URX`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut first = true;
        for (_, word) in Flag::ALL.iter().filter(|(flag, _)| self.has(*flag)) {
            if !std::mem::take(&mut first) {
                f.write_str(",")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}
