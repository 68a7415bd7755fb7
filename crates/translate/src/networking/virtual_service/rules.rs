//! HTTP routes of a VirtualService: one rule for each.

use std::sync::Arc;

use tulle_api::networking::{
    Destination, HttpRedirect, HttpRoute as ApiRoute, HttpRouteDestination, RedirectPort,
};
use tulle_route::resource::{
    Backend, BackendTarget, DirectResponse, Match, PathRewrite, Redirect, Rule, RuleAction,
    Timeouts, Unroutable,
};

use super::{Place, filters, matches, retries};
use crate::cluster::Cluster;
use crate::networking::findings::{Findings, shown};
use crate::networking::names::duration;

/// Longest body of a direct response, in bytes (Istio's bound).
const LONGEST_BODY: usize = 1 << 20;

/// Where a rule stands, for messages and names.
pub(super) struct Context<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    pub(super) findings: &'a mut Findings,
}

impl Context<'_> {
    /// The rule for one place (mesh or a gateway); `None` when it is not for that place, or can never match.
    pub(super) fn rule(&mut self, at: usize, route: &ApiRoute, place: &Place) -> Option<Rule> {
        let path = format!("spec.http[{at}]");
        let matches = self.matches(&path, route, place)?;
        let action = self.action(&path, route);
        let timeout = route.timeout.as_deref();
        let request = timeout.and_then(|text| self.span(&format!("{path}.timeout"), text));
        let edits = route.headers.as_ref();
        Some(Rule {
            name: route
                .name
                .as_deref()
                .filter(|name| !name.is_empty())
                .map(Arc::from),
            matches,
            filters: filters::of_route(self, &path, route, edits),
            action,
            timeouts: Timeouts {
                request: request.filter(|t| !t.is_zero()),
                backend: None,
            },
            retry: route
                .retries
                .as_ref()
                .and_then(|r| retries::retry(r, &format!("{path}.retries"), self.findings)),
        })
    }

    /// No match at all matches everything; matches that all fall away match nothing.
    fn matches(&mut self, path: &str, route: &ApiRoute, place: &Place) -> Option<Vec<Match>> {
        if route.matches.is_empty() {
            return Some(Vec::new());
        }
        let mut all = Vec::with_capacity(route.matches.len());
        for (at, m) in route.matches.iter().enumerate() {
            if !place.is_named(&m.gateways, self.namespace) {
                continue;
            }
            let matched = matches::http(m, &format!("{path}.match[{at}]"), self.findings);
            all.extend(matched);
        }
        (!all.is_empty()).then_some(all)
    }

    fn action(&mut self, path: &str, route: &ApiRoute) -> RuleAction {
        if let Some(redirect) = &route.redirect {
            return RuleAction::Redirect(self.redirect(path, redirect));
        }
        if let Some(answer) = &route.direct_response {
            let body = answer.body.as_ref();
            let text = body.and_then(|body| body.string.clone());
            let bytes = body.and_then(|body| body.bytes.as_deref()).map(decoded);
            let body = match (text, bytes) {
                (Some(text), _) => text,
                (None, Some(Some(text))) => text,
                (None, Some(None)) => {
                    self.findings.unsupported(
                        format!("{path}.directResponse.body.bytes"),
                        "only base64 of UTF-8 text can be sent, the body is left out",
                    );
                    String::new()
                }
                (None, None) => String::new(),
            };
            let fits = body.len() <= LONGEST_BODY;
            if !fits {
                self.findings.invalid(
                    format!("{path}.directResponse.body"),
                    "is longer than 1 MiB, left out",
                );
            }
            let status = u16::try_from(answer.status)
                .ok()
                .filter(|status| (200..600).contains(status));
            if status.is_none() {
                self.findings.invalid(
                    format!("{path}.directResponse.status"),
                    "is no HTTP status, 500 instead",
                );
            }
            return RuleAction::Respond(DirectResponse {
                status: status.unwrap_or(500),
                body: if fits { body.into() } else { Arc::default() },
                headers: Default::default(),
            });
        }
        RuleAction::Forward(self.backends(path, &route.route))
    }

    fn redirect(&mut self, path: &str, redirect: &HttpRedirect) -> Redirect {
        let status = match redirect.redirect_code {
            None | Some(0) => 301,
            Some(code @ (301 | 302 | 303 | 307 | 308)) => u16::try_from(code).unwrap_or(301),
            Some(_) => {
                let why = "is none of 301, 302, 303, 307 and 308, 301 instead";
                self.findings
                    .invalid(format!("{path}.redirect.redirectCode"), why);
                301
            }
        };
        let full = redirect.uri.as_deref().filter(|uri| !uri.is_empty());
        let prefix = redirect
            .prefix_rewrite
            .as_deref()
            .filter(|uri| !uri.is_empty());
        // Older texts spell the prefix rewrite so.
        let new = match (full, prefix) {
            (Some(uri), _) => Some(match uri.strip_prefix("%PREFIX()%") {
                Some(rest) => PathRewrite::Text(rest.into()),
                None => PathRewrite::Full(uri.into()),
            }),
            (None, Some(prefix)) => Some(PathRewrite::Text(prefix.into())),
            (None, None) => None,
        };
        let text =
            |value: &Option<String>| value.as_deref().filter(|v| !v.is_empty()).map(Arc::from);
        Redirect {
            status,
            scheme: text(&redirect.scheme),
            host: text(&redirect.authority),
            port: redirect
                .port
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port > 0),
            port_of_scheme: redirect.derive_port != Some(RedirectPort::FromRequestPort),
            path: new,
        }
    }

    fn backends(&mut self, path: &str, routes: &[HttpRouteDestination]) -> Vec<Backend> {
        let single = routes.len() == 1;
        let mut backends = Vec::with_capacity(routes.len());
        for (at, route) in routes.iter().enumerate() {
            let path = format!("{path}.route[{at}]");
            let weight = route.weight.unwrap_or_default();
            let weight = if single && weight == 0 { 1 } else { weight };
            backends.push(Backend {
                weight: u32::try_from(weight).unwrap_or_default(),
                target: self.target(&format!("{path}.destination"), &route.destination),
                filters: filters::edits(self, &path, route.headers.as_ref()),
            });
        }
        backends
    }

    /// Where a destination leads. One that the mesh does not know takes its share of requests and fails them.
    pub(super) fn target(&mut self, path: &str, destination: &Destination) -> BackendTarget {
        let host = self.cluster.qualified(&destination.host, self.namespace);
        let port = destination.port.as_ref().and_then(|port| port.number);
        let Some(service) = self.cluster.service_of_host(&host, self.namespace) else {
            let why = format!("no service has the host {:?}", shown(&host));
            self.findings
                .invalid(path, format!("{why}: its requests are answered with 503"));
            return BackendTarget::Unroutable(Unroutable {
                status: 503,
                why: why.into(),
            });
        };
        let number = port
            .filter(|port| *port > 0)
            .map(|port| u16::try_from(port).unwrap_or_default());
        if let Some(number) = number
            && !service.ports.iter().any(|port| port.number == number)
        {
            let why = format!("service {} has no port {number}", service.key);
            self.findings
                .invalid(path, format!("{why}: its requests are answered with 503"));
            return BackendTarget::Unroutable(Unroutable {
                status: 503,
                why: why.into(),
            });
        }
        let subset = destination
            .subset
            .as_deref()
            .filter(|subset| !subset.is_empty());
        BackendTarget::Service {
            service: service.key.clone(),
            port: number,
            subset: subset.map(Arc::from),
        }
    }

    /// A time span; one that cannot be read is left out.
    pub(super) fn span(&mut self, path: &str, text: &str) -> Option<std::time::Duration> {
        let span = duration(text);
        if span.is_none() {
            self.findings.invalid(
                path,
                format!("{:?} is no time span such as 1.5s", shown(text)),
            );
        }
        span
    }
}

/// Base64 of UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for c in text
        .bytes()
        .filter(|c| *c != b'=' && !c.is_ascii_whitespace())
    {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}
