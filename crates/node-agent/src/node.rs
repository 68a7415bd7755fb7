//! The kernel's side of this node, off the async threads.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tulle_linux::redirect::{self, NftError, Observation};
use tulle_linux::{HostProbes, NetNs, Redirect, pods};

use crate::error::EnrolError;
use crate::limits::{BLOCKING_WORK, SCAN_FRESH};
use crate::pod::PodFacts;

/// Network namespaces, redirect rules and probe rules of this node. Clones share it.
#[derive(Clone)]
pub(crate) struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    proc: PathBuf,
    probes: Mutex<HostProbes>,
    host: NetNs,
    /// Kernel work is done by few threads at a time.
    places: Semaphore,
    scan: tokio::sync::Mutex<Option<(Instant, Found)>>,
}

type Found = Arc<HashMap<String, NetNs>>;

impl Node {
    /// Installs the probe rules on the node.
    pub(crate) fn new(proc: PathBuf) -> Result<Self, crate::Error> {
        let path = proc.join("1/ns/net");
        let host =
            NetNs::open(&path).map_err(|source| crate::Error::HostNamespace { path, source })?;
        let inner = Inner {
            proc,
            probes: Mutex::new(HostProbes::install(host.clone())?),
            host,
            places: Semaphore::new(BLOCKING_WORK),
            scan: tokio::sync::Mutex::new(None),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The network namespace of a running pod, checked to be the pod's.
    pub(crate) async fn find(&self, pod: &PodFacts) -> Result<NetNs, EnrolError> {
        let ns = self
            .namespaces()
            .await?
            .get(&pod.runtime_uid)
            .cloned()
            .ok_or(EnrolError::NoProcess)?;
        let asked = ns.clone();
        let present = self
            .work(move || pods::addresses(&asked))
            .await?
            .unwrap_or_default();
        if pod
            .addresses
            .iter()
            .any(|address| present.contains(address))
        {
            return Ok(ns);
        }
        let expected: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
        Err(EnrolError::WrongNamespace {
            expected: expected.join(", "),
        })
    }

    /// All pods' namespaces, from a scan that is at most a moment old.
    pub(crate) async fn namespaces(&self) -> Result<Found, EnrolError> {
        let mut last = self.inner.scan.lock().await;
        if let Some((when, found)) = &*last
            && when.elapsed() < SCAN_FRESH
        {
            return Ok(found.clone());
        }
        let proc = self.inner.proc.clone();
        let found = self.work(move || pods::find_pod_netns(&proc)).await?;
        let found = Arc::new(found.map_err(|source| EnrolError::Namespace {
            path: self.inner.proc.clone(),
            source,
        })?);
        *last = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// Gives up what the last scan found: a namespace must not live on because it is remembered here.
    pub(crate) async fn forget_scan(&self) {
        *self.inner.scan.lock().await = None;
    }

    /// The namespace that the container runtime named.
    pub(crate) fn open(&self, path: PathBuf) -> Result<NetNs, EnrolError> {
        match NetNs::open(&path) {
            Ok(ns) if ns == self.inner.host => Err(EnrolError::Namespace {
                path,
                source: std::io::Error::other("it is the node's own namespace"),
            }),
            Ok(ns) => Ok(ns),
            Err(source) => Err(EnrolError::Namespace { path, source }),
        }
    }

    pub(crate) async fn prepare(&self, ns: &NetNs) -> Result<(), EnrolError> {
        let (ns, sysctl) = (ns.clone(), self.inner.proc.join("sys"));
        self.work(move || redirect::prepare(&ns, &sysctl))
            .await?
            .map_err(EnrolError::Prepare)
    }

    /// Installs the rules; tells what they look like from outside.
    pub(crate) async fn install(
        &self,
        ns: &NetNs,
        wanted: &Redirect,
    ) -> Result<Option<Observation>, EnrolError> {
        let (ns, wanted) = (ns.clone(), wanted.clone());
        self.work(move || {
            redirect::install(&ns, &wanted)?;
            Ok(redirect::observe(&ns).ok())
        })
        .await?
    }

    pub(crate) async fn stop_capture(&self, ns: &NetNs) -> Result<(), EnrolError> {
        let ns = ns.clone();
        Ok(self.work(move || redirect::stop_capture(&ns)).await??)
    }

    pub(crate) async fn remove(&self, ns: &NetNs) -> Result<(), EnrolError> {
        let ns = ns.clone();
        Ok(self.work(move || redirect::remove(&ns)).await??)
    }

    /// Whether an earlier run left rules in the namespace.
    pub(crate) async fn leftover(&self, ns: &NetNs) -> bool {
        let ns = ns.clone();
        self.work(move || redirect::installed(&ns))
            .await
            .unwrap_or(false)
    }

    /// What the namespace looks like; `None` when it cannot be asked.
    pub(crate) async fn observe(&self, ns: &NetNs) -> Option<Observation> {
        let ns = ns.clone();
        self.work(move || redirect::observe(&ns).ok())
            .await
            .ok()
            .flatten()
    }

    pub(crate) async fn intact(&self, ns: &NetNs, wanted: &Redirect) -> bool {
        let (ns, wanted) = (ns.clone(), wanted.clone());
        self.work(move || redirect::intact(&ns, &wanted))
            .await
            .unwrap_or(true)
    }

    pub(crate) async fn add_probes(&self, pod: &PodFacts) -> Result<(), EnrolError> {
        let (uid, addresses) = (pod.uid.clone(), pod.addresses.clone());
        Ok(self
            .on_probes(move |probes| probes.add(&uid, &addresses))
            .await??)
    }

    pub(crate) async fn remove_probes(&self, uid: &str) -> Result<(), EnrolError> {
        let uid = uid.to_owned();
        Ok(self.on_probes(move |probes| probes.remove(&uid)).await??)
    }

    pub(crate) async fn replace_probes(
        &self,
        owners: BTreeMap<IpAddr, String>,
    ) -> Result<(), EnrolError> {
        Ok(self
            .on_probes(move |probes| probes.replace(owners))
            .await??)
    }

    /// True when somebody had damaged the rules on the node.
    pub(crate) async fn repair_probes(&self) -> Result<bool, EnrolError> {
        Ok(self.on_probes(HostProbes::repair).await??)
    }

    /// The mesh leaves this node.
    pub(crate) async fn clear_probes(&self) -> Result<(), EnrolError> {
        Ok(self.on_probes(HostProbes::clear).await??)
    }

    /// The nftables generation of the node's own namespace.
    pub(crate) async fn host_generation(&self) -> Option<u32> {
        let host = self.inner.host.clone();
        self.work(move || redirect::generation(&host).ok())
            .await
            .ok()
            .flatten()
    }

    async fn on_probes<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut HostProbes) -> Result<T, NftError> + Send + 'static,
    ) -> Result<Result<T, NftError>, EnrolError> {
        let inner = self.inner.clone();
        self.work(move || change(&mut inner.probes.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EnrolError> {
        let _place = self
            .inner
            .places
            .acquire()
            .await
            .map_err(|_| EnrolError::Ending)?;
        tokio::task::spawn_blocking(job)
            .await
            .map_err(|_| EnrolError::Ending)
    }
}
