//! Host names: patterns, their overlap, and which listener a request belongs to.

use std::cmp::Ordering;

use crate::resource::{Gateway, HostPattern, Listener, Protocol};

impl HostPattern {
    /// Matches every host.
    pub fn is_any(&self) -> bool {
        &*self.0 == "*"
    }

    /// `.suffix` of `*.suffix`.
    pub fn suffix(&self) -> Option<&str> {
        self.0.strip_prefix('*').filter(|s| s.starts_with('.'))
    }

    /// Whether a canonical host matches; `*.a` matches any name below `a`, at any depth, but not `a`.
    pub fn matches(&self, host: &str) -> bool {
        match self.suffix() {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => self.is_any() || &*self.0 == host,
        }
    }

    /// The hosts that both match, as one pattern; `None` when there are none.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let narrower = if self.by_specificity(other).is_le() {
            (self, other)
        } else {
            (other, self)
        };
        let (narrow, wide) = narrower;
        let fits = match (narrow.suffix(), wide.suffix()) {
            _ if wide.is_any() => true,
            (Some(narrow), Some(wide)) => narrow.ends_with(wide),
            _ => wide.matches(&narrow.0),
        };
        fits.then(|| narrow.clone())
    }

    /// The more specific first: exact names before wildcards, longer ones before shorter ones, `*` last.
    pub fn by_specificity(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }

    pub(crate) fn rank(&self) -> (u8, std::cmp::Reverse<usize>) {
        let kind = match self.suffix() {
            _ if self.is_any() => 2,
            Some(_) => 1,
            None => 0,
        };
        (kind, std::cmp::Reverse(self.0.len()))
    }
}

impl Gateway {
    /// The HTTP or HTTPS listener of a port that a request for `host` belongs to: the most specific one that matches, and no
    /// other, so that listeners stay isolated.
    pub fn listener_of_host(&self, port: u16, host: &str) -> Option<&Listener> {
        self.most_specific(port, host, |protocol| {
            matches!(protocol, Protocol::Http | Protocol::Https(_))
        })
    }

    /// The listener of a port that a TLS connection with this server name belongs to; without one, only a listener for any host.
    pub fn listener_of_sni(&self, port: u16, sni: Option<&str>) -> Option<&Listener> {
        self.most_specific(port, sni.unwrap_or_default(), |protocol| {
            matches!(
                protocol,
                Protocol::Https(_) | Protocol::Tls(_) | Protocol::Passthrough
            )
        })
    }

    /// A request for `host` came over a TLS connection whose server name chose `listener`, but belongs to another one: answer with 421.
    /// A host that no listener has is not misdirected: it finds no route.
    pub fn is_misdirected(&self, listener: &Listener, host: &str) -> bool {
        self.listener_of_host(listener.port, host)
            .is_some_and(|own| own.name != listener.name)
    }

    fn most_specific(
        &self,
        port: u16,
        host: &str,
        speaks: impl Fn(&Protocol) -> bool,
    ) -> Option<&Listener> {
        let any = HostPattern::any();
        self.listeners
            .iter()
            .filter(|l| l.port == port && speaks(&l.protocol))
            .filter(|l| l.hostname.as_ref().is_none_or(|h| h.matches(host)))
            .min_by(|a, b| {
                let (a, b) = (
                    a.hostname.as_ref().unwrap_or(&any),
                    b.hostname.as_ref().unwrap_or(&any),
                );
                a.by_specificity(b)
            })
    }
}
