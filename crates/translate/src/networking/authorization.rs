//! AuthorizationPolicy for waypoints and gateways: all of it, requests included.
//!
//! Policies with `targetRefs` are for waypoints and gateways alone. Those with a selector, or none, are ztunnel's, and also count
//! on gateways whose pods they select. What cannot be understood makes the policy refuse what it is attached to.

use std::sync::Arc;

use tulle_api::security::{self as api, AuthorizationPolicySpec, Operation, Source};
use tulle_policy::http::{
    Action, Clause, HttpPolicy, Match, NetAttribute, PathMatch, PathTemplate, Rule, Test,
    TextAttribute, TextMatch,
};
use tulle_route::canonical;

use super::findings::{listed, shown};
use super::{Authorization, Name, targets};
use crate::authorization::{account, net, port};
use crate::cluster::{Cluster, Key, Value};
use crate::condition::{Condition, ObjectKind, ObjectRef};
use crate::resource::Resource;

impl Cluster {
    /// The policy of waypoints and gateways, and the condition of one with references.
    pub(crate) fn http_authorization(
        &self,
        name: &Name,
    ) -> (Option<(Key, Value)>, Option<Condition>) {
        let Some(Authorization { object, dry_run }) = self.networking.authorizations.get(name)
        else {
            return (None, None);
        };
        let spec = &object.spec;
        let references = targets::both(spec.target_ref.as_ref(), &spec.target_refs);
        let attachment = if references.is_empty() {
            self.attach_by_selector(name, spec.selector.as_ref())
        } else {
            self.attach_references(name, &references)
        };
        let mut problems = Vec::new();
        let action = self.action(spec, &mut problems);
        let mut translate = Translate {
            cluster: self,
            namespace: &name.0,
            custom: matches!(action, Action::Custom { .. }),
            problems,
        };
        let rules = spec
            .rules
            .iter()
            .flatten()
            .enumerate()
            .map(|(at, rule)| translate.rule(at, rule));
        let rules: Vec<Rule> = rules.collect();
        let mut problems = translate.problems;
        problems.extend(
            spec.unknown
                .keys()
                .map(|name| format!("spec: unknown field {}", shown(name))),
        );
        let invalid = (!problems.is_empty()).then(|| listed(&problems));
        let condition = (!references.is_empty()
            || (self.is_gateway_only(spec) && !attachment.bound.is_empty()))
        .then(|| {
            let effect = match action {
                Action::Allow => "until it is corrected, it allows nothing",
                Action::Deny | Action::Custom { .. } => {
                    "until it is corrected, it refuses every request to its targets"
                }
                Action::Audit => "until it is corrected, it notes nothing",
            };
            let why = invalid.as_ref().map(|why| format!("{why}; {effect}"));
            attachment.condition(why, &[], object.generation)
        });
        let policy = (!attachment.targets.is_empty()).then(|| {
            let policy = HttpPolicy {
                name: format!("{}/{}", name.0, name.1).into(),
                targets: attachment.targets.clone(),
                action,
                dry_run: *dry_run,
                rules,
                unenforceable: invalid.map(Arc::from),
            };
            Value::resource(
                attachment.audience(),
                Resource::HttpPolicy(Box::new(policy)),
            )
        });
        (policy, condition)
    }

    /// Actions that ztunnel does not know.
    fn is_gateway_only(&self, spec: &AuthorizationPolicySpec) -> bool {
        matches!(spec.action, Some(api::Action::Audit | api::Action::Custom))
    }

    fn action(&self, spec: &AuthorizationPolicySpec, problems: &mut Vec<String>) -> Action {
        match spec.action.unwrap_or_default() {
            api::Action::Allow => Action::Allow,
            api::Action::Deny => Action::Deny,
            api::Action::Audit => Action::Audit,
            api::Action::Custom => {
                let name = spec
                    .provider
                    .as_ref()
                    .map(|provider| provider.name.as_str())
                    .unwrap_or_default();
                if !self.settings.is_authorizer(name) {
                    let why = "extensionProviders of the mesh configuration have no envoyExtAuthzHttp or envoyExtAuthzGrpc of that name";
                    problems.push(format!("spec.provider.name {:?}: {why}", shown(name)));
                }
                Action::Custom {
                    provider: name.into(),
                }
            }
            api::Action::Unknown => {
                problems.push("action: not known".to_owned());
                Action::Deny
            }
        }
    }

    /// Key of the conditions of an AuthorizationPolicy.
    pub(crate) fn authorization_object(name: &Name) -> ObjectRef {
        ObjectRef {
            kind: ObjectKind::AuthorizationPolicy,
            namespace: name.0.clone(),
            name: name.1.clone(),
        }
    }
}

struct Translate<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    /// Asked before tokens are verified.
    custom: bool,
    problems: Vec<String>,
}

/// A field and its negation.
type Twins<'a> = (&'static str, &'a [String], &'a [String]);

