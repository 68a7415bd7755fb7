//! Routes, ready to be applied: expressions compiled, headers parsed.

mod filters;
mod matching;

use std::sync::Arc;

pub use filters::{
    CompiledPathRewrite, CompiledRedirect, CompiledRewrite, Edits, Filters, ReplacementText,
};
pub(crate) use matching::{CompiledMatch, PathTest, at_boundary};

use crate::error::{RouteError, RuleFault};
use crate::resource::{
    Backend, DirectResponse, Filter, HttpRoute, ObjectKey, Parent, Precedence, Retry, Rule,
    RuleAction, Timeouts,
};
use crate::text::Patterns;

/// How the path of a request matched: rewrites of a prefix need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchedPath {
    /// As a whole: an exact match or a regular expression.
    Whole,
    /// Its first bytes. Never with the slash that follows the matched element.
    Prefix(usize),
}

/// A route in the one form in which it is kept. A proxy may have many thousands, most of them with one parent, rule, match and
/// backend: what only few have is boxed.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) object: ObjectKey,
    pub(crate) parents: Box<[Parent]>,
    pub(crate) created: i64,
    pub(crate) precedence: Precedence,
    rules: Box<[Parts]>,
}

/// What a rule consists of.
#[derive(Debug)]
struct Parts {
    /// Never empty.
    matches: Box<[CompiledMatch]>,
    /// Shared by routes to the same places; empty when it is answered here.
    backends: Arc<[Backend]>,
    further: Option<Box<Further>>,
}

/// What few rules have.
#[derive(Debug, Default)]
struct Further {
    name: Option<Arc<str>>,
    answer: Option<Answer>,
    /// As they were received.
    received: Box<[Filter]>,
    filters: Option<Box<Filters>>,
    /// Empty when no backend has any.
    of_backends: Box<[Option<Box<Filters>>]>,
    timeouts: Timeouts,
    retry: Option<Retry>,
}

/// What a rule answers instead of forwarding.
#[derive(Debug)]
pub enum Answer {
    /// Elsewhere.
    Redirect(Box<CompiledRedirect>),
    /// This.
    Respond(Box<DirectResponse>),
}

/// A rule of a route, and the match by which it was found. Shared: hold it for as long as the request lives, whatever becomes of
/// the table.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    route: Arc<Route>,
    index: u16,
    alternative: u16,
    /// Of the route. Values that it never has tell a list of one rule from longer ones, without room of their own.
    precedence: Precedence,
}

impl Route {
    pub(crate) fn compile(route: HttpRoute, patterns: &mut Patterns) -> Result<Self, RouteError> {
        let object = route.object;
        let of_rule = |rule, fault| RouteError {
            object: object.clone(),
            rule,
            fault,
        };
        if route.rules.len() > usize::from(u16::MAX) {
            return Err(of_rule(usize::from(u16::MAX), RuleFault::TooMany));
        }
        let rules = route.rules.into_iter().enumerate();
        let rules = rules.map(|(index, rule)| {
            let parts = Parts::compile(rule, patterns);
            parts.map_err(|fault| of_rule(index, fault))
        });
        let rules = rules.collect::<Result<_, _>>()?;
        Ok(Self {
            object,
            parents: route.parents.into(),
            created: route.created,
            precedence: route.precedence,
            rules,
        })
    }

    /// As it counts: paths are in canonical form.
    pub(crate) fn to_resource(&self) -> HttpRoute {
        HttpRoute {
            object: self.object.clone(),
            parents: self.parents.to_vec(),
            created: self.created,
            precedence: self.precedence,
            rules: self.rules.iter().map(Parts::to_resource).collect(),
        }
    }

    pub(crate) fn matches(&self) -> impl Iterator<Item = &CompiledMatch> {
        self.rules.iter().flat_map(|rule| &rule.matches)
    }

    /// Lists of backends, so that equal ones can be shared.
    pub(crate) fn backends_mut(&mut self) -> impl Iterator<Item = &mut Arc<[Backend]>> {
        self.rules.iter_mut().map(|rule| &mut rule.backends)
    }
}

impl Parts {
    fn compile(rule: Rule, patterns: &mut Patterns) -> Result<Self, RuleFault> {
        let matches = CompiledMatch::compile_all(&rule.matches, patterns)?;
        if matches.len() > usize::from(u16::MAX) {
            return Err(RuleFault::TooMany);
        }
        let (backends, answer) = match rule.action {
            RuleAction::Forward(backends) => (backends, None),
            RuleAction::Redirect(redirect) => {
                let redirect = CompiledRedirect::compile(&redirect, patterns)?;
                (Vec::new(), Some(Answer::Redirect(Box::new(redirect))))
            }
            RuleAction::Respond(respond) => (Vec::new(), Some(Answer::Respond(Box::new(respond)))),
        };
        let further = Further {
            name: rule.name,
            answer,
            filters: Filters::compile(&rule.filters, patterns)?,
            received: rule.filters.into(),
            of_backends: of_backends(&backends, patterns)?,
            timeouts: rule.timeouts,
            retry: rule.retry,
        };
        Ok(Self {
            matches,
            backends: backends.into(),
            further: further.any().then(|| Box::new(further)),
        })
    }

