//! Spans: one per request at a waypoint, and one more towards the endpoint at a gateway; W3C Trace Context and B3.

mod context;

use std::sync::Arc;

use http::{HeaderMap, header};
use tulle_policy::http::{Action, Found, Note};
use tulle_policy::observe::{CustomTag, Tracing};
use tulle_route::resource::Role;

use crate::destination::Hop;
use crate::exchange::Exchange;
use crate::inbound::Via;
use crate::observe;
use crate::otlp::Ended;
use context::Context;

/// The span of one request.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    context: Context,
    /// Of the span that the client is in.
    parent: Option<u64>,
    /// Towards the endpoint; gateways only.
    upstream: Option<u64>,
    /// Whether and where it is sent.
    providers: Vec<Arc<str>>,
    /// As users ask.
    tags: Vec<(Arc<str>, String)>,
    istio_tags: bool,
    user_agent: String,
}

impl Span {
    /// The trace that the request belongs to.
    pub(crate) fn trace(&self) -> u128 {
        self.context.trace
    }

    /// Of this span.
    pub(crate) fn id(&self) -> u64 {
        self.context.span
    }

    /// One more attribute.
    pub(crate) fn add(&mut self, name: Arc<str>, value: String) {
        self.tags.push((name, value));
    }
}

/// Begins a request's span, and tells the endpoint of it.
pub(crate) fn begin(exchange: &mut Exchange, headers: &mut HeaderMap, tracing: &Tracing) {
    let found = Context::read(headers);
    let parent = found.as_ref().map(|context| context.span);
    let dice: f64 = rand::random_range(0.0..100.0);
    let sampled = match found.as_ref().and_then(|context| context.sampled) {
        Some(decided) => decided,
        None => dice < tracing.sampling,
    };
    let own: u64 = rand::random::<u64>().max(1);
    let gateway = matches!(exchange.client.via, Via::Listener { .. });
    let upstream = gateway.then(|| rand::random::<u64>().max(1));
    let mut context = found.unwrap_or_else(|| Context::new(rand::random::<u128>().max(1)));
    context.span = own;
    context.sampled = Some(sampled);
    if !tracing.propagation_disabled {
        let mut told = context.clone();
        told.span = upstream.unwrap_or(own);
        told.write(headers);
    }
    let reported = sampled && !tracing.report_disabled;
    let tags = match reported {
        true => tags(tracing, headers),
        false => Vec::new(),
    };
    exchange.seen.span = Some(Span {
        context,
        parent,
        upstream,
        providers: match reported {
            true => tracing.providers.clone(),
            false => Vec::new(),
        },
        tags,
        istio_tags: tracing.istio_tags,
        user_agent: match (reported, headers.get(header::USER_AGENT)) {
            (true, Some(agent)) => String::from_utf8_lossy(agent.as_bytes()).into_owned(),
            _ => "-".to_owned(),
        },
    });
}

fn tags(tracing: &Tracing, headers: &HeaderMap) -> Vec<(Arc<str>, String)> {
    let value = |tag: &CustomTag| match tag {
        CustomTag::Literal(text) => Some(text.to_string()),
        CustomTag::Environment { name, default } => {
            Some(std::env::var(&**name).unwrap_or_else(|_| default.to_string()))
        }
        CustomTag::Header { name, default } => {
            let found = headers.get(&**name).and_then(|v| v.to_str().ok());
            found
                .map(str::to_owned)
                .or_else(|| default.as_ref().map(ToString::to_string))
        }
        // They speak of what is known only at the end: the log's formats write them.
        CustomTag::Format(_) => None,
    };
    let all = tracing.tags.iter();
    all.filter_map(|(name, tag)| Some((name.clone(), value(tag)?)))
        .collect()
}

/// A request has ended: its spans go to whom they are for.
pub(crate) fn end(exchange: &Exchange) {
    let Some(span) = &exchange.seen.span else {
        return;
    };
    let worker = &exchange.worker;
    for name in &span.providers {
        for ended in ended(exchange, span) {
            worker.exports.span(worker, &exchange.snapshot, name, ended);
        }
    }
}

fn ended(exchange: &Exchange, span: &Span) -> Vec<Ended> {
    let seen = &exchange.seen;
    let start = exchange.start();
    let end = start + exchange.began.elapsed();
    let service = seen.service.as_ref().or(exchange.service.as_ref());
    let host = service.map(|s| s.hostname.to_string());
    let host = host.unwrap_or_else(|| exchange.client.local.ip().to_string());
    let name = format!("{host}:{}/*", exchange.client.port());
    let failed = seen.code == 0 || seen.code >= 500;
    let server = Ended {
        trace: span.context.trace,
        id: span.context.span,
        parent: span.parent,
        state: span.context.state.clone(),
        name: name.clone(),
        client: false,
        start,
        end,
        attributes: attributes(exchange, span),
        failed,
    };
    let Some(id) = span.upstream else {
        return vec![server];
    };
    let client = Ended {
        id,
        parent: Some(server.id),
        client: true,
        attributes: server.attributes.clone(),
        ..server.clone()
    };
    vec![server, client]
}

