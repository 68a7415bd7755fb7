//! What connections leave behind of which only bytes are known.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tulle_model::{Service, Workload};
use tulle_telemetry::{
    ConnectionEnds, ConnectionSeries, Flags, RequestRecord, ResponseFlags, SecurityPolicy,
};

use super::counting::{CONNECTIONS, Counting, counting};
use super::logs::To;
use super::{attributes, peer, wanted};
use crate::authorize;
use crate::destination::Hop;
use crate::inbound::{Client, Via};
use crate::otlp::LogLine;
use crate::state::Snapshot;
use crate::stream::reporter;
use crate::worker::Worker;

/// What was found out on the way.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) service: Option<&'a Arc<Service>>,
    pub(crate) workload: Option<&'a Arc<Workload>>,
    pub(crate) hop: Option<&'a Hop>,
    pub(crate) cluster: Option<&'a Arc<str>>,
    pub(crate) route: Option<&'a Arc<str>>,
}

/// The series that a connection is counted in: one, unless users changed its labels.
pub(crate) struct Series(Vec<Arc<ConnectionSeries>>);

impl Series {
    pub(crate) fn of(
        worker: &Worker,
        snapshot: &Snapshot,
        client: &Client,
        known: Known<'_>,
    ) -> Self {
        let shared = &worker.shared;
        let (source, principal) = match client.via {
            Via::Waypoint(_) => (
                authorize::workload(snapshot, &shared.network, client),
                client.peer.as_ref(),
            ),
            Via::Listener { .. } => (
                snapshot.own.workload.as_ref(),
                Some(&shared.options.identity),
            ),
        };
        let mutual = client.peer.is_some() || matches!(known.hop, Some(Hop::Tunnel { .. }));
        let ends = ConnectionEnds {
            reporter: reporter(client),
            source,
            source_principal: principal,
            destination: known.workload,
            service: known.service,
            security: if mutual {
                SecurityPolicy::MutualTls
            } else {
                SecurityPolicy::Unknown
            },
        };
        let seen = attributes::Connection {
            client,
            known,
            source,
            moved: (0, 0),
        };
        let telemetry = snapshot.telemetry(&client.gateway);
        let observe = telemetry.map(|telemetry| wanted(telemetry, known.service));
        let counting = observe.map_or(Counting::Plain, |observe| {
            counting(&observe.metrics, &CONNECTIONS, snapshot, &seen)
        });
        let shard = &worker.connections;
        Self(match counting {
            Counting::Plain => vec![shard.series(&ends)],
            Counting::Edited(all) => {
                let all = all.iter();
                all.map(|edits| shard.edited_series(&ends, edits)).collect()
            }
        })
    }

    pub(crate) fn open(&self) {
        self.0.iter().for_each(|series| series.open());
    }

    pub(crate) fn close(&self) {
        self.0.iter().for_each(|series| series.close());
    }

    pub(crate) fn fail(&self, flags: ResponseFlags) {
        self.0.iter().for_each(|series| series.fail(flags));
    }

    pub(crate) fn bytes(&self, received: u64, sent: u64) {
        self.0
            .iter()
            .for_each(|series| series.bytes(received, sent));
    }
}

/// What is known of a connection at its end.
pub(crate) struct Line<'a> {
    pub(crate) start: SystemTime,
    pub(crate) duration: Duration,
    pub(crate) known: Known<'a>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) flags: Flags,
    pub(crate) details: Option<Arc<str>>,
    pub(crate) upstream_failure: Option<Arc<str>>,
}

/// A connection's lines in the access log.
pub(crate) fn connection(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    client: &Client,
    line: &Line<'_>,
) {
    let telemetry = snapshot.telemetry(&client.gateway);
    let observe = telemetry.map(|telemetry| wanted(telemetry, line.known.service));
    let logs = observe.map(|o| &o.access_logs[..]).unwrap_or_default();
    for wanted in logs {
        let Some(log) = snapshot.logs.get(&wanted.provider) else {
            continue;
        };
        let seen = attributes::Connection {
            client,
            known: line.known,
            source: authorize::workload(snapshot, &worker.shared.network, client),
            moved: (line.received, line.sent),
        };
        let filter = wanted.filter.as_ref();
        // One that cannot be parsed filters nothing out.
        let filter = filter.and_then(|text| snapshot.expressions.get(text));
        if filter.is_some_and(|filter| !filter.holds(&seen)) {
            continue;
        }
        let record = record(client, line, log.format.clone());
        match &log.to {
            To::Collector(name) => worker
                .exports
                .log(worker, snapshot, name, LogLine::of(&record)),
            To::Stdout | To::Attribute(_) => record.write(),
        }
    }
}

fn record(
    client: &Client,
    line: &Line<'_>,
    format: Arc<tulle_telemetry::RequestFormat>,
) -> RequestRecord {
    RequestRecord {
        format,
        start: line.start,
        request: Vec::new(),
        response: Vec::new(),
        protocol: "",
        code: 0,
        flags: line.flags,
        details: line.details.clone(),
        termination: None,
        upstream_failure: line.upstream_failure.clone(),
        bytes_received: line.received,
        bytes_sent: line.sent,
        duration: line.duration,
        upstream_time: None,
        upstream_host: line.known.hop.and_then(Hop::address),
        upstream_cluster: line.known.cluster.cloned(),
        upstream_local: None,
        downstream_local: Some(client.local),
        downstream_remote: Some(client.source),
        server_name: client.server_name.clone(),
        route: line.known.route.cloned(),
        peer: peer(client),
        grpc_status: None,
        trace: None,
    }
}
