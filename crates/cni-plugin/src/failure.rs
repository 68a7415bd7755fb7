//! Errors in the form that container runtimes show on the pod: what, why, and what to do next.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::call::Pod;

/// A CNI error.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u32,
    message: String,
    details: String,
}

/// Codes of the CNI specification.
const INCOMPATIBLE_ENVIRONMENT: u32 = 4;
const INPUT: u32 = 5;
const UNDECODABLE: u32 = 6;
const INVALID_CONFIGURATION: u32 = 7;
const TRY_LATER: u32 = 11;

const AGENT: &str = "look at the node agent: kubectl -n istio-system get pods -l k8s-app=istio-cni-node -o wide (DaemonSet istio-cni-node), and at its log";

impl Failure {
    pub(crate) fn unreadable(error: &io::Error) -> Self {
        Self::new(
            INPUT,
            format!("cannot read the CNI configuration: {error}"),
            "the container runtime sends it on standard input",
        )
    }

    pub(crate) fn malformed(error: &serde_json::Error) -> Self {
        Self::new(
            UNDECODABLE,
            format!("the CNI configuration makes no sense: {error}"),
            "correct the entry istio-cni in the node's CNI configuration; the node agent writes it anew when it is removed",
        )
    }

    pub(crate) fn not_chained() -> Self {
        Self::new(
            INVALID_CONFIGURATION,
            "istio-cni got no result of another plugin".into(),
            "it must come after the plugin that makes the pod's network; the node agent puts it last in the first CNI configuration",
        )
    }

    pub(crate) fn unknown_command(command: &str) -> Self {
        Self::new(
            INCOMPATIBLE_ENVIRONMENT,
            format!("CNI_COMMAND {command:?} is not known"),
            "known are ADD, DEL, CHECK, GC, STATUS and VERSION; this program is called by container runtimes",
        )
    }

    pub(crate) fn no_agent(socket: &Path, error: &io::Error) -> Self {
        let message = format!(
            "the mesh's node agent cannot be reached at {}: {error}; pods do not start without it, because their traffic would leave in clear",
            socket.display()
        );
        Self::new(TRY_LATER, message, AGENT)
    }

    pub(crate) fn lost_agent(pod: &Pod, error: &io::Error) -> Self {
        let message = format!(
            "the mesh's node agent did not answer for pod {}/{}: {error}",
            pod.namespace, pod.name
        );
        Self::new(TRY_LATER, message, AGENT)
    }

    pub(crate) fn refused(pod: &Pod, why: &str) -> Self {
        let message = format!(
            "pod {}/{} cannot join the mesh: {why}",
            pod.namespace, pod.name
        );
        Self::new(TRY_LATER, message, AGENT)
    }

    fn new(code: u32, message: String, details: &str) -> Self {
        Self {
            code,
            message,
            details: details.to_owned(),
        }
    }

    /// In the CNI version of the configuration, as the specification asks. Runtimes show the message, not always the
    /// details, so the message has both.
    pub(crate) fn to_json(&self, configuration: &str) -> Value {
        let version = serde_json::from_str::<Value>(configuration)
            .ok()
            .and_then(|value| value.get("cniVersion")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| crate::NEWEST.to_owned());
        let message = format!("{}; {}", self.message, self.details);
        json!({ "cniVersion": version, "code": self.code, "msg": message, "details": self.details })
    }
}
