//! `tulle waypoint list`.

use serde::Serialize;
use tulle_api::contract::{LABEL_REV, LABEL_WAYPOINT_FOR};
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::kube::api::DynamicObject;

use super::{Target, programmed};
use crate::cli::waypoint::ListArguments;
use crate::output::{Format, Terminal};
use crate::table::Table;

/// One waypoint, as programs read it.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    revision: String,
    traffic_type: String,
    programmed: String,
}

pub(super) async fn list(
    target: &Target,
    arguments: &ListArguments,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let all = arguments.all_namespaces;
    let waypoints = target.waypoints(all, None, terminal).await?;
    let rows: Vec<Row> = waypoints.iter().map(row).collect();
    match arguments.output {
        Format::Short => terminal.print(&text(&rows, all)),
        format => terminal.print_data(format, &rows),
    }
}

fn row(gateway: &DynamicObject) -> Row {
    let label = |name: &str, default: &str| {
        let value = gateway.labels().get(name).filter(|value| !value.is_empty());
        value.map_or(default, String::as_str).to_owned()
    };
    let status = programmed(gateway).and_then(|condition| condition["status"].as_str());
    Row {
        namespace: gateway.namespace().unwrap_or_default(),
        name: gateway.name_any(),
        revision: label(LABEL_REV, "default"),
        traffic_type: label(LABEL_WAYPOINT_FOR, "none"),
        programmed: status.unwrap_or("False").to_owned(),
    }
}

fn text(rows: &[Row], all: bool) -> String {
    if rows.is_empty() {
        return "No waypoints found.\n".to_owned();
    }
    let heading = [
        "NAMESPACE",
        "NAME",
        "REVISION",
        "TRAFFIC TYPE",
        "PROGRAMMED",
    ];
    let from = usize::from(!all);
    let mut table = Table::new(&heading[from..]);
    for row in rows {
        let cells = [
            &row.namespace,
            &row.name,
            &row.revision,
            &row.traffic_type,
            &row.programmed,
        ];
        table.row(cells[from..].iter().map(|cell| (*cell).clone()));
    }
    table.render()
}

#[cfg(test)]
mod tests;
