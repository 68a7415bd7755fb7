//! Who is connected and up to date, as `istioctl proxy-status` asks: a request of the not incremental kind, answered once.

use futures_util::stream::{self, BoxStream, StreamExt};
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Any, Struct, Value};
use serde_json::json;
use tokio::sync::watch;
use tonic::server::StreamingService;
use tonic::{Request, Response, Status, Streaming};
use tulle_proto::discovery::client_config::GenericXdsConfig;
use tulle_proto::discovery::{ClientConfig, ConfigStatus, UpdateFailureState};
use tulle_proto::discovery::{ControlPlane, DiscoveryRequest, DiscoveryResponse, Node};

use super::accept::Peer;
use super::discovery::{BoxedFuture, stop};
use super::{Caller, Connected, Server, auth};
use crate::limits::SYNCZ_REQUESTS;

/// What may be asked.
const SYNCZ: &str = "istio.io/debug/syncz";
const CLIENT_CONFIG: &str = "type.googleapis.com/envoy.service.status.v3.ClientConfig";

/// What the server says of itself, and to whom it tells about all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Tells replicas apart: the pod's name.
    pub instance: String,
    /// Version.
    pub version: String,
    /// Callers of this namespace are told of all proxies, others of those in their own.
    pub namespace: String,
}

/// The service.
#[derive(Clone)]
pub(super) struct Syncz {
    pub(super) server: Server,
    pub(super) stopped: watch::Receiver<bool>,
}

impl StreamingService<DiscoveryRequest> for Syncz {
    type Response = DiscoveryResponse;
    type ResponseStream = BoxStream<'static, Result<DiscoveryResponse, Status>>;
    type Future = BoxedFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<DiscoveryRequest>>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let peer = request.extensions().get::<Peer>();
            let caller = auth::authenticate(&service.server, request.metadata(), peer).await?;
            let asking = Asking {
                server: service.server,
                stopped: service.stopped,
                caller,
                requests: request.into_inner(),
                left: SYNCZ_REQUESTS,
                answered: false,
            };
            let answers = stream::unfold(Some(asking), |asking| async {
                let mut asking = asking?;
                match asking.next().await {
                    Ok(Some(answer)) => Some((Ok(answer), Some(asking))),
                    Ok(None) => None,
                    Err(status) => Some((Err(status), None)),
                }
            });
            Ok(Response::new(answers.boxed()))
        })
    }
}

/// One tool that asks.
struct Asking {
    server: Server,
    stopped: watch::Receiver<bool>,
    caller: Caller,
    requests: Streaming<DiscoveryRequest>,
    /// Each answer looks at all clients.
    left: u32,
    answered: bool,
}

impl Asking {
    async fn next(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        while self.left > 0 {
            self.left -= 1;
            let request = tokio::select! {
                request = self.requests.message() => request?,
                () = stop(&mut self.stopped) => None,
            };
            let Some(request) = request else {
                return Ok(None);
            };
            if request.type_url != SYNCZ {
                return Err(Status::unimplemented(format!(
                    "{:?} is not served here: resources come by DeltaAggregatedResources, and of the questions about the server only \
                     {SYNCZ} is answered",
                    request.type_url
                )));
            }
            // An acknowledgement needs no answer. The first request of a stream is none, whatever nonce it carries: istioctl
            // puts one in.
            if !std::mem::replace(&mut self.answered, true) || request.response_nonce.is_empty() {
                return Ok(Some(self.answer()));
            }
        }
        Ok(None)
    }

    fn answer(&self) -> DiscoveryResponse {
        let newest = self.server.publisher.sequence();
        let about = &self.server.about;
        let own = (self.caller.namespace != about.namespace).then_some(&*self.caller.namespace);
        let mut clients = self.server.counters.connected();
        clients.retain(|client| {
            let namespace = namespace(&client.node);
            !client.node.is_empty() && own.is_none_or(|own| namespace == own)
        });
        clients.sort_by(|a, b| a.node.cmp(&b.node));
        let identifier = json!({
            "Component": "istiod",
            "ID": about.instance,
            "Info": { "version": about.version },
        });
        DiscoveryResponse {
            version_info: newest.to_string(),
            resources: clients.iter().map(|c| config(c, newest)).collect(),
            type_url: SYNCZ.to_owned(),
            nonce: format!("{:08x}", rand::random::<u32>()),
            control_plane: Some(ControlPlane {
                identifier: identifier.to_string(),
            }),
        }
    }
}

/// `name.namespace` in a node id: `kind~address~name.namespace~domain`.
fn name(node: &str) -> &str {
    node.split('~').nth(2).unwrap_or_default()
}

fn namespace(node: &str) -> &str {
    name(node)
        .split_once('.')
        .map_or("", |(_, namespace)| namespace)
}

/// One client; `newest` is the newest change.
fn config(client: &Connected, newest: u64) -> Any {
    let text = |value: &str| Value {
        kind: Some(Kind::StringValue(value.to_owned())),
    };
    let metadata = [
        ("NAMESPACE", namespace(&client.node)),
        ("CLUSTER_ID", &client.cluster),
        ("ISTIO_VERSION", &client.version),
    ];
    let types = client.acknowledged.iter();
    let config = ClientConfig {
        node: Some(Node {
            id: name(&client.node).to_owned(),
            metadata: Some(Struct {
                fields: metadata.map(|(k, v)| (k.to_owned(), text(v))).into(),
            }),
            ..Node::default()
        }),
        generic_xds_configs: types
            .map(|(type_url, (acknowledged, complaint))| {
                let status = match complaint {
                    Some(_) => ConfigStatus::Error,
                    None if *acknowledged >= newest => ConfigStatus::Synced,
                    None => ConfigStatus::Stale,
                };
                GenericXdsConfig {
                    type_url: type_url.clone(),
                    config_status: status.into(),
                    error_state: complaint.as_ref().map(|details| UpdateFailureState {
                        details: details.clone(),
                    }),
                }
            })
            .collect(),
    };
    Any {
        type_url: CLIENT_CONFIG.to_owned(),
        value: config.encode_to_vec(),
    }
}
