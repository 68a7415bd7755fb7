//! One request from its head to the last byte of its answer: what is known of it, and what it leaves in metrics and log.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::request::Parts;
use http::{HeaderMap, Method, Response, Version};
use tulle_http::body::{Body, Counter};
use tulle_http::grpc;
use tulle_http::upgrade::{self, Upgrade};
use tulle_model::{Identity, Service, Workload};
use tulle_policy::Target;
use tulle_policy::http::Note;
use tulle_policy::observe::Telemetry;
use tulle_route::balance::{Active, Permit};
use tulle_route::rate::Room;
use tulle_telemetry::{
    Flag, Flags, Outcome, Reporter, RequestEnds, RequestProtocol, RequestSecurity, TagEdits,
};

use crate::authorize;
use crate::destination::{Destination, Endpoint, Hop};
use crate::inbound::{Client, Via};
use crate::limits::STREAM_IDLE;
use crate::observe::{self, Counting};
use crate::reply::Reply;
use crate::state::Snapshot;
use crate::stream::reporter;
use crate::trace::{self, Span};
use crate::watch::{Messages, watched_request, watched_response};
use crate::worker::{Active as Serving, Worker};

/// One request. Reports itself when it is dropped: with its answer's last byte, or when the client goes away.
pub(crate) struct Exchange {
    pub(crate) worker: Rc<Worker>,
    pub(crate) client: Rc<Client>,
    /// In force for all of the request.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) began: Instant,
    /// The service that was addressed; none at a gateway.
    pub(crate) service: Option<Arc<Service>>,
    /// What users want to see of it.
    pub(crate) telemetry: Option<Arc<Telemetry>>,
    targets: OnceCell<Vec<Target>>,
    pub(crate) grpc: bool,
    pub(crate) seen: Seen,
    pub(crate) request: Rc<Counter>,
    pub(crate) response: Rc<Counter>,
    /// Of gRPC.
    request_messages: Option<Rc<Messages>>,
    pub(crate) response_messages: Messages,
    _serving: Serving,
}

/// A request's head as expressions of users see it.
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

/// What was found out on the way.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// For spans.
    pub(crate) url: String,
    pub(crate) request_id: String,
    pub(crate) span: Option<Span>,
    /// For expressions of users; only where there are any.
    pub(crate) head: Option<Box<Head>>,
    /// Headers that the log shows, by format.
    pub(crate) logged: Vec<observe::Captured>,
    pub(crate) request_head: u64,
    pub(crate) response_head: u64,
    pub(crate) code: u16,
    pub(crate) flags: Flags,
    pub(crate) details: Option<Arc<str>>,
    pub(crate) upstream_failure: Option<Arc<str>>,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) workload: Option<Arc<Workload>>,
    pub(crate) hop: Option<Hop>,
    pub(crate) cluster: Option<Arc<str>>,
    /// What dry-run and AUDIT policies said.
    pub(crate) notes: Vec<Note>,
    /// Where a route led to: metrics speak of this one.
    pub(crate) service: Option<Arc<Service>>,
    pub(crate) route: Option<Arc<str>>,
    pub(crate) upstream_time: Option<Duration>,
    /// The client that trusted proxies speak for.
    pub(crate) remote: Option<std::net::IpAddr>,
    /// Held until the answer is complete: the endpoint is busy, the destination's limits are used.
    pub(crate) held: Option<(Active, Option<Permit>)>,
    /// The two ends of a connection that becomes something else.
    pub(crate) joined: Option<(Upgrade, Upgrade)>,
    /// What the rate limits leave to the client, where there are any.
    pub(crate) room: Option<Room>,
    /// The answer is complete.
    pub(crate) whole: bool,
}

