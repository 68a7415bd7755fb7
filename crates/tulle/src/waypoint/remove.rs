//! `tulle waypoint delete`.

use std::collections::BTreeSet;

use tulle_api::contract::LABEL_REV;
use tulle_cluster::kube::ResourceExt;

use super::Target;
use crate::cli::waypoint::DeleteArguments;
use crate::exit::Usage;
use crate::output::Terminal;

impl DeleteArguments {
    /// Names, or all, or those of a revision: exactly one of them.
    pub(super) fn check(&self) -> Result<(), Usage> {
        let several = self.all || self.revision.is_some();
        if several && !self.names.is_empty() {
            return Err(Usage(
                "cannot specify waypoint names when deleting all waypoints".to_owned(),
            ));
        }
        if !several && self.names.is_empty() {
            return Err(Usage(
                "must specify a waypoint name or delete all using --all or delete specific revision using --revision".to_owned(),
            ));
        }
        Ok(())
    }
}

pub(super) async fn delete(
    target: &Target,
    arguments: &DeleteArguments,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let namespace = &target.namespace;
    let revision = arguments.revision.as_ref();
    let selector = revision.map(|revision| format!("{LABEL_REV}={revision}"));
    let waypoints = target
        .waypoints(false, selector.as_deref(), terminal)
        .await?;
    let there: BTreeSet<String> = waypoints.iter().map(ResourceExt::name_any).collect();
    let mut wanted = Vec::new();
    if arguments.names.is_empty() {
        wanted.extend(there);
    } else {
        for name in &arguments.names {
            if there.contains(name) {
                wanted.push(name.clone());
            } else {
                terminal.print(&format!("waypoint {namespace}/{name} not found\n"))?;
            }
        }
    }
    let api = target.gateways(false);
    let mut failed = None;
    for name in wanted {
        match tulle_cluster::delete(&api, &name).await {
            Ok(true) => terminal.print(&format!("waypoint {namespace}/{name} deleted\n"))?,
            Ok(false) => terminal.print(&format!("waypoint {namespace}/{name} not found\n"))?,
            // The others may still go.
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}
