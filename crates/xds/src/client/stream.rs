//! One stream, from connect to its end.

use std::collections::HashSet;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Streaming};
use tonic_prost::ProstCodec;
use tulle_proto::discovery::{DeltaDiscoveryRequest, Status};

use super::{Batch, Config, Event, Handler, Known, Resource, StreamError, complaint};
use crate::endpoint::{ConnectError, causes};
use crate::limits::{MAX_ANSWER, REQUEST_QUEUE, STREAM_DEADLINE};
use crate::wire::{Answer, DELTA_PATH, MORE};

/// gRPC's INVALID_ARGUMENT: what a NACK carries.
const INVALID_ARGUMENT: i32 = 3;

pub(super) async fn run(
    config: &Config,
    known: &mut Known,
    handler: &mut impl Handler,
) -> StreamError {
    match follow(config, known, handler).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn follow(
    config: &Config,
    known: &mut Known,
    handler: &mut impl Handler,
) -> Result<std::convert::Infallible, StreamError> {
    let (requests, answers) = open(config, known).await?;
    let mut stream = Stream {
        config,
        requests,
        answers,
        synced: HashSet::new(),
    };
    tracing::info!(server = config.endpoint.authority(), "discovery connected");
    handler.event(Event::Connected);
    loop {
        let answer = stream.receive().await?;
        stream.take(answer, known, handler).await?;
    }
}

/// Connects, and asks for every type at once, in order.
async fn open(
    config: &Config,
    known: &Known,
) -> Result<(mpsc::Sender<DeltaDiscoveryRequest>, Streaming<Answer>), StreamError> {
    let unreachable = |error: ConnectError| StreamError::Connect {
        authority: config.endpoint.authority().to_owned(),
        error,
    };
    let metadata = config.endpoint.metadata().await.map_err(unreachable)?;
    let channel = config.endpoint.connect().await.map_err(unreachable)?;
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_ANSWER);
    grpc.ready()
        .await
        .map_err(|error| unreachable(ConnectError::Http2(causes(&error))))?;

    let (requests, queue) = mpsc::channel(REQUEST_QUEUE.max(config.types.len()));
    let mut node = Some(config.node.to_wire());
    for type_url in &config.types {
        let first = DeltaDiscoveryRequest {
            node: node.take(),
            type_url: type_url.clone(),
            initial_resource_versions: known.versions(type_url),
            ..DeltaDiscoveryRequest::default()
        };
        // There is room for all of them.
        let _ = requests.try_send(first);
    }
    let mut request = Request::new(ReceiverStream::new(queue));
    *request.metadata_mut() = metadata;
    let path = PathAndQuery::from_static(DELTA_PATH);
    let codec: ProstCodec<DeltaDiscoveryRequest, Answer> = ProstCodec::default();
    let response = timeout(STREAM_DEADLINE, grpc.streaming(request, path, codec))
        .await
        .map_err(|_| StreamError::Broken {
            authority: config.endpoint.authority().to_owned(),
            why: format!("no answer within {} s", STREAM_DEADLINE.as_secs()),
        })?
        .map_err(|status| ended(config, &status))?;
    Ok((requests, response.into_inner()))
}

struct Stream<'a> {
    config: &'a Config,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    answers: Streaming<Answer>,
    synced: HashSet<String>,
}

impl Stream<'_> {
    async fn receive(&mut self) -> Result<Answer, StreamError> {
        match self.answers.message().await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(StreamError::Ended {
                authority: self.config.endpoint.authority().to_owned(),
            }),
            Err(status) => Err(ended(self.config, &status)),
        }
    }

    /// Gives an answer to the handler, and acknowledges it.
    async fn take(
        &mut self,
        answer: Answer,
        known: &mut Known,
        handler: &mut impl Handler,
    ) -> Result<(), StreamError> {
        let Answer {
            system_version_info,
            resources,
            type_url,
            nonce,
            removed_resources: removed,
        } = answer;
        let upserts: Vec<Resource> = resources
            .into_iter()
            .map(|resource| Resource {
                name: known.name(&type_url, &resource.name),
                version: resource.version,
                // A missing body is an empty message: the handler knows whether that means anything.
                body: resource.resource.unwrap_or_default().value,
            })
            .collect();
        let seen: Vec<_> = upserts
            .iter()
            .map(|resource| (resource.name.clone(), resource.version.clone()))
            .collect();
        let rejected = if self.config.types.contains(&type_url) {
            let rejected = handler.update(Batch {
                type_url: type_url.clone(),
                upserts,
                removed: removed.clone(),
            });
            known.note(&type_url, &seen, &removed, &rejected);
            rejected
        } else {
            tracing::warn!(%type_url, "an answer of a type that we did not ask for");
            Vec::new()
        };
        let error_detail = (!rejected.is_empty()).then(|| {
            let message = complaint(&rejected);
            tracing::warn!(%type_url, rejected = rejected.len(), %message, "discovery: resources rejected");
            Status {
                code: INVALID_ARGUMENT,
                message,
                details: Vec::new(),
            }
        });
        if !system_version_info.ends_with(MORE) && !self.synced.contains(&type_url) {
            self.synced.insert(type_url.clone());
            handler.event(Event::Synced {
                type_url: &type_url,
            });
        }
        let acknowledgement = DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        // The queue closes with the stream; its end is reported by the next receive.
        let _ = self.requests.send(acknowledgement).await;
        Ok(())
    }
}

fn ended(config: &Config, status: &tonic::Status) -> StreamError {
    let authority = config.endpoint.authority().to_owned();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => StreamError::Refused {
            authority,
            why: status.message().to_owned(),
        },
        _ => StreamError::Broken {
            authority,
            why: match std::error::Error::source(status) {
                Some(source) => causes(source),
                None => format!("{}: {}", status.code(), status.message()),
            },
        },
    }
}
