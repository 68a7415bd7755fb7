//! The signing authority in its Secret: found, made, shared between replicas, and followed when
//! the operator replaces it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::sleep;
use tracing::{error, info, warn};
use tulle_api::contract;
use tulle_api::k8s_openapi::ByteString;
use tulle_api::k8s_openapi::api::core::v1::Secret;
use tulle_cluster::kube::api::ObjectMeta;
use tulle_cluster::{Api, Change, Client, Selection};
use tulle_identity::{Authority, AuthorityError, CaFiles};

use crate::limits::AUTHORITY_RETRY;

/// What Istio calls the type of its CA Secret.
const SECRET_TYPE: &str = "istio.io/ca-root";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityUnavailable {
    /// The Secret cannot be read or written.
    #[error("CA: {0}")]
    Cluster(#[from] tulle_cluster::Error),
    /// The Secret is there and wrong.
    #[error(
        "CA: Secret {namespace}/{name}: {why}. Correct the Secret, or delete it to let a new root be made"
    )]
    Secret {
        /// Namespace of the control plane.
        namespace: String,
        /// `cacerts` or `istio-ca-secret`.
        name: &'static str,
        /// What is wrong.
        why: AuthorityError,
    },
    /// No new root could be made.
    #[error("CA: {0}")]
    New(AuthorityError),
}

/// The Secrets of one control plane.
#[derive(Clone)]
pub(crate) struct Store {
    secrets: Api<Secret>,
    namespace: String,
}

impl Store {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
        }
    }

    /// The operator's own authority (`cacerts`) if there is one, else the self-signed one, which
    /// is made now if it is missing.
    pub(crate) async fn load_or_create(
        &self,
        trust_domain: &str,
    ) -> Result<Authority, AuthorityUnavailable> {
        if let Some(authority) = self.load(contract::SECRET_PLUGGED_CA, trust_domain).await? {
            return Ok(authority);
        }
        loop {
            if let Some(authority) = self.load(contract::SECRET_CA, trust_domain).await? {
                return Ok(authority);
            }
            let new =
                Authority::new_self_signed(trust_domain).map_err(AuthorityUnavailable::New)?;
            match tulle_cluster::create(&self.secrets, &secret(new.files())).await {
                Ok(_) => {
                    let (namespace, name) = (&self.namespace, contract::SECRET_CA);
                    info!(secret = %format!("{namespace}/{name}"), "made a new self-signed root");
                    return Ok(new);
                }
                // Another replica was first: its root is the mesh's.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tries until it works: a Secret that is wrong or unreadable now may be right in a moment.
    pub(crate) async fn wait(&self, trust_domain: &str) -> Authority {
        let mut told = String::new();
        loop {
            match self.load_or_create(trust_domain).await {
                Ok(authority) => return authority,
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        error!("{text}");
                        told = text;
                    }
                }
            }
            sleep(AUTHORITY_RETRY).await;
        }
    }

    async fn load(
        &self,
        name: &'static str,
        trust_domain: &str,
    ) -> Result<Option<Authority>, AuthorityUnavailable> {
        let Some(secret) = tulle_cluster::get(&self.secrets, name).await? else {
            return Ok(None);
        };
        self.read(name, &secret, trust_domain).map(Some)
    }

    fn read(
        &self,
        name: &'static str,
        secret: &Secret,
        trust_domain: &str,
    ) -> Result<Authority, AuthorityUnavailable> {
        let data = secret.data.as_ref();
        let value = |key: &str| Some(data?.get(key)?.0.clone());
        CaFiles::from_secret(value)
            .and_then(|files| Authority::from_files(trust_domain, files))
            .map_err(|why| AuthorityUnavailable::Secret {
                namespace: self.namespace.clone(),
                name,
                why,
            })
    }

    /// Follows the Secret that the mesh's authority comes from. `apply` gets each new authority;
    /// a Secret that is deleted changes nothing (what is signed stays good), one that is wrong is
    /// told and not taken.
    pub(crate) async fn follow(
        self,
        current: impl Fn() -> Arc<Authority>,
        mut apply: impl FnMut(Authority),
    ) {
        let names = [contract::SECRET_PLUGGED_CA, contract::SECRET_CA];
        let mut watches = futures_util::stream::select_all(names.map(|name| {
            let selection = Selection::fields(&format!("metadata.name={name}"));
            tulle_cluster::watch(self.secrets.clone(), selection)
                .map(move |c| (name, c))
                .boxed()
        }));
        let mut plugged = false;
        while let Some((name, change)) = watches.next().await {
            let is_plugged = name == contract::SECRET_PLUGGED_CA;
            let secret = match change {
                Change::Upsert(secret) => secret,
                Change::Remove(key) => {
                    warn!(secret = %key, "the CA Secret was deleted; its root stays in use until the control plane restarts");
                    continue;
                }
                Change::Synced => continue,
            };
            plugged |= is_plugged;
            if plugged && !is_plugged {
                continue;
            }
            let now = current();
            match self.read(name, &secret, now.trust_domain()) {
                Ok(new) if new.files() == now.files() => {}
                Ok(new) if !overlap(now.root_pem(), new.root_pem()) => error!(
                    secret = name,
                    "the new CA shares no root with the one in use: taking it now would break every connection. \
                     First put both roots into root-cert.pem, or restart the control plane to take it anyway"
                ),
                Ok(new) => {
                    info!(
                        secret = name,
                        "the CA Secret changed: signing with it from now on"
                    );
                    apply(new);
                }
                Err(error) => error!("{error}"),
            }
        }
    }
}

/// Whether two bundles have a certificate in common.
fn overlap(one: &str, other: &str) -> bool {
    let blocks = |text: &str| -> Vec<String> {
        text.split("-----END CERTIFICATE-----")
            .filter_map(|block| block.split_once("-----BEGIN CERTIFICATE-----"))
            .map(|(_, body)| body.split_whitespace().collect())
            .collect()
    };
    let known = blocks(one);
    blocks(other).iter().any(|block| known.contains(block))
}

fn secret(files: &CaFiles) -> Secret {
    let mut data: BTreeMap<String, ByteString> = files
        .to_secret()
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
        .collect();
    // Istio's layout has it, for certificates that the CA would sign for itself.
    data.insert("key.pem".to_owned(), ByteString(Vec::new()));
    Secret {
        metadata: ObjectMeta {
            name: Some(contract::SECRET_CA.to_owned()),
            ..Default::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(data),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
