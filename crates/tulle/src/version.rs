//! `tulle version`.

use std::collections::BTreeMap;

use serde::Serialize;
use tulle_install::{ComponentStatus, Status};

use crate::cli::{Global, VersionArguments};
use crate::connect;
use crate::output::{Format, Terminal};

/// What runs where. Field names are those of `istioctl version -o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client_version: Client,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mesh_version: Vec<Part>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data_plane_version: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Client {
    version: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    component: String,
    version: String,
    pods: usize,
}

pub(crate) async fn version(
    global: &Global,
    arguments: &VersionArguments,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let mut versions = Versions {
        client_version: Client {
            version: env!("CARGO_PKG_VERSION"),
        },
        mesh_version: Vec::new(),
        data_plane_version: Vec::new(),
    };
    if !arguments.client {
        match seen(global).await {
            Ok(status) => {
                let (control, data): (Vec<_>, Vec<_>) = status
                    .components
                    .iter()
                    .partition(|part| part.name == "istiod");
                versions.mesh_version = control.into_iter().flat_map(parts).collect();
                versions.data_plane_version = data.into_iter().flat_map(parts).collect();
            }
            // The client's own version is worth having without a cluster.
            Err(error) => terminal.error_line(&format!("no mesh version: {error}")),
        }
    }
    match arguments.output {
        Format::Short => terminal.print(&text(&versions)),
        format => terminal.print_data(format, &versions),
    }
}

async fn seen(global: &Global) -> tulle_cluster::Result<Status> {
    tulle_install::status(&connect(global).await?).await
}

fn parts(component: &ComponentStatus) -> Vec<Part> {
    let part = |(version, pods): (&String, &usize)| Part {
        component: component.name.clone(),
        version: version.clone(),
        pods: *pods,
    };
    component.versions.iter().map(part).collect()
}

fn text(versions: &Versions) -> String {
    let list = |parts: &[Part]| -> String {
        let mut counts = BTreeMap::<_, Vec<String>>::new();
        for part in parts {
            let pods = format!("{} {}", part.pods, part.component);
            counts.entry(&part.version).or_default().push(pods);
        }
        let texts = counts
            .iter()
            .map(|(version, pods)| format!("{version} ({})", pods.join(", ")));
        let text = texts.collect::<Vec<_>>().join(", ");
        if text.is_empty() {
            "none".to_owned()
        } else {
            text
        }
    };
    let mut text = format!("client version: {}\n", versions.client_version.version);
    if !versions.mesh_version.is_empty() || !versions.data_plane_version.is_empty() {
        text.push_str(&format!(
            "control plane version: {}\n",
            list(&versions.mesh_version)
        ));
        text.push_str(&format!(
            "data plane version: {}\n",
            list(&versions.data_plane_version)
        ));
    }
    text
}
