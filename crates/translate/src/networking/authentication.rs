//! RequestAuthentication for waypoints and gateways.

use std::sync::Arc;
use std::time::Duration;

use tulle_api::security::JwtRule as ApiRule;
use tulle_policy::jwt::{Authentication, ClaimHeader, JwtRule, Keys, TokenHeader};

use super::authorization::brackets;
use super::findings::{listed, shown};
use super::names::duration;
use super::{Name, targets};
use crate::cluster::{Cluster, Outputs, Value};
use crate::condition::ObjectKind;
use crate::resource::Resource;

/// Time to fetch keys, when the user does not say.
const FETCH: Duration = Duration::from_secs(5);

impl Cluster {
    /// The resource and the condition of one object.
    pub(super) fn authentication(&self, name: &Name) -> Option<Outputs> {
        self.is_discovered(&name.0).then_some(())?;
        let object = self.networking.authentications.get(name)?;
        let spec = &object.spec;
        let references = targets::both(spec.target_ref.as_ref(), &spec.target_refs);
        let mut attachment = if references.is_empty() {
            self.attach_by_selector(name, spec.selector.as_ref())
        } else {
            self.attach_references(name, &references)
        };
        if references.is_empty() && attachment.bound.is_empty() {
            attachment.missing.push((
                crate::condition::reason::ANCESTOR_NOT_BOUND,
                "ztunnel does not look at requests, and no gateway is selected: use targetRefs for waypoints".to_owned(),
            ));
        }
        let mut problems = Vec::new();
        let rules = spec
            .jwt_rules
            .iter()
            .enumerate()
            .map(|(at, rule)| self::rule(at, rule, &mut problems))
            .collect();
        let invalid = (!problems.is_empty()).then(|| listed(&problems));
        let why = invalid.as_ref().map(|why| {
            format!("{why}; until it is corrected, every request to its targets is refused")
        });
        let condition = attachment.condition(why, &[], object.generation);
        let mut outputs = vec![super::conditions(
            ObjectKind::RequestAuthentication,
            name,
            vec![condition],
        )];
        if !attachment.targets.is_empty() {
            let resource = Authentication {
                name: format!("{}/{}", name.0, name.1).into(),
                targets: attachment.targets.clone(),
                rules,
                unenforceable: invalid.map(Arc::from),
            };
            outputs.push(Value::resource(
                attachment.audience(),
                Resource::Authentication(Box::new(resource)),
            ));
        }
        Some(outputs)
    }
}

fn rule(at: usize, rule: &ApiRule, problems: &mut Vec<String>) -> JwtRule {
    let path = format!("spec.jwtRules[{at}]");
    if rule.issuer.is_empty() {
        problems.push(format!("{path}.issuer: must not be empty"));
    }
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let keys = match (
        text(&rule.jwks),
        text(&rule.jwks_uri).or_else(|| text(&rule.jwks_uri_snake)),
    ) {
        (Some(jwks), _) => {
            if serde_json::from_str::<serde_json::Value>(&jwks).is_err() {
                problems.push(format!("{path}.jwks: is no JSON"));
            }
            Keys::Inline(jwks.into())
        }
        (None, Some(uri)) => {
            if !(uri.starts_with("https://") || uri.starts_with("http://")) {
                problems.push(format!(
                    "{path}.jwksUri: {:?} is neither http nor https",
                    shown(&uri)
                ));
            }
            Keys::Uri(uri.into())
        }
        (None, None) => Keys::Discovery,
    };
    let timeout = match rule.timeout.as_deref() {
        None => FETCH,
        Some(text) => duration(text).unwrap_or_else(|| {
            problems.push(format!("{path}.timeout: {:?} is no time span", shown(text)));
            FETCH
        }),
    };
    let shared = |texts: &[String]| -> Vec<Arc<str>> {
        texts.iter().map(|text| text.as_str().into()).collect()
    };
    let header = |name: &str| -> Arc<str> { name.to_ascii_lowercase().into() };
    let from_headers = rule.from_headers.iter().map(|h| TokenHeader {
        name: header(&h.name),
        prefix: h.prefix.as_deref().unwrap_or_default().into(),
    });
    let claim_headers = rule.output_claim_to_headers.iter().map(|c| ClaimHeader {
        header: header(&c.header),
        claim: claim_path(&c.claim),
    });
    JwtRule {
        issuer: rule.issuer.as_str().into(),
        audiences: shared(&rule.audiences),
        keys,
        from_headers: from_headers.collect(),
        from_params: shared(&rule.from_params),
        from_cookies: shared(&rule.from_cookies),
        forward: rule.forward_original_token.unwrap_or_default(),
        payload_header: text(&rule.output_payload_to_header).map(|name| header(&name)),
        claim_headers: claim_headers.collect(),
        space_delimited: shared(&rule.space_delimited_claims),
        timeout,
    }
}

/// `a.b` or `[a][b]`.
pub(super) fn claim_path(text: &str) -> Vec<Arc<str>> {
    match brackets(text) {
        Some(parts) => parts.into_iter().map(Arc::from).collect(),
        None => text.split('.').map(Arc::from).collect(),
    }
}
