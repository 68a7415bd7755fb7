//! Whose certificate a caller may have: its own, or, for a node proxy, that of a pod on its own
//! node. The name in the certificate is made here, from what the cluster says.

use tulle_cluster::Key;
use tulle_model::Identity;
use tulle_xds::server::Caller;

use crate::limits::POD_APPEARS_WITHIN;
use crate::pods::{KnownPod, Pods};

/// Why a certificate is refused. The text is for our log; the caller learns only that it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0:?} is no SPIFFE identity")]
    Malformed(String),
    #[error("{0} is not of this mesh's trust domain {1}")]
    TrustDomain(Identity, String),
    #[error("{0} is no trusted node account (CA_TRUSTED_NODE_ACCOUNTS) and may not ask for {1}")]
    NotTrusted(String, Identity),
    #[error("{0} did not show a token bound to a pod, so its node is unknown")]
    NoPod(String),
    #[error("the caller's pod {0} (UID {1}) does not exist (any more)")]
    Gone(String, String),
    #[error("the caller's pod {0} does not run as {1}")]
    OtherAccount(String, String),
    #[error("the token is bound to node {0}, the pod {1} is on {2}")]
    OtherNode(String, String, String),
    #[error("no pod of {0} is on node {1}, where the caller {2} is")]
    NotOnNode(Identity, String, String),
}

impl Refusal {
    /// Label of the error counter.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::TrustDomain(..) => "identity",
            Self::NotTrusted(..) => "not_trusted",
            Self::NoPod(_) | Self::Gone(..) | Self::OtherAccount(..) | Self::OtherNode(..) => {
                "caller_pod"
            }
            Self::NotOnNode(..) => "not_on_node",
        }
    }
}

/// The rules of who may ask for what.
pub(crate) struct Rules {
    pub(crate) pods: Pods,
    /// Namespace and name of the accounts of node proxies.
    pub(crate) trusted: Vec<(String, String)>,
}

impl Rules {
    /// The identity that the certificate must carry.
    pub(crate) async fn decide(
        &self,
        caller: &Caller,
        wanted: Option<&str>,
        trust_domain: &str,
    ) -> Result<Identity, Refusal> {
        let Some(wanted) = wanted else {
            let (namespace, account) = (&*caller.namespace, &*caller.service_account);
            return Ok(Identity::new(trust_domain, namespace, account));
        };
        let wanted: Identity = wanted
            .parse()
            .map_err(|_| Refusal::Malformed(wanted.chars().take(256).collect()))?;
        if *wanted.trust_domain != *trust_domain {
            return Err(Refusal::TrustDomain(wanted, trust_domain.to_owned()));
        }
        // A proxy that asks in its own name, by name.
        if *wanted.namespace == *caller.namespace
            && *wanted.service_account == *caller.service_account
        {
            return Ok(wanted);
        }
        let is_trusted = |(namespace, account): &(String, String)| {
            *namespace == caller.namespace && *account == caller.service_account
        };
        if !self.trusted.iter().any(is_trusted) {
            return Err(Refusal::NotTrusted(account(caller), wanted));
        }
        let node = self.node_of(caller).await?;
        let runs = |pods: &Pods| {
            pods.runs(&node, &wanted.namespace, &wanted.service_account)
                .then_some(())
        };
        match self.pods.wait(POD_APPEARS_WITHIN, runs).await {
            Some(()) => Ok(wanted),
            None => Err(Refusal::NotOnNode(wanted, node, account(caller))),
        }
    }

    /// Where the caller's pod really is. The token alone is not believed: its pod must exist.
    async fn node_of(&self, caller: &Caller) -> Result<String, Refusal> {
        let Some((name, uid)) = caller.pod_name.as_ref().zip(caller.pod_uid.as_ref()) else {
            return Err(Refusal::NoPod(account(caller)));
        };
        let key = Key::new(&caller.namespace, name);
        let there = |pod: &KnownPod| *pod.uid == **uid && !pod.node.is_empty();
        let found = self
            .pods
            .wait(POD_APPEARS_WITHIN, |pods| pods.get(&key).filter(there))
            .await;
        let pod = found.ok_or_else(|| Refusal::Gone(key.to_string(), uid.clone()))?;
        if *pod.service_account != *caller.service_account {
            return Err(Refusal::OtherAccount(key.to_string(), account(caller)));
        }
        match &caller.node {
            Some(node) if **node != *pod.node => Err(Refusal::OtherNode(
                node.clone(),
                key.to_string(),
                pod.node.to_string(),
            )),
            _ => Ok(pod.node.to_string()),
        }
    }
}

fn account(caller: &Caller) -> String {
    format!("{}/{}", caller.namespace, caller.service_account)
}

#[cfg(test)]
mod tests;
