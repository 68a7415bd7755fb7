//! Secrets and ConfigMaps that listeners and policies may name: read by everybody's leave, kept by nobody who need not.
//!
//! Which of them are named is known only from other objects, so all are watched, as istiod does; but what holds no
//! certificate goes no further than this file.

use std::collections::{BTreeMap, HashSet};

use futures_util::{Stream, StreamExt};
use tulle_api::contract::{CONFIGMAP_ROOT, LABEL_GATEWAY_CLASS_DEFAULTS};
use tulle_api::k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tulle_cluster::{Api, Change, Client, Key, Selection};

use super::Watches;
use crate::mesh::{Source, Translation};

/// Types of Secrets that hold no certificate and are large or many.
const NEVER: &str = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,\
                     type!=kubernetes.io/dockerconfigjson,type!=bootstrap.kubernetes.io/token,type!=istio.io/ca-root";

/// Keys under which Istio and the Gateway API look for certificates, keys and revocation lists.
const KEYS: [&str; 8] = [
    "tls.crt", "tls.key", "ca.crt", "cert", "key", "cacert", "ca.crl", "crl",
];

pub(super) fn watch(watches: &mut Watches, client: &Client) {
    let secrets =
        tulle_cluster::watch(Api::<Secret>::all(client.clone()), Selection::fields(NEVER));
    let secrets = kept(secrets, |secret: Secret| {
        let held = secret
            .data
            .as_ref()
            .is_some_and(|data| data.keys().any(|key| is_key(key)));
        held.then(|| strip_secret(secret))
    });
    watches.take(Source::Secrets, secrets, Translation::secret);
    // Published by Kubernetes and by us in every namespace, and never named.
    let fields = format!("metadata.name!=kube-root-ca.crt,metadata.name!={CONFIGMAP_ROOT}");
    let maps = tulle_cluster::watch(
        Api::<ConfigMap>::all(client.clone()),
        Selection::fields(&fields),
    );
    // Each counts: that one exists is enough to be a Gateway's parameters.
    let maps = kept(maps, |map| Some(strip_map(map)));
    watches.take(Source::ConfigMaps, maps, Translation::config_map);
}

fn is_key(key: &str) -> bool {
    KEYS.contains(&key)
}

/// Nothing but certificates and keys.
fn strip_secret(mut secret: Secret) -> Secret {
    if let Some(data) = &mut secret.data {
        data.retain(|key, _| is_key(key));
    }
    secret.metadata.annotations = None;
    secret
}

/// Nothing but certificates; all of what is meant as defaults of a class.
fn strip_map(mut map: ConfigMap) -> ConfigMap {
    let labels = map.metadata.labels.as_ref();
    let defaults = labels.is_some_and(|labels| labels.contains_key(LABEL_GATEWAY_CLASS_DEFAULTS));
    if !defaults {
        let keep = |data: &mut BTreeMap<String, _>| data.retain(|key, _| is_key(key));
        map.data.as_mut().map(keep);
        map.binary_data = None;
    }
    map.metadata.annotations = None;
    map
}

/// The changes of those objects that `keep` keeps; one that is kept no longer is removed.
fn kept<K>(
    changes: impl Stream<Item = Change<K>> + Send + Unpin + 'static,
    keep: impl Fn(K) -> Option<K> + Send + 'static,
) -> impl Stream<Item = Change<K>> + Send + Unpin + 'static
where
    K: tulle_cluster::kube::Resource + Send + 'static,
{
    let mut known: HashSet<Key> = HashSet::new();
    let changes = changes.filter_map(move |change| {
        let change = match change {
            Change::Upsert(object) => {
                let key = Key::of(&object);
                match keep(object) {
                    Some(object) => {
                        known.insert(key);
                        Some(Change::Upsert(object))
                    }
                    None => known.remove(&key).then_some(Change::Remove(key)),
                }
            }
            Change::Remove(key) => known.remove(&key).then_some(Change::Remove(key)),
            Change::Synced => Some(Change::Synced),
        };
        std::future::ready(change)
    });
    changes.boxed()
}

#[cfg(test)]
mod tests;
