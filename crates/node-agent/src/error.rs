//! What can go wrong, told so that the reader knows what to do next.

use std::io;
use std::path::PathBuf;

use tulle_linux::redirect::{NftError, RedirectError};

/// Why the node agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An environment variable.
    #[error("environment variable {name}: {why}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The Kubernetes API.
    #[error(transparent)]
    Cluster(#[from] tulle_cluster::Error),
    /// The node's own network namespace.
    #[error(
        "cannot open the node's network namespace {path}: {source} (mount the node's /proc there and run the container privileged)"
    )]
    HostNamespace {
        /// Where it was looked for.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The rules on the node.
    #[error("probe rules on the node: {0}")]
    HostRules(#[from] NftError),
    /// A socket or page that cannot be opened.
    #[error("cannot listen at {place}: {source} (does another node agent run on this node?)")]
    Listen {
        /// Path or port.
        place: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Signals or another resource of the process.
    #[error("the machine refused a resource: {0}")]
    Resource(#[from] io::Error),
}

/// Why a pod could not be enrolled or released now.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No process of the pod was found; it may be starting or ending.
    #[error("no process of the pod was found below the node's /proc")]
    NoProcess,
    /// The namespace that was found is not the pod's.
    #[error(
        "the network namespace of the pod's process has none of the pod's addresses ({expected}); it is left alone"
    )]
    WrongNamespace {
        /// The addresses in the pod's status.
        expected: String,
    },
    /// The path that the container runtime gave.
    #[error(
        "cannot open the pod's network namespace {path}: {source} (the node agent must see the runtime's directory at the same path: install with --set cni.cniNetnsDir=DIRECTORY)"
    )]
    Namespace {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No switch of the kernel could be set in the pod's namespace.
    #[error(
        "cannot set net.ipv4.tcp_migrate_req in the pod: {0} (Linux 5.14 or later and a writable /proc/sys of the node are needed)"
    )]
    Prepare(#[source] io::Error),
    /// The node proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The rules in the pod.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The rules on the node.
    #[error("probe rules on the node: {0}")]
    Probes(#[from] NftError),
    /// The annotation.
    #[error(transparent)]
    Cluster(#[from] tulle_cluster::Error),
    /// The runtime of this process is ending.
    #[error("the node agent is ending")]
    Ending,
}

/// Why no node proxy serves a pod.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProxyError {
    /// None is connected.
    #[error(
        "no ztunnel is connected on this node; look at `kubectl get pods -n istio-system -l app=ztunnel` and its log"
    )]
    NotConnected,
    /// It did not answer in time.
    #[error("ztunnel did not take the pod within {0} s; look at its log")]
    Deadline(u64),
    /// It answered with an error.
    #[error(
        "ztunnel cannot serve the pod: {0} (does the application use port 15001, 15006 or 15008?)"
    )]
    Refused(String),
    /// A message that does not fit.
    #[error("the pod's name, namespace and service account do not fit a ZDS message of 1024 bytes")]
    TooLong,
}
