//! The discovery service: a [`Session`] with a gRPC stream around it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::body::Body;
use tonic::codegen::{Service as TowerService, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tulle_proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse, Node};

use super::accept::Peer;
use super::codec::{Answer, DeltaCodec};
use super::session::{Noted, Session, SessionError};
use super::syncz::Syncz;
use super::{Caller, Counters, Never, Server, auth};
use crate::limits::STREAM_AGE;
use crate::node::metadata_text;
use crate::wire::{DELTA_PATH, SPLIT, STATE_PATH};

pub(super) type BoxedFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// The gRPC service. Written by hand because its answers are put together from encoded parts.
#[derive(Clone)]
pub(super) struct Service {
    server: Server,
    stopped: watch::Receiver<bool>,
}

impl Service {
    pub(super) fn new(server: Server, stopped: watch::Receiver<bool>) -> Self {
        Self { server, stopped }
    }
}

impl NamedService for Service {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl TowerService<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Never;
    type Future = BoxedFuture<Self::Response, Never>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Never>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let limit = Some(service.server.max_request);
            let answer = match request.uri().path() {
                DELTA_PATH => {
                    let mut grpc = Grpc::new(DeltaCodec).apply_max_message_size_config(limit, None);
                    grpc.streaming(service, request).await
                }
                STATE_PATH => {
                    let syncz = Syncz {
                        server: service.server,
                        stopped: service.stopped,
                    };
                    let codec = ProstCodec::<DiscoveryResponse, DiscoveryRequest>::default();
                    let mut grpc = Grpc::new(codec).apply_max_message_size_config(limit, None);
                    grpc.streaming(syncz, request).await
                }
                _ => Status::unimplemented(
                    "the discovery service has DeltaAggregatedResources, and StreamAggregatedResources for debugging",
                )
                .into_http(),
            };
            Ok(answer)
        })
    }
}

impl StreamingService<DeltaDiscoveryRequest> for Service {
    type Response = Answer;
    type ResponseStream = BoxStream<'static, Result<Answer, Status>>;
    type Future = BoxedFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let peer = request.extensions().get::<Peer>();
            let caller = auth::authenticate(&service.server, request.metadata(), peer).await?;
            let registered = Registered::new(
                service.server.counters.clone(),
                peer.and_then(|peer| peer.address),
                caller.gateway.clone(),
            );
            let age = STREAM_AGE.mul_f64(rand::random_range(0.9..=1.0));
            let stream = DiscoveryStream {
                publications: service.server.publisher.watch(),
                session: Session::new(rand::random()).of_gateway(caller.gateway.clone()),
                requests: request.into_inner(),
                until: Instant::now() + age,
                stopped: service.stopped,
                server: service.server,
                registered,
                caller,
                identified: false,
            };
            let answers = stream::unfold(Some(stream), |stream| async {
                let mut stream = stream?;
                match stream.next().await {
                    Ok(Some(answer)) => Some((Ok(answer), Some(stream))),
                    Ok(None) => None,
                    Err(status) => Some((Err(status), None)),
                }
            });
            Ok(Response::new(answers.boxed()))
        })
    }
}

/// One open stream.
struct DiscoveryStream {
    server: Server,
    caller: Caller,
    session: Session,
    requests: Streaming<DeltaDiscoveryRequest>,
    publications: watch::Receiver<u64>,
    stopped: watch::Receiver<bool>,
    until: Instant,
    registered: Registered,
    /// The node has said who it is, and its namespace is the caller's.
    identified: bool,
}