fn attributes(exchange: &Exchange, span: &Span) -> Vec<(String, String)> {
    let seen = &exchange.seen;
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    add("component", "proxy".to_owned());
    add("http.method", seen.method.to_string());
    add("http.url", seen.url.clone());
    add("http.status_code", seen.code.to_string());
    add("http.protocol", observe::version(seen.version).to_owned());
    add("response_flags", seen.flags.to_string());
    add("request_size", exchange.request.bytes().to_string());
    add("response_size", exchange.response.bytes().to_string());
    add("peer.address", exchange.client.source.ip().to_string());
    add("guid:x-request-id", seen.request_id.clone());
    add("node_id", exchange.worker.shared.options.node.pod.clone());
    add("downstream_cluster", "-".to_owned());
    add("user_agent", span.user_agent.clone());
    if seen.code == 0 || seen.code >= 500 {
        add("error", "true".to_owned());
    }
    if let Some(cluster) = &seen.cluster {
        add("upstream_cluster", cluster.to_string());
        add("upstream_cluster.name", cluster.to_string());
    }
    if let Some(address) = seen.hop.as_ref().and_then(Hop::address) {
        add("upstream_address", address.to_string());
    }
    if let Some(status) = seen.grpc_status {
        add("grpc.status_code", status.to_string());
    }
    if span.istio_tags {
        istio(exchange, &mut add);
    }
    for note in &seen.notes {
        tried(note, &mut add);
    }
    for (name, value) in &span.tags {
        add(name, value.clone());
    }
    all
}

/// What a dry-run policy would have said, as Istio's spans say it.
fn tried(note: &Note, add: &mut impl FnMut(&str, String)) {
    let (kind, result) = match (&note.action, note.found) {
        (Action::Allow, Found::Rule(_)) => ("allow", "allowed"),
        (Action::Allow, _) => ("allow", "denied"),
        (Action::Deny, _) => ("deny", "denied"),
        (Action::Audit | Action::Custom { .. }, _) => return,
    };
    let (namespace, name) = note.policy.split_once('/').unwrap_or(("", &note.policy));
    let rule = match note.found {
        Found::Rule(rule) => rule.to_string(),
        Found::Nothing => "none".to_owned(),
        Found::Unenforceable => "unenforceable".to_owned(),
    };
    let prefix = format!("istio.authorization.dry_run.{kind}_policy");
    let named = format!("ns[{namespace}]-policy[{name}]-rule[{rule}]");
    add(&format!("{prefix}.name"), named);
    add(&format!("{prefix}.result"), result.to_owned());
}

fn istio(exchange: &Exchange, add: &mut impl FnMut(&str, String)) {
    let snapshot = &exchange.snapshot;
    let own = snapshot.own.workload.as_deref();
    let options = &exchange.worker.shared.options;
    add("istio.cluster_id", options.cluster_id.clone());
    add("istio.mesh_id", options.identity.trust_domain.to_string());
    add("istio.namespace", options.identity.namespace.to_string());
    if let Some(own) = own {
        add("istio.canonical_service", own.canonical_name.to_string());
        add(
            "istio.canonical_revision",
            own.canonical_revision.to_string(),
        );
    }
    let is_waypoint = snapshot
        .gateways
        .get(&exchange.client.gateway)
        .is_some_and(|g| matches!(g.role, Role::Waypoint { .. }));
    if !is_waypoint {
        return;
    }
    let network = &exchange.worker.shared.network;
    let source = crate::authorize::workload(snapshot, network, &exchange.client);
    let ends = [
        ("source", source),
        ("destination", exchange.seen.workload.as_ref()),
    ];
    for (end, workload) in ends {
        let Some(workload) = workload else { continue };
        let kind = workload.kind.as_str();
        for (name, value) in [
            ("workload", &*workload.workload_name),
            ("namespace", &*workload.namespace),
            ("cluster_id", &*workload.cluster),
            ("canonical_service", &*workload.canonical_name),
            ("canonical_revision", &*workload.canonical_revision),
            ("app", &*workload.canonical_name),
            ("version", &*workload.canonical_revision),
            ("workload_type", kind),
            ("instance_name", &*workload.name),
        ] {
            add(&format!("istio.{end}_{name}"), value.to_owned());
        }
    }
}
