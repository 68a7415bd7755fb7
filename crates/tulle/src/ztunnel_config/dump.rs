//! A node proxy's `config_dump`, read tolerantly: ours, or any version of Istio's ztunnel.

use std::collections::HashMap;

use anyhow::Context as _;
use serde_json::Value;

use super::tables::{Connections, Workloads};

/// One proxy's dump.
#[derive(Clone, Debug)]
pub(crate) struct Dump {
    /// Where it comes from, when several are shown together.
    pub(super) node: Option<String>,
    whole: Value,
}

impl Dump {
    /// Parses what an admin page answered or a file holds.
    pub(crate) fn parse(bytes: &[u8], node: Option<String>) -> anyhow::Result<Self> {
        let whole: Value = serde_json::from_slice(bytes).context("the dump is no JSON")?;
        anyhow::ensure!(
            whole.get("workloads").is_some() || whole.get("certificates").is_some(),
            "this is no config_dump of a ztunnel: it has neither workloads nor certificates"
        );
        Ok(Dump { node, whole })
    }

    pub(super) fn whole(&self) -> &Value {
        &self.whole
    }

    /// A section as a list; old versions keyed some of them by name.
    fn section(&self, name: &str) -> Vec<&Value> {
        match self.whole.get(name) {
            Some(Value::Array(list)) => list.iter().collect(),
            Some(Value::Object(table)) => table.values().collect(),
            _ => Vec::new(),
        }
    }

    fn sorted(&self, name: &str, keys: &[&str], keep: impl Fn(&Value) -> bool) -> Vec<&Value> {
        let mut all: Vec<&Value> = self
            .section(name)
            .into_iter()
            .filter(|item| keep(item))
            .collect();
        let key = |item: &Value| {
            keys.iter()
                .map(|key| text(item, key).to_owned())
                .collect::<Vec<_>>()
        };
        all.sort_by_key(|item| key(item));
        all
    }

    /// By namespace, name and node.
    pub(super) fn workloads(&self, filter: &Workloads<'_>) -> Vec<&Value> {
        self.sorted("workloads", &["namespace", "name", "node"], |item| {
            filter.matches(item)
        })
    }

    /// By namespace, name and host name.
    pub(super) fn services(&self, namespace: Option<&str>) -> Vec<&Value> {
        self.sorted(
            "services",
            &["namespace", "name", "hostname"],
            in_namespace(namespace),
        )
    }

    /// By namespace and name.
    pub(super) fn policies(&self, namespace: Option<&str>) -> Vec<&Value> {
        self.sorted("policies", &["namespace", "name"], in_namespace(namespace))
    }

    /// In the proxy's order.
    pub(super) fn certificates(&self) -> Vec<&Value> {
        self.section("certificates")
    }

    /// Pods with their connections, by namespace and name.
    pub(super) fn connections(&self, filter: &Connections<'_>) -> Vec<&Value> {
        let mut all: Vec<&Value> = self
            .section("workloadState")
            .into_iter()
            .filter(|pod| filter.matches(pod))
            .collect();
        all.sort_by_key(|pod| {
            let info = &pod["info"];
            (
                text(info, "namespace").to_owned(),
                text(info, "name").to_owned(),
            )
        });
        all
    }

    /// Health of workloads by UID.
    pub(super) fn healthy(&self) -> HashMap<&str, bool> {
        let workloads = self.section("workloads").into_iter();
        workloads
            .map(|item| (text(item, "uid"), text(item, "status") == "Healthy"))
            .collect()
    }

    /// Names of the services and workloads by address, for readers.
    pub(super) fn names(&self) -> HashMap<String, String> {
        let mut names = HashMap::new();
        for workload in self.section("workloads") {
            let name = format!("{}.{}", text(workload, "name"), text(workload, "namespace"));
            for address in texts(&workload["workloadIps"]) {
                names.insert(address.to_owned(), name.clone());
            }
        }
        for service in self.section("services") {
            for vip in texts(&service["vips"]) {
                names.insert(
                    without_network(vip).to_owned(),
                    text(service, "hostname").to_owned(),
                );
            }
        }
        names
    }

    /// The name of the waypoint that `item` uses.
    pub(super) fn waypoint(&self, item: &Value) -> String {
        let Some(waypoint) = item.get("waypoint").filter(|waypoint| !waypoint.is_null()) else {
            return "None".to_owned();
        };
        let destination = text(waypoint, "destination");
        let found = self.section("services").into_iter().find(|service| {
            let by_name = format!(
                "{}/{}",
                text(service, "namespace"),
                text(service, "hostname")
            );
            by_name == destination || texts(&service["vips"]).any(|vip| vip == destination)
        });
        found
            .map_or("NA", |service| text(service, "name"))
            .to_owned()
    }
}

fn in_namespace(namespace: Option<&str>) -> impl Fn(&Value) -> bool {
    move |item| namespace.is_none_or(|wanted| text(item, "namespace").eq_ignore_ascii_case(wanted))
}

/// A field as text; empty if it is none.
pub(super) fn text<'a>(item: &'a Value, field: &str) -> &'a str {
    item.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The texts in a list.
pub(super) fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// `network/address` without the network.
pub(super) fn without_network(address: &str) -> &str {
    address
        .split_once('/')
        .map_or(address, |(_, address)| address)
}
