//! What a connection leaves in metrics and log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tulle_model::{Identity, Service, Workload};
use tulle_telemetry::{
    AccessLog, AccessRecord, ConnectionEnds, ConnectionSeries, Event, Peer, Reporter,
    SecurityPolicy, Shard,
};

use crate::error::Failure;

/// What is known of a connection once its route is.
pub(crate) struct Known<'a> {
    pub(crate) reporter: Reporter,
    pub(crate) source: (SocketAddr, Option<&'a Arc<Workload>>),
    /// Proved by TLS, or used for it.
    pub(crate) source_identity: Option<&'a Identity>,
    pub(crate) destination: (SocketAddr, Option<&'a Arc<Workload>>),
    pub(crate) destination_identity: Option<&'a Identity>,
    pub(crate) service: Option<&'a Arc<Service>>,
    /// Authority of the CONNECT, for connections in a tunnel.
    pub(crate) authority: Option<Arc<str>>,
}

/// An opened connection; [`Report::end`] is to be called in any case.
pub(crate) struct Report {
    began: Instant,
    record: AccessRecord,
    series: Arc<ConnectionSeries>,
}

impl Report {
    /// Counts a connection as opened.
    pub(crate) fn open(shard: &Shard, began: Instant, known: Known<'_>) -> Self {
        let security = if known.authority.is_some() {
            SecurityPolicy::MutualTls
        } else {
            SecurityPolicy::Unknown
        };
        let series = shard.series(&ConnectionEnds {
            reporter: known.reporter,
            source: known.source.1,
            source_principal: known.source_identity,
            destination: known.destination.1,
            service: known.service,
            security,
        });
        series.open();
        shard.sockets(known.reporter, 1);
        let record = record(known);
        if AccessLog.wants(Event::Opened, false) {
            AccessLog.write(AccessRecord {
                time: SystemTime::now(),
                ..record.clone()
            });
        }
        Self {
            began,
            record,
            series,
        }
    }

    pub(crate) fn series(&self) -> &Arc<ConnectionSeries> {
        &self.series
    }

    /// Counts and logs the end; `received` is client to server, `sent` server to client.
    pub(crate) fn end(
        self,
        shard: &Shard,
        (received, sent): (u64, u64),
        failure: Option<&Failure>,
    ) {
        match failure {
            None => self.series.close(),
            Some(failure) => self.series.fail(failure.flags()),
        }
        shard.sockets(self.record.reporter, -1);
        if !AccessLog.wants(Event::Complete, failure.is_some()) {
            return;
        }
        // The log takes the reporting workload's point of view.
        let (bytes_sent, bytes_received) = match self.record.reporter {
            Reporter::Source => (received, sent),
            Reporter::Destination | Reporter::Waypoint => (sent, received),
        };
        AccessLog.write(AccessRecord {
            time: SystemTime::now(),
            event: Event::Complete,
            bytes_sent,
            bytes_received,
            duration: self.began.elapsed(),
            error: failure.map(|f| f.to_string().into()),
            ..self.record
        });
    }
}

fn record(known: Known<'_>) -> AccessRecord {
    let (source, source_workload) = known.source;
    let (destination, destination_workload) = known.destination;
    AccessRecord {
        time: SystemTime::UNIX_EPOCH,
        event: Event::Opened,
        source: Peer {
            address: source,
            workload: source_workload.cloned(),
            identity: known.source_identity.cloned(),
        },
        destination: Peer {
            address: destination,
            workload: destination_workload.cloned(),
            identity: known.destination_identity.cloned(),
        },
        hbone: known.authority,
        service: known.service.cloned(),
        reporter: known.reporter,
        bytes_sent: 0,
        bytes_received: 0,
        duration: std::time::Duration::ZERO,
        error: None,
    }
}

/// A connection that failed before its route was known: a warning, no metric.
pub(crate) fn early_failure(
    reporter: Reporter,
    source: SocketAddr,
    destination: SocketAddr,
    failure: &Failure,
) {
    if !AccessLog.wants(Event::Failed, true) {
        return;
    }
    let mut record = record(Known {
        reporter,
        source: (source, None),
        source_identity: None,
        destination: (destination, None),
        destination_identity: None,
        service: None,
        authority: None,
    });
    record.time = SystemTime::now();
    record.event = Event::Failed;
    record.error = Some(failure.to_string().into());
    AccessLog.write(record);
}
