//! RateLimitPolicy, a kind of our own, for waypoints and gateways.
//!
//! A policy that cannot be understood limits nothing, and says so: half of it could be more, or less, than its owner wants.

use std::sync::Arc;

use tulle_api::rate_limit::{
    RateLimit as ApiLimit, RateLimitKey, RateLimitKeyType, RateLimitMatch, RateLimitScope,
    TextMatch as ApiText,
};
use tulle_route::resource::{
    KeyPart, Limit, LimitScope, Match, NamedMatch, ObjectKey, PathMatch, Rate, RateLimit, TextMatch,
};

use super::authentication::claim_path;
use super::findings::{listed, shown};
use super::names::duration;
use super::virtual_service::compiles;
use super::{Name, targets};
use crate::cluster::{Cluster, Outputs, Value};
use crate::condition::ObjectKind;
use crate::resource::Resource;

impl Cluster {
    /// The resource and the condition of one object.
    pub(super) fn rate_limit(&self, name: &Name) -> Option<Outputs> {
        self.is_discovered(&name.0).then_some(())?;
        let object = self.networking.rate_limits.get(name)?;
        let spec = &object.spec;
        let attachment = self.attach_references(name, &targets::both(None, &spec.target_refs));
        let mut problems = Problems::default();
        let limits = spec.limits.iter().enumerate();
        let limits: Vec<Limit> = limits
            .filter_map(|(at, limit)| problems.limit(&format!("spec.limits[{at}]"), limit))
            .collect();
        let matches = spec.matches.iter().enumerate();
        let matches: Vec<Match> = matches
            .flat_map(|(at, m)| problems.requests(&format!("spec.match[{at}]"), m))
            .collect();
        let invalid = (!problems.0.is_empty()).then(|| {
            format!(
                "{}; until it is corrected, it limits nothing",
                listed(&problems.0)
            )
        });
        let sound = invalid.is_none();
        let condition = attachment.condition(invalid, &[], object.generation);
        let mut outputs = vec![super::conditions(
            ObjectKind::RateLimitPolicy,
            name,
            vec![condition],
        )];
        if sound && !attachment.targets.is_empty() {
            let resource = RateLimit {
                object: ObjectKey::new("RateLimitPolicy", &name.0, &name.1),
                targets: attachment.targets.clone(),
                routes: Vec::new(),
                matches,
                limits,
                status: spec.status_code,
                dry_run: spec.dry_run.unwrap_or_default(),
            };
            outputs.push(Value::resource(
                attachment.audience(),
                Resource::RateLimit(Box::new(resource)),
            ));
        }
        Some(outputs)
    }
}

/// What cannot be understood.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn note<T>(&mut self, path: &str, why: impl std::fmt::Display) -> Option<T> {
        self.0.push(format!("{path}: {why}"));
        None
    }

    fn limit(&mut self, path: &str, limit: &ApiLimit) -> Option<Limit> {
        let per = duration(&limit.per).filter(|per| !per.is_zero());
        if per.is_none() {
            let why = format!("{:?} is no time span such as 1m", shown(&limit.per));
            self.note::<()>(&format!("{path}.per"), why);
        }
        let parts = limit.key.iter().enumerate();
        let key: Vec<KeyPart> = parts
            .filter_map(|(at, part)| self.key_part(&format!("{path}.key[{at}]"), part))
            .collect();
        let scope = match limit.scope {
            None | Some(RateLimitScope::Local) => LimitScope::Local,
            Some(RateLimitScope::Shared) => LimitScope::Shared,
            Some(RateLimitScope::Unknown) => {
                return self.note(&format!("{path}.scope"), "is not known");
            }
        };
        Some(Limit {
            name: limit
                .name
                .as_deref()
                .filter(|name| !name.is_empty())
                .map(Arc::from),
            key,
            rate: Rate {
                requests: limit.requests,
                per: per?,
            },
            burst: limit.burst,
            scope,
            keys: limit.max_keys,
        })
    }

    fn key_part(&mut self, path: &str, part: &RateLimitKey) -> Option<KeyPart> {
        let name = part.name.as_deref().filter(|name| !name.is_empty());
        let mut named = || match name {
            Some(name) => Some(name),
            None => self.note(&format!("{path}.name"), "must not be empty"),
        };
        Some(match part.kind {
            RateLimitKeyType::ClientIdentity => KeyPart::Identity,
            RateLimitKeyType::ClientNamespace => KeyPart::Namespace,
            RateLimitKeyType::ClientAddress => KeyPart::Address,
            RateLimitKeyType::Path => KeyPart::Path,
            RateLimitKeyType::Method => KeyPart::Method,
            RateLimitKeyType::Host => KeyPart::Host,
            RateLimitKeyType::Header => KeyPart::Header(named()?.to_ascii_lowercase().into()),
            RateLimitKeyType::QueryParam => KeyPart::Query(named()?.into()),
            RateLimitKeyType::Claim => KeyPart::Claim(claim_path(named()?)),
            RateLimitKeyType::Unknown => {
                return self.note(&format!("{path}.type"), "is not known");
            }
        })
    }

    /// One for each of its methods.
    fn requests(&mut self, path: &str, m: &RateLimitMatch) -> Vec<Match> {
        let of_path = m.path.as_ref().and_then(|text| {
            let path = format!("{path}.path");
            Some(match self.text(&path, text)? {
                TextMatch::Exact(exact) => PathMatch::Exact(exact),
                TextMatch::Prefix(prefix) => PathMatch::Prefix(prefix),
                TextMatch::Suffix(suffix) => {
                    PathMatch::Regex(format!(".*{}", regex::escape(&suffix)).into())
                }
                TextMatch::Regex(regex) => PathMatch::Regex(regex),
                TextMatch::Present => PathMatch::Prefix("/".into()),
            })
        });
        let mut headers = Vec::with_capacity(m.headers.len());
        for (at, header) in m.headers.iter().enumerate() {
            let value = match &header.value {
                None => Some(TextMatch::Present),
                Some(value) => self.text(&format!("{path}.headers[{at}].value"), value),
            };
            headers.extend(value.map(|value| NamedMatch {
                name: header.name.to_ascii_lowercase().into(),
                value,
            }));
        }
        let of = |method: Option<&String>| Match {
            path: of_path.clone(),
            method: method.map(|method| TextMatch::Exact(method.as_str().into())),
            headers: headers.clone(),
            ..Match::default()
        };
        if m.methods.is_empty() {
            return vec![of(None)];
        }
        m.methods.iter().map(|method| of(Some(method))).collect()
    }

    fn text(&mut self, path: &str, text: &ApiText) -> Option<TextMatch> {
        let shared = |text: &String| Arc::<str>::from(text.as_str());
        Some(
            match (&text.exact, &text.prefix, &text.suffix, &text.regex) {
                (Some(exact), None, None, None) => TextMatch::Exact(shared(exact)),
                (None, Some(prefix), None, None) => TextMatch::Prefix(shared(prefix)),
                (None, None, Some(suffix), None) => TextMatch::Suffix(shared(suffix)),
                (None, None, None, Some(regex)) => match compiles(regex) {
                    Ok(()) => TextMatch::Regex(shared(regex)),
                    Err(why) => return self.note(&format!("{path}.regex"), why),
                },
                (None, None, None, None) => TextMatch::Present,
                _ => {
                    let why = "must be one of exact, prefix, suffix and regex";
                    return self.note(path, why);
                }
            },
        )
    }
}
