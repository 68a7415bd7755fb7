//! `tulle waypoint status`.

use std::process::ExitCode;

use serde::Serialize;
use tokio::time::Instant;
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::kube::api::DynamicObject;

use super::apply::{columns, wait};
use super::{Target, is_programmed, programmed};
use crate::cli::waypoint::StatusArguments;
use crate::exit::NOT_READY;
use crate::output::{Format, Terminal};
use crate::table::Table;

/// One waypoint, as programs read it.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Row {
    namespace: String,
    name: String,
    status: String,
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    message: String,
}

/// Shows the waypoints, after waiting for those that are not ready; those that never are fail the command, with reasons.
pub(super) async fn status(
    target: &Target,
    arguments: &StatusArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitCode> {
    let all = arguments.all_namespaces;
    let mut waypoints = target.waypoints(all, None, terminal).await?;
    let mut failures = Vec::new();
    if arguments.waits() {
        let end = Instant::now() + arguments.waypoint_timeout;
        for waypoint in waypoints.iter().filter(|waypoint| !is_programmed(waypoint)) {
            let of = Target {
                client: target.client.clone(),
                namespace: waypoint.namespace().unwrap_or_default(),
            };
            let left = end.saturating_duration_since(Instant::now());
            if let Err(error) = wait(&of, &waypoint.name_any(), left).await {
                failures.push(error);
            }
        }
        waypoints = target.waypoints(all, None, &terminal.quiet()).await?;
    }
    let rows: Vec<Row> = waypoints.iter().map(row).collect();
    match arguments.output {
        Format::Short => terminal.print(&text(&rows, all))?,
        format => terminal.print_data(format, &rows)?,
    }
    for failure in &failures {
        terminal.error_line(&format!("{failure:#}"));
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_READY)
    })
}

fn row(gateway: &DynamicObject) -> Row {
    let [status, kind, reason, message] = columns(programmed(gateway));
    Row {
        namespace: gateway.namespace().unwrap_or_default(),
        name: gateway.name_any(),
        status,
        kind,
        reason,
        message,
    }
}

fn text(rows: &[Row], all: bool) -> String {
    if rows.is_empty() {
        return "No waypoints found.\n".to_owned();
    }
    let heading = ["NAMESPACE", "NAME", "STATUS", "TYPE", "REASON", "MESSAGE"];
    let from = usize::from(!all);
    let mut table = Table::new(&heading[from..]);
    for row in rows {
        let cells = [
            &row.namespace,
            &row.name,
            &row.status,
            &row.kind,
            &row.reason,
            &row.message,
        ];
        table.row(cells[from..].iter().map(|cell| (*cell).clone()));
    }
    table.render()
}
