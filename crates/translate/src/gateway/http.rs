//! Rules of HTTPRoutes.

use std::sync::Arc;
use std::time::Duration;

use tulle_api::gateway as api;
use tulle_route::resource::{
    Backend, Filter, Match, NamedMatch, PathMatch, Retry, RetryOn, Rule, RuleAction, TextMatch,
    Timeouts,
};

use super::RouteId;
use super::filters::Action;
use super::routes::{Found, weight};
use crate::cluster::Cluster;

/// Attempts when a rule asks for retries and does not say how many.
const DEFAULT_ATTEMPTS: u32 = 2;

impl Cluster {
    /// A rule; `None` when it holds something that cannot be used.
    pub(super) fn http_rule(
        &self,
        id: &RouteId,
        rule: &api::HttpRule,
        found: &mut Found,
    ) -> Option<Rule> {
        match self.try_http_rule(id, rule, found) {
            Ok(rule) => Some(rule),
            Err(why) => {
                found.dropped.push(why);
                None
            }
        }
    }

    fn try_http_rule(
        &self,
        id: &RouteId,
        rule: &api::HttpRule,
        found: &mut Found,
    ) -> Result<Rule, String> {
        if rule.session_persistence.is_some() {
            found
                .ignored
                .push("sessionPersistence (use a DestinationRule with consistentHash)");
        }
        let matches: Result<Vec<Match>, String> = rule.matches.iter().map(http_match).collect();
        let timeouts = rule.timeouts.as_ref().map(timeouts).transpose()?;
        let retry = rule.retry.as_ref().map(retry).transpose()?;
        let mut action = Action::default();
        for filter in &rule.filters {
            self.http_filter(id, filter, &mut action, found);
        }
        let mut backends = Vec::with_capacity(rule.backend_refs.len());
        for backend in &rule.backend_refs {
            backends.push(self.http_backend(id, backend, found));
        }
        Ok(Rule {
            name: rule.name.as_deref().map(Arc::from),
            matches: matches?,
            action: match action.redirect {
                Some(redirect) => RuleAction::Redirect(redirect),
                None => RuleAction::Forward(backends),
            },
            filters: action.filters,
            timeouts: timeouts.unwrap_or_default(),
            retry,
        })
    }

    fn http_backend(
        &self,
        id: &RouteId,
        backend: &api::HttpBackendRef,
        found: &mut Found,
    ) -> Backend {
        let mut action = Action::default();
        for filter in &backend.filters {
            self.http_filter(id, filter, &mut action, found);
        }
        let mut filters = action.filters;
        filters.extend(action.redirect.map(Filter::Redirect));
        Backend {
            weight: weight(backend.weight),
            target: self.backend(id, &backend.to, &mut found.unresolved),
            filters,
        }
    }
}

fn http_match(of: &api::HttpMatch) -> Result<Match, String> {
    let path = of.path.as_ref().map(path_match).transpose()?;
    Ok(Match {
        path,
        method: of
            .method
            .as_deref()
            .map(|method| TextMatch::Exact(method.into())),
        headers: header_matches(&of.headers)?,
        query: named_matches(&of.query_params, str::to_owned)?,
        ..Match::default()
    })
}

fn path_match(path: &api::PathMatch) -> Result<PathMatch, String> {
    let value = path.value.as_deref().unwrap_or("/");
    match path.type_.as_deref().unwrap_or("PathPrefix") {
        "Exact" => Ok(PathMatch::Exact(value.into())),
        "PathPrefix" => {
            let trimmed = value.trim_end_matches('/');
            Ok(PathMatch::Prefix(
                if trimmed.is_empty() { "/" } else { trimmed }.into(),
            ))
        }
        "RegularExpression" => Ok(PathMatch::Regex(expression(value)?)),
        other => Err(format!("unknown type of path match {other:?}")),
    }
}

/// Of several matches of one header, the first counts.
pub(super) fn header_matches(headers: &[api::HeaderMatch]) -> Result<Vec<NamedMatch>, String> {
    named_matches(headers, str::to_ascii_lowercase)
}

fn named_matches(
    all: &[api::HeaderMatch],
    canonical: impl Fn(&str) -> String,
) -> Result<Vec<NamedMatch>, String> {
    let mut matches: Vec<NamedMatch> = Vec::with_capacity(all.len());
    for of in all {
        let name = canonical(&of.name);
        if matches.iter().any(|m| *m.name == *name) {
            continue;
        }
        let value = match of.type_.as_deref().unwrap_or("Exact") {
            "Exact" => TextMatch::Exact(of.value.as_str().into()),
            "RegularExpression" => TextMatch::Regex(expression(&of.value)?),
            other => return Err(format!("unknown type of match {other:?} for {name:?}")),
        };
        matches.push(NamedMatch {
            name: name.into(),
            value,
        });
    }
    Ok(matches)
}

/// An expression that the proxy will be able to use.
pub(super) fn expression(text: &str) -> Result<Arc<str>, String> {
    match tulle_route::text::check(text) {
        Ok(()) => Ok(text.into()),
        Err(why) => Err(why.to_string()),
    }
}

fn timeouts(of: &api::RouteTimeouts) -> Result<Timeouts, String> {
    let one = |text: &Option<String>| -> Result<Option<Duration>, String> {
        let duration = text.as_deref().map(duration).transpose()?;
        // Zero is no limit.
        Ok(duration.filter(|duration| !duration.is_zero()))
    };
    Ok(Timeouts {
        request: one(&of.request)?,
        backend: one(&of.backend_request)?,
    })
}

fn retry(of: &api::RetryPolicy) -> Result<Retry, String> {
    let attempts = of
        .attempts
        .map_or(DEFAULT_ATTEMPTS, |n| u32::try_from(n).unwrap_or_default());
    Ok(Retry {
        attempts,
        on: RetryOn {
            connect_failure: true,
            refused_stream: true,
            reset: true,
            timeout: true,
            statuses: of
                .codes
                .iter()
                .filter_map(|code| u16::try_from(*code).ok())
                .collect(),
            ..RetryOn::default()
        },
        per_try: None,
        backoff: of.backoff.as_deref().map(duration).transpose()?,
        avoid_tried: true,
    })
}

/// A time span as the Gateway API writes it: `1h30m`, `10s`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is no time span such as 10s or 500ms");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(malformed)?;
        let (number, unit) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let letters = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, after) = unit.split_at(letters);
        let part = match unit {
            "h" => number.checked_mul(3_600_000),
            "m" => number.checked_mul(60_000),
            "s" => number.checked_mul(1000),
            "ms" => Some(number),
            _ => None,
        };
        total = part
            .and_then(|part| total.checked_add(Duration::from_millis(part)))
            .ok_or_else(malformed)?;
        rest = after;
    }
    Ok(total)
}
