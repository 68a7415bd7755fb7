//! `tulle status`.

use std::process::ExitCode;

use tulle_install::{NodeStatus, Status};

use crate::cli::{Global, StatusArguments};
use crate::connect;
use crate::exit::NOT_READY;
use crate::output::{Format, Terminal};
use crate::table::Table;

pub(crate) async fn status(
    global: &Global,
    arguments: &StatusArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitCode> {
    let status = tulle_install::status(&connect(global).await?).await?;
    match arguments.output {
        Format::Short => terminal.print(&text(&status))?,
        format => terminal.print_data(format, &status)?,
    }
    let healthy = status.problems.is_empty();
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_READY)
    })
}

fn text(status: &Status) -> String {
    let mut components = Table::new(&["COMPONENT", "READY", "VERSION"]);
    for part in &status.components {
        let versions: Vec<_> = part.versions.keys().map(String::as_str).collect();
        let ready = format!("{}/{}", part.ready, part.desired);
        components.row([part.name.clone(), ready, versions.join(", ")]);
    }
    let mut nodes = Table::new(&["NODE", "READY", "AGENT", "ZTUNNEL", "ENROLLED", "PENDING"]);
    for node in &status.nodes {
        nodes.row(row(node));
    }
    let mut text = format!("{}\n{}\n", components.render(), nodes.render());
    text.push_str(&format!("{} pods are in the mesh", status.enrolled));
    if status.pending > 0 {
        text.push_str(&format!(
            ", {} more wait for their node proxy",
            status.pending
        ));
    }
    text.push_str(".\n");
    if status.problems.is_empty() {
        text.push_str("No problems found.\n");
    } else {
        text.push_str("\nProblems:\n");
        for problem in &status.problems {
            text.push_str(&format!("- {problem}\n"));
        }
    }
    text
}

fn row(node: &NodeStatus) -> [String; 6] {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    [
        node.name.clone(),
        yes(node.ready),
        yes(node.agent),
        yes(node.ztunnel),
        node.enrolled.to_string(),
        node.pending.to_string(),
    ]
}

#[cfg(test)]
mod tests;
