//! One connected proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;

use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, info, warn};
use tulle_linux::SeqStream;
use tulle_proto::workload::zds::workload_request::Payload;
use tulle_proto::workload::zds::{
    AddWorkload, DelWorkload, SnapshotSent, Version, WorkloadRequest, WorkloadResponse, ZdsHello,
    workload_response,
};

use super::{Command, Served, Zds};
use crate::error::ProxyError;
use crate::limits::{ZDS_ACK_DEADLINE, ZDS_MESSAGE};

/// Why a connection ends. All but `Closed` are the peer's fault.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("it closed the connection")]
    Closed,
    #[error("it runs as user {0}; only root may be given network namespaces")]
    Stranger(u32),
    #[error("it did not {0} within {seconds} s", seconds = ZDS_ACK_DEADLINE.as_secs())]
    Deadline(&'static str),
    #[error("it {0}")]
    Protocol(&'static str),
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
}

struct Connection {
    zds: Zds,
    stream: SeqStream,
    /// Pods that this proxy was told to serve.
    told: BTreeSet<String>,
}

/// Serves one proxy to its end.
pub(super) async fn run(zds: Zds, stream: SeqStream) {
    let pid = stream.peer_credentials().map_or(0, |peer| peer.pid);
    let mut connection = Connection {
        zds,
        stream,
        told: BTreeSet::new(),
    };
    match connection.live().await {
        End::Closed => info!(pid, "a ztunnel disconnected"),
        fault => warn!(pid, "a ztunnel is disconnected: {fault}"),
    }
}

impl Connection {
    async fn live(&mut self) -> End {
        if let Err(end) = self.greet().await {
            return end;
        }
        let (id, commands, pods) = self.zds.register();
        let Err(end) = self.converse(commands, pods).await;
        self.zds.unregister(id);
        end
    }

    /// Who it is, and that it speaks our version.
    async fn greet(&mut self) -> Result<(), End> {
        let peer = self.stream.peer_credentials()?;
        if peer.uid != 0 {
            return Err(End::Stranger(peer.uid));
        }
        let hello = self.receive("say hello").await?;
        let hello = ZdsHello::decode(&hello[..]).map_err(|_| End::Protocol("did not say hello"))?;
        if hello.version != Version::V1 as i32 {
            return Err(End::Protocol(
                "speaks another version of ZDS; only V1 is known",
            ));
        }
        Ok(())
    }

    /// Snapshot, then commands. Returns only with the end.
    async fn converse(
        &mut self,
        mut commands: mpsc::Receiver<Command>,
        pods: BTreeMap<String, Served>,
    ) -> Result<std::convert::Infallible, End> {
        let count = pods.len();
        for (uid, served) in pods {
            self.add_or_complain(&uid, &served).await?;
        }
        let marker = Payload::SnapshotSent(SnapshotSent {});
        if let Err(error) = self.ask(marker, &[]).await? {
            warn!("a ztunnel on the end of the snapshot: {error}");
        }
        info!(
            pods = count,
            "a ztunnel is connected and has all pods of this node"
        );
        let mut rubbish = [0; ZDS_MESSAGE];
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await?,
                    None => return Err(End::Closed),
                },
                received = self.stream.recv(&mut rubbish) => return Err(match received {
                    Ok((0, _)) => End::Closed,
                    Ok(_) => End::Protocol("sent a message that nobody asked for"),
                    Err(error) => End::from(error),
                }),
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Add { uid, done } => {
                // Gone meanwhile: whoever asked has given up.
                let Some(served) = self.zds.pod(&uid) else {
                    return Ok(());
                };
                let outcome = self.add(&uid, &served).await?;
                // The asker may have given up waiting.
                let _late = done.send(outcome);
            }
            Command::Del { uid, done } => {
                let answer = self
                    .ask(Payload::Del(DelWorkload { uid: uid.clone() }), &[])
                    .await?;
                self.told.remove(&uid);
                if let Err(error) = answer {
                    debug!(uid, "ztunnel on letting go of a pod: {error}");
                }
                let _late = done.send(());
            }
            Command::Promote => {
                for (uid, served) in self.zds.pods() {
                    if !self.told.contains(&uid) {
                        self.add_or_complain(&uid, &served).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn add_or_complain(&mut self, uid: &str, served: &Served) -> Result<(), End> {
        if let Err(error) = self.add(uid, served).await? {
            let (namespace, name) = (&served.info.namespace, &served.info.name);
            warn!("pod {namespace}/{name}: {error}; ztunnel tries again by itself");
        }
        Ok(())
    }

    async fn add(&mut self, uid: &str, served: &Served) -> Result<Result<(), ProxyError>, End> {
        let add = AddWorkload {
            uid: uid.to_owned(),
            workload_info: Some(served.info.clone()),
        };
        let answer = self.ask(Payload::Add(add), &[served.ns.fd()]).await?;
        self.told.insert(uid.to_owned());
        Ok(answer)
    }

    /// One message and its answer. The outer error ends the connection, the inner one is the proxy's word.
    async fn ask(
        &mut self,
        payload: Payload,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Result<(), ProxyError>, End> {
        let message = WorkloadRequest {
            payload: Some(payload),
        }
        .encode_to_vec();
        if message.len() > ZDS_MESSAGE {
            return Ok(Err(ProxyError::TooLong));
        }
        timeout(ZDS_ACK_DEADLINE, self.stream.send(&message, fds))
            .await
            .map_err(|_| End::Deadline("read our message"))??;
        let answer = self.receive("answer our message").await?;
        let answer = WorkloadResponse::decode(&answer[..])
            .map_err(|_| End::Protocol("answered with rubbish"))?;
        let Some(workload_response::Payload::Ack(ack)) = answer.payload else {
            return Err(End::Protocol("answered with something that is not an Ack"));
        };
        Ok(if ack.error.is_empty() {
            Ok(())
        } else {
            Err(ProxyError::Refused(ack.error))
        })
    }

    async fn receive(&mut self, what: &'static str) -> Result<Vec<u8>, End> {
        let mut buffer = vec![0; ZDS_MESSAGE];
        let received = timeout(ZDS_ACK_DEADLINE, self.stream.recv(&mut buffer)).await;
        let (length, fds) = received.map_err(|_| End::Deadline(what))??;
        if length == 0 {
            return Err(End::Closed);
        }
        if !fds.is_empty() {
            return Err(End::Protocol("sent file descriptors"));
        }
        buffer.truncate(length);
        Ok(buffer)
    }
}
