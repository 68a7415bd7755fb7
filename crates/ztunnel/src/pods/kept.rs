//! Pods at the keeper: a key that says who, with the network namespace; and one key per worker with its listeners.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use tulle_daemon::keeper::{Client, ClientError, Restored};
use tulle_linux::NetNs;

use super::{Kept, Sockets};
use crate::pod::{Pod, PodInfo};

const POD: &str = "pod";
const LISTENERS: &str = "listeners";

/// Kubernetes allows no `/` in any of these.
fn pod_key(uid: &str, info: &PodInfo) -> String {
    format!(
        "{POD}/{uid}/{}/{}/{}",
        info.namespace, info.name, info.service_account
    )
}

fn listeners_key(uid: &str, worker: usize) -> String {
    format!("{LISTENERS}/{uid}/{worker}")
}

/// Hands copies over.
pub(super) async fn put(
    keeper: &Client,
    pod: &Pod,
    sockets: &[Sockets],
) -> Result<(), ClientError> {
    for (worker, of) in sockets.iter().enumerate() {
        let fds = [of.outbound.as_fd(), of.plain.as_fd(), of.hbone.as_fd()];
        keeper.put(&listeners_key(&pod.uid, worker), &fds).await?;
    }
    // Last, so that a pod is only seen with all its listeners.
    keeper
        .put(&pod_key(&pod.uid, &pod.info), &[pod.netns.fd()])
        .await
}

/// Has them given up.
pub(super) async fn delete(keeper: &Client, pod: &Pod, workers: usize) -> Result<(), ClientError> {
    keeper.delete(&pod_key(&pod.uid, &pod.info)).await?;
    for worker in 0..workers {
        keeper.delete(&listeners_key(&pod.uid, worker)).await?;
    }
    Ok(())
}

/// Takes back what a predecessor left. Listeners beyond the number of workers are closed; missing ones are made anew.
pub(super) fn take(restored: &mut Restored, workers: usize) -> Vec<Kept> {
    let mut listeners: BTreeMap<(String, usize), Sockets> = BTreeMap::new();
    let mut pods = Vec::new();
    for (key, fds) in std::mem::take(restored) {
        let parts: Vec<&str> = key.split('/').collect();
        match parts[..] {
            [LISTENERS, uid, worker] => {
                if let (Ok(worker), Some(sockets)) = (worker.parse(), sockets(fds)) {
                    listeners.insert((uid.to_owned(), worker), sockets);
                }
            }
            [POD, uid, namespace, name, service_account] => {
                let info = PodInfo {
                    name: name.to_owned(),
                    namespace: namespace.to_owned(),
                    service_account: service_account.to_owned(),
                };
                let netns = fds
                    .into_iter()
                    .next()
                    .and_then(|fd| NetNs::from_fd(fd).ok());
                pods.extend(netns.map(|netns| (uid.to_owned(), info, netns)));
            }
            _ => tracing::warn!(
                key,
                "the keeper holds something that nobody knows; given up"
            ),
        }
    }
    let with_sockets = |(uid, info, netns): (String, PodInfo, NetNs)| {
        let own = (0..workers).map_while(|worker| listeners.remove(&(uid.clone(), worker)));
        let sockets = own.collect();
        Kept {
            uid,
            info,
            netns,
            sockets,
        }
    };
    pods.into_iter().map(with_sockets).collect()
}

fn sockets(fds: Vec<OwnedFd>) -> Option<Sockets> {
    let mut listeners = fds.into_iter().map(TcpListener::from);
    Some(Sockets {
        outbound: listeners.next()?,
        plain: listeners.next()?,
        hbone: listeners.next()?,
    })
}
