//! Rules, ready to be applied: expressions compiled, headers parsed.

mod filters;
mod matching;

use std::sync::Arc;

pub use filters::{
    CompiledPathRewrite, CompiledRedirect, CompiledRewrite, Edits, Filters, ReplacementText,
};
pub(crate) use matching::{CompiledMatch, PathTest, at_boundary};

use crate::error::{RouteError, RuleFault};
use crate::resource::{Backend, HttpRoute, ObjectKey, Rule, RuleAction};
use crate::text::Patterns;

/// How the path of a request matched: rewrites of a prefix need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchedPath {
    /// As a whole: an exact match or a regular expression.
    Whole,
    /// Its first bytes. Never with the slash that follows the matched element.
    Prefix(usize),
}

/// A rule of a route. Shared: hold the `Arc` for as long as the request lives, whatever becomes of the table.
#[derive(Debug)]
pub struct CompiledRule {
    route: Arc<HttpRoute>,
    index: usize,
    label: Arc<str>,
    pub(crate) matches: Box<[CompiledMatch]>,
    filters: Option<Box<Filters>>,
    /// Empty when no backend has any.
    backend_filters: Box<[Option<Box<Filters>>]>,
    redirect: Option<Box<CompiledRedirect>>,
}

impl CompiledRule {
    pub(crate) fn compile(
        route: &Arc<HttpRoute>,
        index: usize,
        rule: &Rule,
        name: &Arc<str>,
        patterns: &mut Patterns,
    ) -> Result<Self, RouteError> {
        let parts = (|| -> Result<_, RuleFault> {
            let redirect = match &rule.action {
                RuleAction::Redirect(redirect) => {
                    Some(Box::new(CompiledRedirect::compile(redirect, patterns)?))
                }
                RuleAction::Forward(_) | RuleAction::Respond(_) => None,
            };
            Ok((
                CompiledMatch::compile_all(&rule.matches, patterns)?,
                Filters::compile(&rule.filters, patterns)?,
                backend_filters(rule, patterns)?,
                redirect,
            ))
        })();
        let (matches, filters, backend_filters, redirect) = parts.map_err(|fault| RouteError {
            object: route.object.clone(),
            rule: index,
            fault,
        })?;
        Ok(Self {
            route: route.clone(),
            index,
            label: rule.name.as_ref().unwrap_or(name).clone(),
            matches,
            filters,
            backend_filters,
            redirect,
        })
    }

    /// The object of the user.
    pub fn object(&self) -> &ObjectKey {
        &self.route.object
    }

    /// The route as it was received.
    pub fn route(&self) -> &Arc<HttpRoute> {
        &self.route
    }

    /// Which rule of the object, counted from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Name that the user gave it.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.rule().and_then(|rule| rule.name.as_ref())
    }

    /// What logs call it: by its own name, else by that of its object (`Kind/namespace/name`).
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// What happens to a matching request.
    pub fn action(&self) -> &RuleAction {
        static NOWHERE: RuleAction = RuleAction::Forward(Vec::new());
        self.rule().map_or(&NOWHERE, |rule| &rule.action)
    }

    /// Where it may go; empty for redirects and direct responses.
    pub fn backends(&self) -> &[Backend] {
        self.rule().map_or(&[], backends)
    }

    /// The rule as it was received: timeouts and retries are read from there. Always there.
    pub fn rule(&self) -> Option<&Rule> {
        self.route.rules.get(self.index)
    }

    /// Steps for all requests of the rule.
    pub fn filters(&self) -> &Filters {
        self.filters.as_deref().unwrap_or(Filters::none())
    }

    /// Steps for requests that go to this backend, after those of the rule.
    pub fn backend_filters(&self, backend: usize) -> &Filters {
        self.backend_filters
            .get(backend)
            .and_then(Option::as_deref)
            .unwrap_or(Filters::none())
    }

    /// The redirect, if that is the rule's action.
    pub fn redirect(&self) -> Option<&CompiledRedirect> {
        self.redirect.as_deref()
    }
}

fn backends(rule: &Rule) -> &[Backend] {
    match &rule.action {
        RuleAction::Forward(backends) => backends,
        RuleAction::Redirect(_) | RuleAction::Respond(_) => &[],
    }
}

fn backend_filters(
    rule: &Rule,
    patterns: &mut Patterns,
) -> Result<Box<[Option<Box<Filters>>]>, RuleFault> {
    let backends = backends(rule);
    if backends.iter().all(|backend| backend.filters.is_empty()) {
        return Ok(Box::default());
    }
    let compile = |backend: &Backend| Filters::compile(&backend.filters, patterns);
    backends.iter().map(compile).collect()
}
