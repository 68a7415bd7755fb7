//! The CONNECT request and its answer.

/// What a client asks for: one connection to `authority`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// `ip:port` or `host:port`.
    pub authority: String,
    /// The source workload, as `baggage` says it.
    pub baggage: Option<String>,
    /// `forwarded`.
    pub forwarded: Option<String>,
    /// `traceparent`.
    pub traceparent: Option<String>,
}
