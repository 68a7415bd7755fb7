//! Answers the CNI plugin.
//!
//! A call is one JSON object in each direction, each preceded by its length as four bytes, big endian. `tulle-cni` has
//! the other end; `protocol.json` in its tests and here holds both to the same words.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};
use tulle_cluster::Key;

use crate::agent::Agent;
use crate::limits::{
    PLUGIN_CALL_DEADLINE, PLUGIN_CALLS, PLUGIN_LOOKUP_DEADLINE, PLUGIN_MESSAGE,
    PLUGIN_READ_DEADLINE,
};
use crate::pod::{NamespaceFacts, PodFacts};

/// What the plugin asks.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    /// `ADD` or `DEL`.
    pub(crate) command: String,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) pod_name: String,
    pub(crate) pod_namespace: String,
    pub(crate) pod_uid: Option<String>,
    pub(crate) sandbox_id: String,
    #[serde(default)]
    pub(crate) ips: Vec<IpAddr>,
}

/// What it is told.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// The pod is in the mesh.
    pub(crate) enrolled: bool,
    /// Why the pod must not start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Listens; only root may connect.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the plugin for as long as it is polled.
pub(crate) async fn serve(agent: Agent, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(PLUGIN_CALLS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let agent = agent.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(&agent, stream).await {
                        warn!("a call on the CNI socket ended early: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                error!("cannot accept on the CNI socket: {error}");
                tokio::time::sleep(crate::limits::RETRY_FIRST).await;
            }
        }
    }
}

async fn converse(agent: &Agent, mut stream: UnixStream) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    if peer.uid() != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {} is not root", peer.uid()),
        ));
    }
    let request = timeout(PLUGIN_READ_DEADLINE, read(&mut stream))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    let answer = match serde_json::from_slice::<Request>(&request) {
        Ok(request) => answer(agent, request).await,
        Err(error) => Answer {
            enrolled: false,
            error: Some(format!("the plugin's request makes no sense: {error}")),
        },
    };
    let result = if answer.error.is_some() {
        "failure"
    } else {
        "success"
    };
    agent.means.metrics.plugin_calls.with(&[result]).inc();
    let text = serde_json::to_vec(&answer)?;
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&text).await
}

async fn read(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    if length > PLUGIN_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a request of {length} bytes is too long"),
        ));
    }
    let mut text = vec![0; length as usize];
    stream.read_exact(&mut text).await?;
    Ok(text)
}

async fn answer(agent: &Agent, request: Request) -> Answer {
    let pod = format!("{}/{}", request.pod_namespace, request.pod_name);
    let outcome = match request.command.as_str() {
        // A task of its own: what was begun is finished or undone, also when nobody waits for it any more.
        "ADD" => match timeout(
            PLUGIN_CALL_DEADLINE,
            tokio::spawn(add(agent.clone(), request)),
        )
        .await
        {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err("the node agent is ending".into())),
            Err(_) => Err(format!(
                "enrolling the pod took longer than {} s",
                PLUGIN_CALL_DEADLINE.as_secs()
            )),
        },
        "DEL" => {
            del(agent, request).await;
            Ok(false)
        }
        other => Err(format!(
            "the plugin asks for {other:?}, which this node agent does not know"
        )),
    };
    match outcome {
        Ok(enrolled) => Answer {
            enrolled,
            error: None,
        },
        Err(why) => {
            warn!("pod {pod} may not start: {why}");
            Answer {
                enrolled: false,
                error: Some(why),
            }
        }
    }
}

/// Takes a new pod in before its first packet. True when it belongs to the mesh.
async fn add(agent: Agent, request: Request) -> Result<bool, String> {
    if agent.excludes(&request.pod_namespace) {
        return Ok(false);
    }
    let key = Key::new(&request.pod_namespace, &request.pod_name);
    let (mut pod, namespace) = look_up(&agent, &key).await?;
    if let Some(uid) = request.pod_uid.as_ref()
        && *uid != pod.uid
        && *uid != pod.runtime_uid
    {
        let known = &pod.uid;
        return Err(format!(
            "the API server knows pod {key} as UID {known}, the container runtime as {uid}"
        ));
    }
    if !agent.wants(&pod, namespace) {
        debug!("pod {key} is not part of the mesh");
        return Ok(false);
    }
    let path = request
        .netns
        .ok_or("the container runtime named no network namespace (CNI_NETNS)")?;
    let ns = agent
        .means
        .node
        .open(path)
        .map_err(|error| error.to_string())?;
    pod.addresses = request.ips;
    if pod.addresses.is_empty() {
        return Err("the result of the CNI plugins before ours holds no address of the pod".into());
    }
    info!(sandbox = request.sandbox_id, "pod {key} is starting");
    let (slot, mut stage) = agent
        .claim(pod.clone())
        .await
        .ok_or("there are too many pods on this node")?;
    let outcome = agent.means.enrol(&mut stage, &pod, ns).await;
    if let Err(error) = outcome {
        agent.abandon(&slot, pod);
        return Err(error.to_string());
    }
    Ok(true)
}

/// The pod and its namespace as they are now; as they are remembered when the API server does not answer, so that pods
/// of this node can restart without it.
async fn look_up(agent: &Agent, key: &Key) -> Result<(PodFacts, NamespaceFacts), String> {
    let records = &agent.means.records;
    let fresh = timeout(PLUGIN_LOOKUP_DEADLINE, async {
        tokio::join!(records.pod(key), records.namespace(&key.namespace))
    });
    let why = match fresh.await {
        Ok((Ok(Some(pod)), Ok(Some(namespace)))) => return Ok((pod, namespace)),
        Ok((Ok(None), _)) => return Err(format!("the API server knows no pod {key}")),
        Ok((_, Ok(None))) => {
            return Err(format!(
                "the API server knows no namespace {}",
                key.namespace
            ));
        }
        Ok((Err(error), _) | (_, Err(error))) => error.to_string(),
        Err(_) => format!(
            "the API server does not answer within {} s",
            PLUGIN_LOOKUP_DEADLINE.as_secs()
        ),
    };
    agent
        .remembered(key)
        .ok_or_else(|| format!("cannot find out whether pod {key} belongs to the mesh: {why}"))
}

async fn del(agent: &Agent, request: Request) {
    let Some(uid) = request.pod_uid else { return };
    let ns = request
        .netns
        .and_then(|path| agent.means.node.open(path).ok());
    agent.sandbox_gone(&uid, ns.as_ref()).await;
}