impl Exchange {
    /// On the heap, as it is large and goes from hand to hand.
    pub(crate) fn begin(worker: &Rc<Worker>, client: &Rc<Client>, head: &Parts) -> Box<Self> {
        let snapshot = worker.shared.state.load();
        let service = match &client.via {
            Via::Waypoint(target) => target.service().cloned(),
            Via::Listener { .. } => None,
        };
        let grpc = grpc::is_grpc(&head.headers);
        let mut this = Box::new(Self {
            telemetry: snapshot.telemetry(&client.gateway).cloned(),
            targets: OnceCell::new(),
            grpc,
            worker: worker.clone(),
            client: client.clone(),
            began: Instant::now(),
            seen: Seen {
                version: head.version,
                method: head.method.clone(),
                request_head: head_size(&head.headers)
                    + head.uri.path_and_query().map_or(1, |p| p.as_str().len()) as u64
                    + head.method.as_str().len() as u64,
                ..Seen::default()
            },
            request: Rc::default(),
            response: Rc::default(),
            request_messages: grpc.then(Rc::default),
            response_messages: Messages::default(),
            _serving: worker.active(),
            service,
            snapshot,
        });
        this.seen.logged = observe::captures(&this, head);
        if observe::looks_at_heads(&this) {
            let target = head.uri.path_and_query();
            this.seen.head = Some(Box::new(Head {
                method: head.method.clone(),
                target: target.map_or("/", |t| t.as_str()).to_owned(),
                headers: head.headers.clone(),
            }));
        }
        this
    }

    /// Counts a request's body.
    pub(crate) fn watch_request(&self, body: Body) -> Body {
        let body = body.counted(&self.request);
        match &self.request_messages {
            Some(messages) => watched_request(body, messages),
            None => body,
        }
    }

    /// When it began, by the clock on the wall.
    pub(crate) fn start(&self) -> SystemTime {
        let now = SystemTime::now();
        now.checked_sub(self.began.elapsed()).unwrap_or(now)
    }

    /// What policies may be attached to.
    pub(crate) fn targets(&self) -> &[Target] {
        self.targets.get_or_init(|| {
            let key = self.service.as_ref().map(|s| s.key());
            authorize::targets(&self.client, key.as_ref())
        })
    }

    /// The next hop is known.
    pub(crate) fn reached(&mut self, destination: &Arc<Destination>, endpoint: &Endpoint) {
        self.seen.cluster = Some(destination.cluster.clone());
        self.seen.service = Some(destination.service.clone());
        self.at(endpoint);
    }

    /// The endpoint is known.
    pub(crate) fn at(&mut self, endpoint: &Endpoint) {
        self.seen.workload.clone_from(&endpoint.workload);
        self.seen.hop = Some(endpoint.hop.clone());
    }

    /// An answer that is made here.
    pub(crate) fn reply(&mut self, reply: Reply) -> Response<Body> {
        if let Some(flag) = reply.flag {
            self.seen.flags.set(flag);
        }
        self.seen.details = Some(reply.details.clone());
        self.seen
            .upstream_failure
            .clone_from(&reply.upstream_failure);
        reply.into_response(self.grpc)
    }

    /// The answer goes out; when its last byte has, so does the report.
    pub(crate) fn finish(mut self: Box<Self>, response: Response<Body>) -> Response<Body> {
        self.seen.code = response.status().as_u16();
        self.seen.response_head = head_size(response.headers());
        if let Some(code) = status_of(response.headers()) {
            self.seen.grpc_status = Some(code);
        }
        observe::captured_response(&mut self.seen.logged, response.headers());
        if let Some((client, endpoint)) = self.seen.joined.take() {
            tokio::task::spawn_local(self.join(client, endpoint));
            return response;
        }
        let counter = self.response.clone();
        response.map(move |body| watched_response(body.counted(&counter), self))
    }

    /// From here on there are only bytes.
    async fn join(mut self: Box<Self>, client: Upgrade, endpoint: Upgrade) {
        let both = async { tokio::try_join!(client.stream(), endpoint.stream()) };
        match both.await {
            Ok((client, endpoint)) => {
                let (up, down) = (self.request.clone(), self.response.clone());
                let spliced = upgrade::splice(client, endpoint, &up, &down, Some(STREAM_IDLE));
                if let Err(error) = spliced.await {
                    tracing::debug!(source = %self.client.source, %error, "an upgraded connection");
                }
            }
            Err(error) => tracing::debug!(source = %self.client.source, %error, "an upgrade"),
        }
        self.seen.whole = true;
    }