    fn to_resource(&self) -> Rule {
        let further = self.further.as_deref();
        Rule {
            name: further.and_then(|further| further.name.clone()),
            matches: self
                .matches
                .iter()
                .map(CompiledMatch::to_resource)
                .collect(),
            filters: further.map_or(Vec::new(), |further| further.received.to_vec()),
            action: match further.and_then(|further| further.answer.as_ref()) {
                None => RuleAction::Forward(self.backends.to_vec()),
                Some(Answer::Redirect(redirect)) => RuleAction::Redirect(redirect.redirect.clone()),
                Some(Answer::Respond(respond)) => RuleAction::Respond((**respond).clone()),
            },
            timeouts: further.map_or(Timeouts::default(), |further| further.timeouts),
            retry: further.and_then(|further| further.retry.clone()),
        }
    }
}

impl Further {
    fn any(&self) -> bool {
        self.name.is_some()
            || self.answer.is_some()
            || self.filters.is_some()
            || !self.of_backends.is_empty()
            || self.timeouts != Timeouts::default()
            || self.retry.is_some()
    }
}

impl CompiledRule {
    /// All rules of a route, each once for each of its matches.
    pub(crate) fn all(route: &Arc<Route>) -> impl Iterator<Item = Self> {
        let one = |index, alternative| Self {
            route: route.clone(),
            index,
            alternative,
            precedence: route.precedence,
        };
        // As many as can be counted: more are not compiled.
        let rules = (0..=u16::MAX).zip(&route.rules);
        rules.flat_map(move |(index, rule)| {
            let matches = (0..=u16::MAX).zip(&rule.matches);
            matches.map(move |(alternative, _)| one(index, alternative))
        })
    }

    /// The object of the user.
    pub fn object(&self) -> &ObjectKey {
        &self.route.object
    }

    pub(crate) fn created(&self) -> i64 {
        self.route.created
    }

    pub(crate) fn precedence(&self) -> Precedence {
        self.precedence
    }

    /// Which rule of the object, counted from 0.
    pub fn index(&self) -> usize {
        self.index.into()
    }

    /// Which match of the rule, counted from 0.
    pub(crate) fn alternative(&self) -> usize {
        self.alternative.into()
    }

    /// The match itself. Always there.
    pub(crate) fn condition(&self) -> Option<&CompiledMatch> {
        self.parts()?.matches.get(self.alternative())
    }

    /// Name that the user gave it.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.further()?.name.as_ref()
    }

    /// What logs call it: by its own name, else by that of its object (`Kind/namespace/name`).
    pub fn label(&self) -> &Arc<str> {
        self.name().unwrap_or(self.route.object.text())
    }

    /// What is answered; `None`: requests are forwarded.
    pub fn answer(&self) -> Option<&Answer> {
        self.further()?.answer.as_ref()
    }

    /// The redirect, if that is what is answered.
    pub fn redirect(&self) -> Option<&CompiledRedirect> {
        match self.answer()? {
            Answer::Redirect(redirect) => Some(redirect),
            Answer::Respond(_) => None,
        }
    }

    /// Where requests may go; empty for redirects and direct responses.
    pub fn backends(&self) -> &[Backend] {
        self.parts().map_or(&[], |parts| &parts.backends)
    }

    /// How long it may take.
    pub fn timeouts(&self) -> Timeouts {
        self.further()
            .map_or(Timeouts::default(), |further| further.timeouts)
    }

    /// Whether and when it is tried again; `None` is the mesh's default.
    pub fn retry(&self) -> Option<&Retry> {
        self.further()?.retry.as_ref()
    }

    /// Steps for all requests of the rule.
    pub fn filters(&self) -> &Filters {
        let filters = self
            .further()
            .and_then(|further| further.filters.as_deref());
        filters.unwrap_or(Filters::none())
    }

    /// Steps for requests that go to this backend, after those of the rule.
    pub fn backend_filters(&self, backend: usize) -> &Filters {
        let of_backends = self.further().map(|further| &further.of_backends);
        of_backends
            .and_then(|all| all.get(backend)?.as_deref())
            .unwrap_or(Filters::none())
    }

    fn parts(&self) -> Option<&Parts> {
        self.route.rules.get(self.index())
    }

    fn further(&self) -> Option<&Further> {
        self.parts()?.further.as_deref()
    }
}

fn of_backends(
    backends: &[Backend],
    patterns: &mut Patterns,
) -> Result<Box<[Option<Box<Filters>>]>, RuleFault> {
    if backends.iter().all(|backend| backend.filters.is_empty()) {
        return Ok(Box::default());
    }
    let compile = |backend: &Backend| Filters::compile(&backend.filters, patterns);
    backends.iter().map(compile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_route_has_is_small() {
        assert!(size_of::<Route>() <= 64);
        assert!(size_of::<Parts>() <= 40);
        assert!(size_of::<CompiledMatch>() <= 40);
        assert!(size_of::<CompiledRule>() <= 16);
    }
}
