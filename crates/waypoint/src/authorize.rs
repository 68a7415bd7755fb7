//! What policies are asked about a connection or a request, and what their answers mean for it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use tulle_model::{ServiceKey, Workload};
use tulle_policy::Target;
use tulle_policy::http::{Cause, Headers, Http, Note, Request};

use crate::inbound::{Client, Via};
use crate::state::Snapshot;
use crate::worker::Shared;

/// What policies may be attached to, for something that `client` sends.
pub(crate) fn targets(client: &Client, service: Option<&ServiceKey>) -> Vec<Target> {
    let mut targets = vec![Target::Gateway(client.gateway.clone())];
    if let Via::Waypoint(_) = client.via {
        targets.extend(service.cloned().map(Target::Service));
        targets.push(Target::Waypoints);
    }
    targets
}

/// The question that policies answer.
pub(crate) fn question<'a>(
    client: &'a Client,
    remote: IpAddr,
    http: Option<Http<'a>>,
) -> Request<'a> {
    Request {
        source: client.peer.as_ref(),
        source_ip: client.source.ip(),
        remote_ip: remote,
        destination: client.local,
        sni: client.server_name.as_deref(),
        http,
    }
}

/// The client's workload, if the one at its address is who its certificate says.
pub(crate) fn workload<'s>(
    snapshot: &'s Snapshot,
    network: &Arc<str>,
    client: &Client,
) -> Option<&'s Arc<Workload>> {
    let at = snapshot.mesh.workload_at(network, client.source.ip())?;
    let fits = match &client.peer {
        Some(peer) => at.identity() == *peer,
        None => true,
    };
    fits.then_some(at)
}

/// Headers as policies see them.
pub(crate) struct Seen<'a>(pub(crate) &'a HeaderMap);

impl Headers for Seen<'_> {
    fn joined(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self.0.get_all(name).iter().map(|v| v.as_bytes());
        let first = values.next()?;
        let mut joined = Cow::Borrowed(first);
        for value in values {
            let all = joined.to_mut();
            all.push(b',');
            all.extend_from_slice(value);
        }
        Some(joined)
    }
}

/// In the access log, in Envoy's words: which policy and rule refused.
pub(crate) fn details(cause: &Cause) -> Arc<str> {
    let named = |policy: &str, rule: &str| {
        let (namespace, name) = policy.split_once('/').unwrap_or(("", policy));
        format!("rbac_access_denied_matched_policy[ns[{namespace}]-policy[{name}]-rule[{rule}]]")
    };
    match cause {
        Cause::Rule { policy, rule } => named(policy, &rule.to_string()),
        Cause::Unenforceable { policy, .. } => named(policy, "unenforceable"),
        Cause::NoAllow { .. } => "rbac_access_denied_matched_policy[none]".to_owned(),
    }
    .into()
}

/// In metrics: a provider said no.
pub(crate) const PROVIDER_DENIED: &str = "denied_by_provider";
/// In metrics: a provider said nothing, and the request was refused.
pub(crate) const PROVIDER_SILENT: &str = "provider_gave_no_answer";
/// In metrics: a provider said nothing, and the request passed (`failOpen`).
pub(crate) const PROVIDER_PASSED: &str = "passed_without_an_answer";
/// In metrics: the request's token is no use.
pub(crate) const TOKEN_REFUSED: &str = "token_refused";

/// Counts a refusal under the policies that it is due to.
pub(crate) fn refused(shared: &Shared, cause: &Cause) {
    match cause {
        Cause::Rule { policy, .. } => shared.decisions.with(&[policy, "denied"]).inc(),
        Cause::Unenforceable { policy, .. } => {
            shared.decisions.with(&[policy, "not_understood"]).inc();
        }
        Cause::NoAllow { considered } => considered
            .iter()
            .for_each(|policy| shared.decisions.with(&[policy, "not_allowed"]).inc()),
    }
}

/// What dry-run and AUDIT policies would have done: in the process log and in metrics. `what` says what was asked for.
pub(crate) fn note(shared: &Shared, client: &Client, what: &str, notes: &[Note]) {
    for note in notes {
        let identity = client.peer.as_ref().map(ToString::to_string);
        tracing::info!(source = %client.source, identity, destination = %client.local, request = what, "{note}");
        shared.decisions.with(&[&note.policy, note.result()]).inc();
    }
}
