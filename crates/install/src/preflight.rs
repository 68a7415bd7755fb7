//! Questions before anything is changed: is there a cluster, is it new enough, may we, and whose is what is there?

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use tulle_api::contract::{CONTROL_PLANE, NODE_AGENT, SYSTEM_NAMESPACE, ZTUNNEL};
use tulle_api::k8s_openapi;
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::{Api, Client, Right, missing_rights};

use crate::error::{Error, Missing};
use crate::manifests::{LABEL_MANAGED_BY, MANAGED_BY};

/// The oldest minor version of Kubernetes 1 that has all that the manifests use.
pub const MINIMUM_MINOR: u32 = 29;

/// Everything that is asked before an installation.
pub async fn preflight(client: &Client) -> Result<(), Error> {
    version(client).await?;
    rights(client, "install the mesh", INSTALL).await?;
    foreign(client).await
}

async fn version(client: &Client) -> Result<(), Error> {
    let version = client
        .apiserver_version()
        .await
        .map_err(|error| tulle_cluster::Error::from_kube("read the server's version", error))?;
    // Some providers write "29+".
    let digits: String = version
        .minor
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let minor: u32 = digits.parse().unwrap_or(0);
    if version.major == "1" && minor < MINIMUM_MINOR {
        return Err(Error::TooOld {
            found: version.git_version,
            minimum: MINIMUM_MINOR,
        });
    }
    Ok(())
}

/// (group, resource, in istio-system) with the verbs.
type Wanted = (&'static str, &'static str, bool, &'static [&'static str]);

const APPLY: &[&str] = &["get", "create", "patch"];

const INSTALL: &[Wanted] = &[
    ("", "namespaces", false, APPLY),
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        false,
        APPLY,
    ),
    ("rbac.authorization.k8s.io", "clusterroles", false, APPLY),
    (
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        false,
        APPLY,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        false,
        APPLY,
    ),
    ("rbac.authorization.k8s.io", "roles", true, APPLY),
    ("rbac.authorization.k8s.io", "rolebindings", true, APPLY),
    ("", "serviceaccounts", true, APPLY),
    ("", "configmaps", true, APPLY),
    ("", "services", true, APPLY),
    ("apps", "deployments", true, APPLY),
    ("apps", "daemonsets", true, APPLY),
    ("", "pods", true, &["list"]),
];

const REMOVE: &[&str] = &["get", "delete"];

/// What a removal needs.
pub(crate) const UNINSTALL: &[Wanted] = &[
    ("", "namespaces", false, &["get", "patch", "delete"]),
    ("", "pods", false, &["list"]),
    ("", "configmaps", false, &["list", "delete"]),
    ("rbac.authorization.k8s.io", "clusterroles", false, REMOVE),
    (
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        false,
        REMOVE,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        false,
        REMOVE,
    ),
    // What was deployed for Gateways, in their namespaces.
    ("apps", "deployments", false, &["list", "delete"]),
    ("", "services", false, &["list", "delete"]),
    ("", "serviceaccounts", false, &["list", "delete"]),
    ("rbac.authorization.k8s.io", "roles", true, REMOVE),
    ("rbac.authorization.k8s.io", "rolebindings", true, REMOVE),
    ("", "serviceaccounts", true, REMOVE),
    ("", "services", true, REMOVE),
    ("", "secrets", true, REMOVE),
    ("apps", "deployments", true, REMOVE),
    ("apps", "daemonsets", true, REMOVE),
];

/// Fails with the list of what the user lacks. An administrator is asked one question only.
pub(crate) async fn rights(
    client: &Client,
    doing: &'static str,
    wanted: &[Wanted],
) -> Result<(), Error> {
    let everything = Right {
        verb: "*".to_owned(),
        group: "*".to_owned(),
        resource: "*".to_owned(),
        namespace: None,
    };
    if missing_rights(client, &[everything]).await?.is_empty() {
        return Ok(());
    }
    let wanted: Vec<Right> = wanted
        .iter()
        .flat_map(|(group, resource, namespaced, verbs)| {
            verbs.iter().map(move |verb| Right {
                verb: (*verb).to_owned(),
                group: (*group).to_owned(),
                resource: (*resource).to_owned(),
                namespace: namespaced.then(|| SYSTEM_NAMESPACE.to_owned()),
            })
        })
        .collect();
    let rights = missing_rights(client, &wanted).await?;
    if rights.is_empty() {
        Ok(())
    } else {
        Err(Error::Rights(Missing { doing, rights }))
    }
}

/// Refuses to touch a mesh that somebody else installed.
pub(crate) async fn foreign(client: &Client) -> Result<(), Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    if let Some(found) = tulle_cluster::get(&deployments, CONTROL_PLANE).await? {
        ours(&found, "Deployment")?;
    }
    for name in [NODE_AGENT, ZTUNNEL] {
        if let Some(found) = tulle_cluster::get(&daemon_sets, name).await? {
            ours(&found, "DaemonSet")?;
        }
    }
    Ok(())
}

fn ours(object: &impl ResourceExt, kind: &str) -> Result<(), Error> {
    let manager = object.labels().get(LABEL_MANAGED_BY).map(String::as_str);
    if manager == Some(MANAGED_BY) {
        return Ok(());
    }
    Err(Error::Foreign {
        what: format!("{kind} {SYSTEM_NAMESPACE}/{}", object.name_any()),
        why: format!(
            "belongs to another installation (managed by {}). Remove that one first, with its own tool; two meshes cannot share \
             a cluster's pods",
            manager.unwrap_or("nobody in particular, perhaps istioctl")
        ),
    })
}