    /// Who is at the two ends, to metrics.
    fn ends<'a>(&'a self, own: Option<&'a Arc<Workload>>, identity: &'a Identity) -> Ends<'a> {
        let waypoint = matches!(self.client.via, Via::Waypoint(_));
        let network = &self.worker.shared.network;
        let (source, source_principal) = if waypoint {
            let source = authorize::workload(&self.snapshot, network, &self.client);
            (source, self.client.peer.as_ref())
        } else {
            (own, Some(identity))
        };
        let mutual = match (waypoint, &self.seen.hop) {
            (true, _) => self.client.peer.is_some(),
            (false, hop) => matches!(hop, Some(Hop::Tunnel { .. })),
        };
        Ends {
            reporter: reporter(&self.client),
            source,
            source_principal,
            security: match (mutual, waypoint) {
                (true, _) => RequestSecurity::MutualTls,
                (false, true) => RequestSecurity::None,
                (false, false) => RequestSecurity::Unknown,
            },
        }
    }

    fn report(&mut self) {
        let shared = self.worker.shared.clone();
        if !self.seen.whole && self.seen.code == 0 {
            self.seen.flags.set(Flag::DownstreamTermination);
            self.seen.details = Some("downstream_remote_disconnect".into());
        } else if !self.seen.whole && self.seen.flags.is_empty() {
            self.seen.flags.set(Flag::DownstreamTermination);
        }
        let outcome = Outcome {
            code: self.seen.code,
            grpc_status: self.seen.grpc_status,
            flags: self.seen.flags,
        };
        let ends = self.ends(
            self.snapshot.own.workload.as_ref(),
            &shared.options.identity,
        );
        let proved = match (&self.seen.hop, &self.seen.workload) {
            (Some(Hop::Tunnel { .. }), Some(workload)) => Some(workload.identity()),
            _ => None,
        };
        let duration = self.began.elapsed();
        let request_bytes = self.seen.request_head + self.request.bytes();
        let response_bytes = self.seen.response_head + self.response.bytes();
        let counting = observe::counting(self, duration);
        let count = |edits: Option<&Arc<TagEdits>>| {
            let series = self.worker.requests.series(
                &RequestEnds {
                    reporter: ends.reporter,
                    source: ends.source,
                    source_principal: ends.source_principal,
                    destination: self.seen.workload.as_ref(),
                    destination_principal: proved.as_ref(),
                    service: self.seen.service.as_ref().or(self.service.as_ref()),
                    special: None,
                    protocol: if self.grpc {
                        RequestProtocol::Grpc
                    } else {
                        RequestProtocol::Http
                    },
                    security: ends.security,
                    edits,
                },
                outcome,
            );
            series.request(duration, request_bytes, response_bytes);
            if let Some(messages) = &self.request_messages {
                series.messages(messages.count(), self.response_messages.count());
            }
        };
        match &counting {
            Counting::Plain => count(None),
            Counting::Edited(all) => all.iter().for_each(|edits| count(Some(edits))),
        }
        observe::request(self, duration);
        trace::end(self);
    }
}

struct Ends<'a> {
    reporter: Reporter,
    source: Option<&'a Arc<Workload>>,
    source_principal: Option<&'a Identity>,
    security: RequestSecurity,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.report();
    }
}

/// `grpc-status`, from headers or trailers.
pub(crate) fn status_of(headers: &HeaderMap) -> Option<u32> {
    headers.get(grpc::STATUS)?.to_str().ok()?.parse().ok()
}

/// Bytes of a head as HTTP/1 would write it, about.
fn head_size(headers: &HeaderMap) -> u64 {
    /// Colon, space, carriage return, line feed.
    const AROUND: usize = 4;
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + AROUND);
    sizes.sum::<usize>() as u64
}
