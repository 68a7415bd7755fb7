//! The node agent's protocol: which pods of this node are enrolled. One message per datagram, in lock-step.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use tokio::time::{Instant, MissedTickBehavior};
use tulle_linux::{NetNs, SeqStream};
use tulle_proto::workload::zds::{
    Ack, AddWorkload, Version, WorkloadRequest, WorkloadResponse, ZdsHello, workload_request,
    workload_response,
};

use crate::error::Error;
use crate::limits::{POD_RETRY, ZDS_MESSAGE, ZDS_RECONNECT_MAX, ZDS_RECONNECT_MIN};
use crate::pod::PodInfo;
use crate::pods::Pods;

/// Follows the node agent for as long as it is polled. A lost agent changes nothing for pods that are served; one that
/// breaks the protocol is left, reported, and dialled again.
pub(crate) async fn follow(socket: &Path, pods: &mut Pods) {
    let mut pause = ZDS_RECONNECT_MIN;
    let mut silent = false;
    loop {
        let outcome = match connect(socket).await {
            Ok(stream) => {
                tracing::info!(socket = %socket.display(), "connected to the node agent");
                (pause, silent) = (ZDS_RECONNECT_MIN, false);
                let outcome = session(socket, &stream, pods).await;
                pods.agent_lost();
                outcome
            }
            Err(error) => Err(Error::Resource {
                what: "connect to the node agent",
                source: error,
            }),
        };
        match outcome {
            Ok(()) => tracing::info!("the node agent closed the connection; connecting again"),
            Err(error @ Error::Agent { .. }) => {
                tracing::error!(%error, "leaving the node agent for a while");
                pause = ZDS_RECONNECT_MAX;
            }
            // Once is enough while nobody is there.
            Err(error) if !silent => {
                tracing::warn!(%error, socket = %socket.display(), "no node agent; trying again");
                silent = true;
            }
            Err(_) => {}
        }
        pause_and_retry(pause, pods).await;
        pause = (pause * 2).min(ZDS_RECONNECT_MAX);
    }
}

async fn connect(socket: &Path) -> io::Result<SeqStream> {
    let stream = SeqStream::connect(socket)?;
    let hello = ZdsHello {
        version: Version::V1.into(),
    };
    stream.send(&hello.encode_to_vec(), &[]).await?;
    Ok(stream)
}

async fn pause_and_retry(pause: Duration, pods: &mut Pods) {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        tokio::time::sleep_until(until.min(Instant::now() + POD_RETRY)).await;
        pods.retry().await;
    }
}

/// One connection to the agent; `Ok` when it ended in order.
async fn session(socket: &Path, stream: &SeqStream, pods: &mut Pods) -> Result<(), Error> {
    let mut buffer = vec![0; ZDS_MESSAGE];
    let mut retry = tokio::time::interval(POD_RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Until the snapshot is complete: what it holds.
    let mut listed = Some(HashSet::new());
    loop {
        let received = tokio::select! {
            received = stream.recv(&mut buffer) => received,
            _ = retry.tick() => {
                pods.retry().await;
                continue;
            }
        };
        let (length, fds) = received.map_err(|error| lost(socket, error))?;
        if length == 0 {
            return Ok(());
        }
        let request = WorkloadRequest::decode(&buffer[..length]);
        let payload = request.ok().and_then(|request| request.payload);
        let payload =
            payload.ok_or_else(|| broken(socket, "a message that this version does not know"))?;
        let error = apply(socket, payload, fds, pods, &mut listed).await?;
        answer(stream, error)
            .await
            .map_err(|error| lost(socket, error))?;
    }
}

/// Does what a message says; `Some` text is the agent's to know.
async fn apply(
    socket: &Path,
    payload: workload_request::Payload,
    fds: Vec<OwnedFd>,
    pods: &mut Pods,
    listed: &mut Option<HashSet<String>>,
) -> Result<Option<String>, Error> {
    use workload_request::Payload;
    if !fds.is_empty() && !matches!(payload, Payload::Add(_)) {
        return Err(broken(socket, "a descriptor with something other than add"));
    }
    match payload {
        Payload::Add(add) => {
            let [fd] = <[OwnedFd; 1]>::try_from(fds).map_err(|fds| {
                broken(
                    socket,
                    &format!("add with {} descriptors instead of one", fds.len()),
                )
            })?;
            let uid = named(socket, &add.uid)?;
            if let Some(listed) = listed {
                listed.insert(uid);
            }
            return Ok(add_pod(add, fd, pods).await);
        }
        Payload::Keep(keep) => match listed {
            Some(listed) => {
                listed.insert(named(socket, &keep.uid)?);
            }
            None => return Err(broken(socket, "keep after the snapshot was complete")),
        },
        Payload::Del(del) => {
            let uid = named(socket, &del.uid)?;
            if let Some(listed) = listed {
                listed.remove(&uid);
            }
            pods.remove(&uid).await;
        }
        Payload::SnapshotSent(_) => match listed.take() {
            Some(listed) => pods.keep_only(&listed).await,
            None => return Err(broken(socket, "a second end of the snapshot")),
        },
    }
    Ok(None)
}

async fn add_pod(add: AddWorkload, fd: OwnedFd, pods: &mut Pods) -> Option<String> {
    let netns = match NetNs::from_fd(fd) {
        Ok(netns) => netns,
        Err(error) => return Some(format!("pod {}: {error}", add.uid)),
    };
    let info = add.workload_info.unwrap_or_default();
    let info = PodInfo {
        name: info.name,
        namespace: info.namespace,
        service_account: info.service_account,
    };
    if let Err(error) = pods.add(&add.uid, info, netns).await {
        tracing::error!(uid = add.uid, %error, "cannot serve a pod; trying again");
        return Some(format!("pod {}: {error}", add.uid));
    }
    None
}

fn named(socket: &Path, uid: &str) -> Result<String, Error> {
    if uid.is_empty() || uid.contains('/') {
        return Err(broken(socket, "a pod without a usable uid"));
    }
    Ok(uid.to_owned())
}

async fn answer(stream: &SeqStream, error: Option<String>) -> io::Result<()> {
    let response = WorkloadResponse {
        payload: Some(workload_response::Payload::Ack(Ack {
            error: error.unwrap_or_default(),
        })),
    };
    stream.send(&response.encode_to_vec(), &[]).await
}

fn lost(socket: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData => broken(socket, &error.to_string()),
        _ => Error::Resource {
            what: "talk to the node agent",
            source: error,
        },
    }
}

fn broken(socket: &Path, what: &str) -> Error {
    Error::Agent {
        socket: socket.to_owned(),
        what: what.to_owned(),
    }
}
