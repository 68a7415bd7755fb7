//! `tls` and `tcp` parts: where connections go that are not looked into.

use std::sync::Arc;

use ipnet::IpNet;
use tulle_api::networking::{
    L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute,
};
use tulle_route::resource::{Backend, HostPattern, StreamMatch, StreamRule};

use super::Place;
use super::rules::Context;
use crate::networking::findings::shown;

impl Context<'_> {
    /// TLS is looked at first, as in Istio.
    pub(super) fn streams(
        &mut self,
        tls: &[TlsRoute],
        tcp: &[TcpRoute],
        place: &Place,
    ) -> Vec<StreamRule> {
        let mut rules = Vec::new();
        for (at, route) in tls.iter().enumerate() {
            let path = format!("spec.tls[{at}]");
            let mut matches = Vec::new();
            for (m_at, m) in route.matches.iter().enumerate() {
                if place.is_named(&m.gateways, self.namespace) {
                    matches.extend(self.tls_match(&format!("{path}.match[{m_at}]"), m));
                }
            }
            if !matches.is_empty() {
                rules.push(self.stream_rule(&path, matches, &route.route));
            }
        }
        for (at, route) in tcp.iter().enumerate() {
            let path = format!("spec.tcp[{at}]");
            let mut matches = Vec::new();
            for (m_at, m) in route.matches.iter().enumerate() {
                if place.is_named(&m.gateways, self.namespace) {
                    matches.extend(self.tcp_match(&format!("{path}.match[{m_at}]"), m));
                }
            }
            if route.matches.is_empty() || !matches.is_empty() {
                rules.push(self.stream_rule(&path, matches, &route.route));
            }
        }
        rules
    }

    fn stream_rule(
        &mut self,
        path: &str,
        matches: Vec<StreamMatch>,
        routes: &[RouteDestination],
    ) -> StreamRule {
        let single = routes.len() == 1;
        let mut backends = Vec::with_capacity(routes.len());
        for (at, route) in routes.iter().enumerate() {
            let weight = route.weight.unwrap_or_default();
            let weight = if single && weight == 0 { 1 } else { weight };
            backends.push(Backend {
                weight: u32::try_from(weight).unwrap_or_default(),
                target: self.target(
                    &format!("{path}.route[{at}].destination"),
                    &route.destination,
                ),
                filters: Vec::new(),
            });
        }
        StreamRule {
            name: None,
            matches,
            backends,
        }
    }

    fn tls_match(&mut self, path: &str, m: &TlsMatchAttributes) -> Option<StreamMatch> {
        if m.sni_hosts.is_empty() {
            self.findings.invalid(
                format!("{path}.sniHosts"),
                "must not be empty, the match is left out",
            );
            return None;
        }
        if !self.known(path, m.source_labels.is_empty(), true) {
            return None;
        }
        Some(StreamMatch {
            sni: m
                .sni_hosts
                .iter()
                .map(|host| HostPattern(host.to_ascii_lowercase().into()))
                .collect(),
            port: self.stream_port(path, m.port)?,
            destinations: self.nets(path, &m.destination_subnets)?,
            source_namespace: m
                .source_namespace
                .as_deref()
                .filter(|n| !n.is_empty())
                .map(Arc::from),
        })
    }

    fn tcp_match(&mut self, path: &str, m: &L4MatchAttributes) -> Option<StreamMatch> {
        if !self.known(
            path,
            m.source_labels.is_empty(),
            m.source_subnet.as_deref().is_none_or(str::is_empty),
        ) {
            return None;
        }
        Some(StreamMatch {
            sni: Vec::new(),
            port: self.stream_port(path, m.port)?,
            destinations: self.nets(path, &m.destination_subnets)?,
            source_namespace: m
                .source_namespace
                .as_deref()
                .filter(|n| !n.is_empty())
                .map(Arc::from),
        })
    }

    fn known(&mut self, path: &str, no_labels: bool, no_subnet: bool) -> bool {
        for (field, fine) in [("sourceLabels", no_labels), ("sourceSubnet", no_subnet)] {
            if !fine {
                let why = "is not known to waypoints and gateways, the match is left out";
                self.findings.unsupported(format!("{path}.{field}"), why);
            }
        }
        no_labels && no_subnet
    }

    /// Outer `None`: cannot be read.
    fn stream_port(&mut self, path: &str, port: Option<u32>) -> Option<Option<u16>> {
        let Some(port) = port.filter(|port| *port != 0) else {
            return Some(None);
        };
        match u16::try_from(port) {
            Ok(port) => Some(Some(port)),
            Err(_) => {
                self.findings.invalid(
                    format!("{path}.port"),
                    format!("{port} is no port, the match is left out"),
                );
                None
            }
        }
    }

    fn nets(&mut self, path: &str, texts: &[String]) -> Option<Vec<IpNet>> {
        let mut nets = Vec::with_capacity(texts.len());
        for text in texts {
            match crate::authorization::net(text) {
                Ok(net) => nets.push(net),
                Err(why) => {
                    let why = format!("{:?} {why}, the match is left out", shown(text));
                    self.findings
                        .invalid(format!("{path}.destinationSubnets"), why);
                    return None;
                }
            }
        }
        Some(nets)
    }
}
