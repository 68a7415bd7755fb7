//! What can go wrong with the Kubernetes API, told so that the reader knows what to do next.

use std::error::Error as _;
use std::time::Duration;

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the Kubernetes API, seen from the caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a pod's service account was found.
    #[error(
        "no Kubernetes cluster is configured: {why}. Set KUBECONFIG (or --kubeconfig) to the file \
         of the cluster, or run inside a pod with a service account"
    )]
    NoConfiguration {
        /// What was tried.
        why: String,
    },
    /// The kubeconfig exists and cannot be used.
    #[error("the kubeconfig cannot be used: {why}. Check it with `kubectl config view`")]
    Configuration {
        /// What is wrong with it.
        why: String,
    },
    /// No connection, or no answer in time.
    #[error(
        "the Kubernetes API server{} cannot be reached while trying to {doing}: {why}. Check that it runs and that this machine can reach it",
        at(server)
    )]
    Unreachable {
        /// URL of the server, empty when unknown.
        server: String,
        /// The attempted operation.
        doing: String,
        /// What the network said.
        why: String,
    },
    /// The server does not know who asks (401).
    #[error(
        "the API server does not accept these credentials ({doing}): {why}. Renew the credentials of the kubeconfig or the service account token"
    )]
    Unauthorized {
        /// The attempted operation.
        doing: String,
        /// The server's words.
        why: String,
    },
    /// The caller has no right to do this (403).
    #[error("not allowed to {doing}: {why}. Ask a cluster administrator for this right (RBAC)")]
    Forbidden {
        /// The attempted operation.
        doing: String,
        /// The server's words.
        why: String,
    },
    /// The object, or its whole kind, does not exist (404).
    #[error("{doing}: not found ({why})")]
    NotFound {
        /// The attempted operation.
        doing: String,
        /// The server's words.
        why: String,
    },
    /// Somebody else was first (409): re-read and decide again.
    #[error("{doing}: conflict with another writer ({why})")]
    Conflict {
        /// The attempted operation.
        doing: String,
        /// The server's words.
        why: String,
    },
    /// The object does not satisfy its schema or an admission rule (400, 422).
    #[error("{doing}: the API server refuses the object: {why}")]
    Invalid {
        /// The attempted operation.
        doing: String,
        /// The server's words.
        why: String,
    },
    /// Any other answer that is not success.
    #[error("{doing}: the API server answered {code}: {why}")]
    Refused {
        /// The attempted operation.
        doing: String,
        /// HTTP status.
        code: u16,
        /// The server's words.
        why: String,
    },
    /// The answer could not be read, or the request could not be built: a version mismatch or a
    /// fault of this program.
    #[error("{doing}: unusable request or answer: {why}")]
    Malformed {
        /// The attempted operation.
        doing: String,
        /// What did not fit.
        why: String,
    },
    /// The kind of an object is not served by this cluster.
    #[error(
        "the cluster has no kind {kind} ({api_version}). Install its CustomResourceDefinition first"
    )]
    UnknownKind {
        /// Group and version as in the manifest.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// An awaited condition did not come true in time.
    #[error("{what} did not happen within {after:?}: {last}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// The state last seen.
        last: String,
    },
    /// A token that the API server does not vouch for.
    #[error("the API server does not vouch for the token: {why}")]
    TokenRefused {
        /// The server's words; never parts of the token.
        why: String,
    },
}

impl Error {
    /// Sorts a client error; `doing` is an infinitive, e.g. `"create ConfigMap a/b"`.
    pub fn from_kube(doing: impl Into<String>, error: kube::Error) -> Self {
        let doing = doing.into();
        match error {
            kube::Error::Api(status) => Self::from_status(doing, &status),
            kube::Error::SerdeError(_)
            | kube::Error::BuildRequest(_)
            | kube::Error::FromUtf8(_)
            | kube::Error::HttpError(_) => Self::Malformed {
                doing,
                why: error.to_string(),
            },
            kube::Error::Auth(why) => Self::Unauthorized {
                doing,
                why: why.to_string(),
            },
            other => Self::Unreachable {
                server: String::new(),
                doing,
                why: chain(&other),
            },
        }
    }

    /// Sorts an answer of the API server that is not success.
    pub(crate) fn from_status(doing: String, status: &kube::core::Status) -> Self {
        let why = if status.message.is_empty() {
            status.reason.clone()
        } else {
            status.message.clone()
        };
        match status.code {
            401 => Self::Unauthorized { doing, why },
            403 => Self::Forbidden { doing, why },
            404 => Self::NotFound { doing, why },
            409 => Self::Conflict { doing, why },
            400 | 422 => Self::Invalid { doing, why },
            code => Self::Refused { doing, code, why },
        }
    }

    /// The object or kind does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Somebody else was first.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Waiting and trying again may help: no connection, overload, server-side trouble.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }
}

/// The innermost causes matter most ("connection refused"): all of them, joined.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

fn at(server: &str) -> String {
    if server.is_empty() {
        String::new()
    } else {
        format!(" at {server}")
    }
}

/// Transport errors of the library as a plain text with all causes.
pub(crate) fn transport(error: &kube::Error) -> String {
    match error.source() {
        Some(inner) => chain(inner),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
