//! One enrolled pod.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tulle_linux::NetNs;
use tulle_model::{Identity, Workload};

use crate::error::Failure;
use crate::limits::LOCAL_WORKLOAD_DEADLINE;
use crate::state::{Snapshot, State};

/// What the node agent tells of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodInfo {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
}

/// Tells one enrolment of a pod from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodSerial(u64);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A pod whose connections this proxy serves.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) serial: PodSerial,
    /// Kubernetes UID.
    pub(crate) uid: Arc<str>,
    pub(crate) info: PodInfo,
    pub(crate) netns: NetNs,
    /// Its uid in the mesh, if it is a pod of the proxy's own cluster.
    workload: String,
    network: Arc<str>,
}

impl Pod {
    pub(crate) fn new(
        uid: &str,
        info: PodInfo,
        netns: NetNs,
        cluster: &str,
        network: Arc<str>,
    ) -> Self {
        let workload = format!("{cluster}//Pod/{}/{}", info.namespace, info.name);
        Self {
            serial: PodSerial(NEXT.fetch_add(1, Ordering::Relaxed)),
            uid: uid.into(),
            info,
            netns,
            workload,
            network,
        }
    }

    /// The identity to ask a certificate for before the mesh knows the pod.
    pub(crate) fn expected_identity(&self, snapshot: &Snapshot, trust_domain: &str) -> Identity {
        match self.find(snapshot, None) {
            Some(workload) => workload.identity(),
            None => Identity::new(
                trust_domain,
                &*self.info.namespace,
                &*self.info.service_account,
            ),
        }
    }

    /// The pod's workload; waits for discovery, because a new pod's first connection may come before its workload does.
    /// Never somebody else's: what does not agree with the node agent's word is not it.
    pub(crate) async fn workload(
        &self,
        state: &State,
        own: IpAddr,
    ) -> Result<Arc<Workload>, Failure> {
        if let Some(workload) = self.find(&state.load(), Some(own)) {
            return Ok(workload);
        }
        let found = state.wait_for(|snapshot| self.find(snapshot, Some(own)));
        tokio::time::timeout(LOCAL_WORKLOAD_DEADLINE, found)
            .await
            .map_err(|_| Failure::UnknownPod(self.name()))
    }

    /// The pod's workload where no address of its own is at hand.
    pub(crate) async fn own_workload(&self, state: &State) -> Result<Arc<Workload>, Failure> {
        if let Some(workload) = self.find(&state.load(), None) {
            return Ok(workload);
        }
        let found = state.wait_for(|snapshot| self.find(snapshot, None));
        tokio::time::timeout(LOCAL_WORKLOAD_DEADLINE, found)
            .await
            .map_err(|_| Failure::UnknownPod(self.name()))
    }

    fn find(&self, snapshot: &Snapshot, own: Option<IpAddr>) -> Option<Arc<Workload>> {
        let by_uid = snapshot.mesh.workload(&self.workload);
        let by_address = || {
            snapshot
                .mesh
                .workload_at(&self.network, own?.to_canonical())
        };
        let workload = by_uid.or_else(by_address)?;
        let agrees = *workload.name == *self.info.name
            && *workload.namespace == *self.info.namespace
            && *workload.service_account == *self.info.service_account;
        agrees.then(|| workload.clone())
    }

    pub(crate) fn name(&self) -> Arc<str> {
        format!("{}/{}", self.info.namespace, self.info.name).into()
    }
}
