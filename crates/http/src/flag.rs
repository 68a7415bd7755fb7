//! Response flags: why a request went as it did, in the words that Istio's metrics and logs use.

use std::fmt;

/// A response flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flag {
    /// No healthy upstream.
    UH,
    /// Upstream connection failure.
    UF,
    /// Upstream overflow: a circuit breaker.
    UO,
    /// No route.
    NR,
    /// Upstream retry limit exceeded (or, for connections, connect attempts).
    URX,
    /// No cluster.
    NC,
    /// Duration of the request or connection exceeded.
    DT,
    /// Downstream connection termination.
    DC,
    /// Failed local health check.
    LH,
    /// Upstream request timeout.
    UT,
    /// Connection reset by us.
    LR,
    /// Upstream reset the stream.
    UR,
    /// Upstream connection termination.
    UC,
    /// Delayed by fault injection.
    DI,
    /// Aborted by fault injection.
    FI,
    /// Rate limited.
    RL,
    /// Denied by an external authorization service.
    UAEX,
    /// The rate limit service failed.
    RLSE,
    /// A header that must hold has an invalid value.
    IH,
    /// Stream idle timeout.
    SI,
    /// Downstream protocol error.
    DPE,
    /// Upstream protocol error.
    UPE,
    /// The proxy's overload manager.
    OM,
}

impl Flag {
    /// As metrics and logs say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UH => "UH",
            Self::UF => "UF",
            Self::UO => "UO",
            Self::NR => "NR",
            Self::URX => "URX",
            Self::NC => "NC",
            Self::DT => "DT",
            Self::DC => "DC",
            Self::LH => "LH",
            Self::UT => "UT",
            Self::LR => "LR",
            Self::UR => "UR",
            Self::UC => "UC",
            Self::DI => "DI",
            Self::FI => "FI",
            Self::RL => "RL",
            Self::UAEX => "UAEX",
            Self::RLSE => "RLSE",
            Self::IH => "IH",
            Self::SI => "SI",
            Self::DPE => "DPE",
            Self::UPE => "UPE",
            Self::OM => "OM",
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
