//! Rules of GRPCRoutes: a method is a path.

use std::sync::Arc;

use tulle_api::gateway as api;
use tulle_route::resource::{Backend, Match, PathMatch, Rule, RuleAction, Timeouts};

use super::RouteId;
use super::filters::Action;
use super::http::{expression, header_matches};
use super::routes::{Found, weight};
use crate::cluster::Cluster;

impl Cluster {
    /// A rule; `None` when it holds something that cannot be used.
    pub(super) fn grpc_rule(
        &self,
        id: &RouteId,
        rule: &api::GrpcRule,
        found: &mut Found,
    ) -> Option<Rule> {
        if rule.session_persistence.is_some() {
            found
                .ignored
                .push("sessionPersistence (use a DestinationRule with consistentHash)");
        }
        let matches: Result<Vec<Match>, String> = rule.matches.iter().map(grpc_match).collect();
        let matches = match matches {
            Ok(matches) => matches,
            Err(why) => {
                found.dropped.push(why);
                return None;
            }
        };
        let mut action = Action::default();
        for filter in &rule.filters {
            self.grpc_filter(id, filter, &mut action, found);
        }
        let mut backends = Vec::with_capacity(rule.backend_refs.len());
        for backend in &rule.backend_refs {
            let mut of_backend = Action::default();
            for filter in &backend.filters {
                self.grpc_filter(id, filter, &mut of_backend, found);
            }
            backends.push(Backend {
                weight: weight(backend.weight),
                target: self.backend(id, &backend.to, &mut found.unresolved),
                filters: of_backend.filters,
            });
        }
        Some(Rule {
            name: rule.name.as_deref().map(Arc::from),
            matches,
            filters: action.filters,
            action: RuleAction::Forward(backends),
            timeouts: Timeouts::default(),
            retry: None,
        })
    }
}

fn grpc_match(of: &api::GrpcMatch) -> Result<Match, String> {
    Ok(Match {
        path: of.method.as_ref().map(method_path).transpose()?.flatten(),
        headers: header_matches(&of.headers)?,
        ..Match::default()
    })
}

/// `/package.Service/Method`; one of both may be left open.
fn method_path(of: &api::GrpcMethodMatch) -> Result<Option<PathMatch>, String> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, method) = (given(&of.service), given(&of.method));
    match of.type_.as_deref().unwrap_or("Exact") {
        "Exact" => Ok(match (service, method) {
            (Some(service), Some(method)) => {
                Some(PathMatch::Exact(format!("/{service}/{method}").into()))
            }
            (Some(service), None) => Some(PathMatch::Prefix(format!("/{service}").into())),
            (None, Some(method)) => {
                let method = regex::escape(&method);
                Some(PathMatch::Regex(format!("/[^/]+/{method}").into()))
            }
            (None, None) => None,
        }),
        "RegularExpression" => {
            if service.is_none() && method.is_none() {
                return Ok(None);
            }
            let part = |text: Option<String>| {
                text.map_or_else(|| "[^/]+".to_owned(), |t| format!("(?:{t})"))
            };
            let text = format!("/{}/{}", part(service), part(method));
            Ok(Some(PathMatch::Regex(expression(&text)?)))
        }
        other => Err(format!("unknown type of method match {other:?}")),
    }
}