impl DiscoveryStream {
    /// Waits for something to say. `None` ends the stream in good order.
    async fn next(&mut self) -> Result<Option<Answer>, Status> {
        loop {
            // Before looking, so that what is published while we look wakes us again.
            self.publications.mark_unchanged();
            match self.session.next(&self.server.publisher) {
                Ok(Some(answer)) => return Ok(Some(self.count(answer))),
                Ok(None) => self.settle(),
                Err(error) => return Err(self.fail(&error)),
            }
            tokio::select! {
                request = self.requests.message() => match request? {
                    Some(request) => self.request(request)?,
                    None => return Ok(None),
                },
                changed = self.publications.changed() => if changed.is_err() {
                    return Ok(None);
                },
                () = stop(&mut self.stopped) => return Ok(None),
                () = sleep_until(self.until) => return Ok(None),
            }
        }
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        self.identify(&request)?;
        let type_url = request.type_url.clone();
        let noted = self
            .session
            .request(request, &self.server.publisher)
            .map_err(|error| self.fail(&error))?;
        let counters = &self.server.counters;
        match noted {
            Noted::Subscribed => {}
            Noted::Stale => tracing::debug!(%type_url, "stale nonce ignored"),
            Noted::Acknowledged(sequence) => {
                counters.count(&type_url, |counts| counts.acknowledged += 1);
                counters.update(self.registered.id, |stream| {
                    stream.acknowledged.insert(type_url, (sequence, None));
                });
            }
            Noted::Rejected(why) => {
                let client = &self.registered.node;
                tracing::warn!(%client, %type_url, %why, "a client rejected resources");
                counters.count(&type_url, |counts| counts.rejected += 1);
                counters.update(self.registered.id, |stream| {
                    let entry = stream.acknowledged.entry(type_url).or_default();
                    entry.1 = Some(why);
                });
            }
        }
        Ok(())
    }

    /// The first request names the node. Its namespace (and service account, if given) must be those of the credentials.
    fn identify(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        if self.identified {
            return Ok(());
        }
        let Some(node) = &request.node else {
            return Err(Status::invalid_argument(
                "the first request must name the node",
            ));
        };
        let claims = [
            ("NAMESPACE", &self.caller.namespace, true),
            ("SERVICE_ACCOUNT", &self.caller.service_account, false),
        ];
        for (key, proved, required) in claims {
            let claimed = metadata_text(node, key).filter(|claimed| !claimed.is_empty());
            if claimed.map_or(required, |claimed| claimed != proved) {
                self.server.counters.refused_caller();
                let claimed = claimed.unwrap_or("nothing");
                tracing::warn!(node = %node.id, key, claimed, %proved, "a node claims to be somebody else");
                return Err(Status::unauthenticated(format!(
                    "the node's metadata says {key} {claimed}, its credentials say {proved}"
                )));
            }
        }
        self.identified = true;
        if metadata_text(node, SPLIT).is_some() {
            self.session.split();
        }
        self.registered.named(node);
        tracing::info!(client = %node.id, "discovery stream open");
        Ok(())
    }

    /// What is not for this client is as good as acknowledged.
    fn settle(&self) {
        let counters = &self.server.counters;
        counters.update(self.registered.id, |stream| {
            for (type_url, sequence) in self.session.settled() {
                if let Some((acknowledged, _)) = stream.acknowledged.get_mut(type_url) {
                    *acknowledged = sequence.max(*acknowledged);
                }
            }
        });
    }

    fn count(&self, answer: Answer) -> Answer {
        self.server.counters.count(&answer.type_url, |counts| {
            counts.answers += 1;
            counts.resources += answer.resources.len() as u64;
            counts.removals += answer.removed.len() as u64;
            counts.bytes += answer.resources.iter().map(|r| r.len() as u64).sum::<u64>();
        });
        answer
    }

    fn fail(&self, error: &SessionError) -> Status {
        tracing::warn!(client = %self.registered.node, %error, "discovery stream ended");
        match error {
            SessionError::NoType => Status::invalid_argument(error.to_string()),
            SessionError::TooManyTypes | SessionError::TooManyNames => {
                Status::resource_exhausted(error.to_string())
            }
            SessionError::Behind => Status::aborted(error.to_string()),
        }
    }
}

/// Ends when the server stops, or is gone.
pub(super) async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// The stream's place in the list of those that are open; given back on drop.
struct Registered {
    id: u64,
    node: String,
    counters: Arc<Counters>,
}

impl Registered {
    fn new(
        counters: Arc<Counters>,
        address: Option<std::net::SocketAddr>,
        gateway: Option<Arc<str>>,
    ) -> Self {
        Self {
            id: counters.opened(address, gateway),
            node: String::new(),
            counters,
        }
    }

    fn named(&mut self, node: &Node) {
        // Bounded: it is shown and logged.
        let short = |text: &str| text.chars().take(256).collect::<String>();
        let of = |key| metadata_text(node, key).map(short).unwrap_or_default();
        self.node = short(&node.id);
        self.counters.update(self.id, |stream| {
            stream.node.clone_from(&self.node);
            stream.cluster = of("CLUSTER_ID");
            stream.version = of("ISTIO_VERSION");
        });
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.counters.closed(self.id);
        if !self.node.is_empty() {
            tracing::info!(client = %self.node, "discovery stream closed");
        }
    }
}