impl Translate<'_> {
    fn rule(&mut self, at: usize, rule: &api::Rule) -> Rule {
        let path = format!("spec.rules[{at}]");
        self.unknown(&path, &rule.unknown);
        let mut clauses = Vec::new();
        if !rule.from.is_empty() {
            let mut any = Vec::with_capacity(rule.from.len());
            for from in &rule.from {
                self.unknown(&path, &from.unknown);
                let empty = Source::default();
                any.push(self.source(&path, from.source.as_ref().unwrap_or(&empty)));
            }
            clauses.push(Clause { any });
        }
        if !rule.to.is_empty() {
            let mut any = Vec::with_capacity(rule.to.len());
            for to in &rule.to {
                self.unknown(&path, &to.unknown);
                let empty = Operation::default();
                any.push(self.operation(&path, to.operation.as_ref().unwrap_or(&empty)));
            }
            clauses.push(Clause { any });
        }
        for when in &rule.when {
            self.unknown(&path, &when.unknown);
            let all = self.condition(&path, when);
            clauses.push(Clause {
                any: vec![Match { all }],
            });
        }
        Rule { clauses }
    }

    fn source(&mut self, path: &str, s: &Source) -> Match {
        let path = format!("{path}.from.source");
        self.unknown(&path, &s.unknown);
        let mut all = Vec::new();
        let principals = self.texts(&path, ("principals", &s.principals, &s.not_principals));
        all.extend(principals.map(|(values, not)| self.principal(values, not)));
        if !(s.request_principals.is_empty() && s.not_request_principals.is_empty()) {
            self.needs_token(&path);
        }
        let fields: [(TextAttribute, Twins<'_>); 3] = [
            (
                TextAttribute::RequestPrincipal,
                (
                    "requestPrincipals",
                    &s.request_principals,
                    &s.not_request_principals,
                ),
            ),
            (
                TextAttribute::Namespace,
                ("namespaces", &s.namespaces, &s.not_namespaces),
            ),
            (
                TextAttribute::TrustDomain,
                ("trustDomains", &s.trust_domains, &s.not_trust_domains),
            ),
        ];
        for (attribute, twins) in fields {
            let texts = self.texts(&path, twins);
            all.extend(texts.map(|(values, not)| Test::Text {
                attribute,
                values,
                not,
            }));
        }
        all.extend(self.nets(
            &path,
            NetAttribute::Source,
            ("ipBlocks", &s.ip_blocks, &s.not_ip_blocks),
        ));
        let remote = (
            "remoteIpBlocks",
            &s.remote_ip_blocks[..],
            &s.not_remote_ip_blocks[..],
        );
        all.extend(self.nets(&path, NetAttribute::Remote, remote));
        all.extend(self.accounts(
            &path,
            (
                "serviceAccounts",
                &s.service_accounts,
                &s.not_service_accounts,
            ),
        ));
        self.not_empty(&path, &all);
        Match { all }
    }

    fn operation(&mut self, path: &str, o: &Operation) -> Match {
        let path = format!("{path}.to.operation");
        self.unknown(&path, &o.unknown);
        let mut all = Vec::new();
        let fields: [(TextAttribute, Twins<'_>); 2] = [
            (TextAttribute::Host, ("hosts", &o.hosts, &o.not_hosts)),
            (
                TextAttribute::Method,
                ("methods", &o.methods, &o.not_methods),
            ),
        ];
        for (attribute, twins) in fields {
            let texts = self.texts(&path, twins);
            all.extend(texts.map(|(values, not)| Test::Text {
                attribute,
                values,
                not,
            }));
        }
        if !(o.paths.is_empty() && o.not_paths.is_empty()) {
            let values = self.all(&path, "paths", &o.paths, path_match);
            let not = self.all(&path, "notPaths", &o.not_paths, path_match);
            all.push(Test::Path { values, not });
        }
        all.extend(self.ports(&path, ("ports", &o.ports, &o.not_ports)));
        self.not_empty(&path, &all);
        Match { all }
    }

    fn condition(&mut self, path: &str, when: &api::Condition) -> Vec<Test> {
        let path = format!("{path}.when[{}]", shown(&when.key));
        let twins: Twins<'_> = ("values", &when.values, &when.not_values);
        if when.values.is_empty() && when.not_values.is_empty() {
            self.problems
                .push(format!("{path}: has neither values nor notValues"));
        }
        let test = match when.key.as_str() {
            "source.ip" => self.nets(&path, NetAttribute::Source, twins),
            "remote.ip" => self.nets(&path, NetAttribute::Remote, twins),
            "destination.ip" => self.nets(&path, NetAttribute::Destination, twins),
            "destination.port" => self.ports(&path, twins),
            "source.serviceAccount" => self.accounts(&path, twins),
            "source.principal" => {
                let texts = self.texts(&path, twins);
                texts.map(|(values, not)| self.principal(values, not))
            }
            key => match attribute(key) {
                Some(attribute) => {
                    if is_of_token(&attribute) {
                        self.needs_token(&path);
                    }
                    let texts = self.texts(&path, twins);
                    texts.map(|(values, not)| Test::Text {
                        attribute,
                        values,
                        not,
                    })
                }
                None => {
                    self.problems.push(format!("{path}: not known"));
                    None
                }
            },
        };
        test.into_iter().collect()
    }

    /// Identities of older trust domains mean the same.
    fn principal(&self, values: Vec<TextMatch>, not: Vec<TextMatch>) -> Test {
        let settings = &self.cluster.settings;
        let widen = |texts: Vec<TextMatch>| {
            texts
                .into_iter()
                .flat_map(|text| settings.in_all_trust_domains(text))
                .collect()
        };
        Test::Text {
            attribute: TextAttribute::Principal,
            values: widen(values),
            not: widen(not),
        }
    }

    fn texts(
        &mut self,
        path: &str,
        (field, values, not): Twins<'_>,
    ) -> Option<(Vec<TextMatch>, Vec<TextMatch>)> {
        if values.is_empty() && not.is_empty() {
            return None;
        }
        Some((
            self.all(path, field, values, text),
            self.all(path, field, not, text),
        ))
    }

    fn nets(
        &mut self,
        path: &str,
        attribute: NetAttribute,
        (field, values, not): Twins<'_>,
    ) -> Option<Test> {
        if values.is_empty() && not.is_empty() {
            return None;
        }
        let values = self.all(path, field, values, |v| net(v).map_err(str::to_owned));
        let not = self.all(path, field, not, |v| net(v).map_err(str::to_owned));
        Some(Test::Net {
            attribute,
            values,
            not,
        })
    }

    fn ports(&mut self, path: &str, (field, values, not): Twins<'_>) -> Option<Test> {
        if values.is_empty() && not.is_empty() {
            return None;
        }
        let values = self.all(path, field, values, |v| port(v).map_err(str::to_owned));
        let not = self.all(path, field, not, |v| port(v).map_err(str::to_owned));
        Some(Test::Port { values, not })
    }

    fn accounts(&mut self, path: &str, (field, values, not): Twins<'_>) -> Option<Test> {
        if values.is_empty() && not.is_empty() {
            return None;
        }
        let own = self.namespace.to_owned();
        let values = self.all(path, field, values, |v| {
            account(v, &own).map_err(str::to_owned)
        });
        let not = self.all(path, field, not, |v| {
            account(v, &own).map_err(str::to_owned)
        });
        Some(Test::ServiceAccount { values, not })
    }

    fn all<T>(
        &mut self,
        path: &str,
        field: &str,
        values: &[String],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut read = Vec::with_capacity(values.len());
        for value in values {
            match parse(value) {
                Ok(value) => read.push(value),
                Err(why) => self
                    .problems
                    .push(format!("{path}.{field}: {:?} {why}", shown(value))),
            }
        }
        read
    }

    fn unknown(&mut self, path: &str, unknown: &api::Unknown) {
        self.problems.extend(
            unknown
                .keys()
                .map(|name| format!("{path}: unknown field {}", shown(name))),
        );
    }

    fn not_empty(&mut self, path: &str, all: &[Test]) {
        if all.is_empty() {
            self.problems.push(format!("{path}: must have a field"));
        }
    }

    fn needs_token(&mut self, path: &str) {
        if self.custom {
            self.problems.push(format!(
                "{path}: CUSTOM policies come before tokens are verified"
            ));
        }
    }
}

fn text(value: &str) -> Result<TextMatch, String> {
    if value.is_empty() {
        Err("must not be empty".to_owned())
    } else {
        Ok(TextMatch::parse(value))
    }
}

/// In the form that requests are brought into.
fn path_match(value: &str) -> Result<PathMatch, String> {
    let value = &*canonical::literal(value);
    if !PathTemplate::is_meant(value) {
        return text(value).map(PathMatch::Text);
    }
    match PathTemplate::parse(value) {
        Ok(_) => Ok(PathMatch::Template(value.into())),
        Err(why) => Err(why.to_string()),
    }
}

fn is_of_token(attribute: &TextAttribute) -> bool {
    use TextAttribute::{Audience, Claim, Presenter, RequestPrincipal};
    matches!(
        attribute,
        RequestPrincipal | Audience | Presenter | Claim(_)
    )
}

/// Keys of conditions that are texts.
fn attribute(key: &str) -> Option<TextAttribute> {
    Some(match key {
        "source.namespace" => TextAttribute::Namespace,
        "source.trustDomain" => TextAttribute::TrustDomain,
        "request.auth.principal" => TextAttribute::RequestPrincipal,
        "request.auth.audiences" => TextAttribute::Audience,
        "request.auth.presenter" => TextAttribute::Presenter,
        "connection.sni" => TextAttribute::Sni,
        _ => {
            if let Some(rest) = key.strip_prefix("request.headers") {
                let [name]: [String; 1] = brackets(rest)?.try_into().ok()?;
                return Some(TextAttribute::Header(name.to_ascii_lowercase().into()));
            }
            let path = brackets(key.strip_prefix("request.auth.claims")?)?;
            TextAttribute::Claim(path.into_iter().map(Arc::from).collect())
        }
    })
}

/// The texts in `[a][b]`, at least one, none empty.
pub(super) fn brackets(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let parts: Vec<String> = inner.split("][").map(str::to_owned).collect();
    let sound = |part: &String| !part.is_empty() && !part.contains(['[', ']']);
    parts.iter().all(sound).then_some(parts)
}
