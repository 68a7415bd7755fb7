//! Kinds that are accepted and have no effect: their owners are told in the status, never by
//! silence. Only the objects' metadata is read.

use futures_util::StreamExt;
use tokio::task::JoinSet;
use tulle_cluster::kube::api::{DynamicObject, PartialObjectMeta};
use tulle_cluster::{Api, Change, Client, Key, Selection};
use tulle_translate::unsupported_kind;

use crate::status::{Kind, Part, Statuses, Target};

const fn kind(
    group: &'static str,
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
) -> Kind {
    Kind {
        group,
        versions,
        kind,
        plural,
    }
}

/// They configure sidecars, or Envoy itself.
const KINDS: [Kind; 5] = [
    kind("networking.istio.io", &["v1"], "Sidecar", "sidecars"),
    kind(
        "networking.istio.io",
        &["v1alpha3"],
        "EnvoyFilter",
        "envoyfilters",
    ),
    kind(
        "networking.istio.io",
        &["v1beta1"],
        "ProxyConfig",
        "proxyconfigs",
    ),
    kind(
        "extensions.istio.io",
        &["v1alpha1"],
        "WasmPlugin",
        "wasmplugins",
    ),
    kind(
        "extensions.istio.io",
        &["v1alpha1"],
        "TrafficExtension",
        "trafficextensions",
    ),
];

/// Watches them for ever.
pub(crate) fn start(client: &Client, statuses: &Statuses, tasks: &mut JoinSet<&'static str>) {
    for kind in KINDS {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::all_with(client.clone(), &kind.resource());
        let mut changes = tulle_cluster::watch(api, Selection::optional());
        let statuses = statuses.clone();
        tasks.spawn(async move {
            while let Some(change) = changes.next().await {
                match change {
                    Change::Upsert(object) => {
                        let condition = unsupported_kind(kind.kind, object.metadata.generation);
                        statuses.submit(target(kind, Key::of(&object)), vec![condition]);
                    }
                    Change::Remove(key) => statuses.forget(&target(kind, key)),
                    Change::Synced => {}
                }
            }
            "a watch of kinds without effect"
        });
    }
}

fn target(kind: Kind, key: Key) -> Target {
    Target {
        kind,
        namespace: key.namespace,
        name: key.name,
        part: Part::Conditions,
    }
}
