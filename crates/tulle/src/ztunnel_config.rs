//! `tulle ztunnel-config`: what node proxies know, in istioctl's columns.

mod dump;
mod log;
mod source;
mod tables;

use serde_json::Value;

use crate::cli::{Global, Source, ZtunnelCommand};
use crate::output::{Format, Terminal};
use dump::Dump;
use source::Scope;
use tables::{Connections, Workloads};

pub(crate) async fn ztunnel_config(
    global: &Global,
    command: &ZtunnelCommand,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    match command {
        ZtunnelCommand::Workloads(arguments) => {
            let source = &arguments.source;
            let (dumps, target) = source::load(global, source, Scope::Any).await?;
            let filter = Workloads {
                namespace: target.namespace(arguments.workload_namespace.as_deref()),
                name: target.name(),
                node: arguments.workload_node.as_deref(),
                address: arguments.address.as_deref(),
            };
            print(
                terminal,
                source,
                &dumps,
                |d| tables::workloads(d, &filter),
                |d| d.workloads(&filter),
            )
        }
        ZtunnelCommand::Services(arguments) => {
            let source = &arguments.source;
            let (dumps, _) = source::load(global, source, Scope::Any).await?;
            let namespace = arguments.service_namespace.as_deref();
            print(
                terminal,
                source,
                &dumps,
                |d| tables::services(d, namespace),
                |d| d.services(namespace),
            )
        }
        ZtunnelCommand::Policies(arguments) => {
            let source = &arguments.source;
            let (dumps, _) = source::load(global, source, Scope::Any).await?;
            let namespace = arguments.policy_namespace.as_deref();
            print(
                terminal,
                source,
                &dumps,
                |d| tables::policies(d, namespace),
                |d| d.policies(namespace),
            )
        }
        ZtunnelCommand::Certificates(arguments) => {
            let source = &arguments.source;
            // Each proxy has those of its own node's pods.
            let (dumps, _) = source::load(global, source, Scope::All).await?;
            print(terminal, source, &dumps, tables::certificates, |d| {
                d.certificates()
            })
        }
        ZtunnelCommand::Connections(arguments) => {
            let source = &arguments.source;
            let (dumps, target) = source::load(global, source, Scope::All).await?;
            let filter = Connections {
                namespace: target.namespace(arguments.workload_namespace.as_deref()),
                name: target.name(),
                direction: arguments.direction,
                raw: arguments.raw,
            };
            print(
                terminal,
                source,
                &dumps,
                |d| tables::connections(d, &filter),
                |d| d.connections(&filter),
            )
        }
        ZtunnelCommand::All(arguments) => all(global, &arguments.source, terminal).await,
        ZtunnelCommand::Log(arguments) => log::log(global, arguments, terminal).await,
    }
}

/// One table, or one list, over all dumps.
fn print<'a>(
    terminal: &Terminal,
    source: &Source,
    dumps: &'a [Dump],
    table: impl Fn(&[Dump]) -> crate::table::Table,
    items: impl Fn(&'a Dump) -> Vec<&'a Value>,
) -> anyhow::Result<()> {
    match source.output {
        Format::Short => terminal.print(&table(dumps).render()),
        format => {
            let all: Vec<&Value> = dumps.iter().flat_map(items).collect();
            terminal.print_data(format, &all)
        }
    }
}

async fn all(global: &Global, source: &Source, terminal: &Terminal) -> anyhow::Result<()> {
    let (dumps, _) = source::load(global, source, Scope::Any).await?;
    if source.output != Format::Short {
        let whole: Vec<&Value> = dumps.iter().map(Dump::whole).collect();
        return match whole.as_slice() {
            [one] => terminal.print_data(source.output, one),
            many => terminal.print_data(source.output, &many),
        };
    }
    let mut text = String::new();
    let connections = Connections::default();
    for (title, table) in [
        (
            "WORKLOADS",
            tables::workloads(&dumps, &Workloads::default()),
        ),
        ("SERVICES", tables::services(&dumps, None)),
        ("POLICIES", tables::policies(&dumps, None)),
        ("CERTIFICATES", tables::certificates(&dumps)),
        ("CONNECTIONS", tables::connections(&dumps, &connections)),
    ] {
        text.push_str(&format!("# {title}\n{}\n", table.render()));
    }
    terminal.print(text.trim_end_matches('\n'))?;
    terminal.print("\n")
}

#[cfg(test)]
mod tests;
