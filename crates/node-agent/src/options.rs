//! What the environment says.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tulle_api::contract::{
    PLUGIN_SOCKET, PORT_CONTROL_PLANE_METRICS, PORT_NODE_AGENT_READY, SYSTEM_NAMESPACE, ZDS_SOCKET,
};

use crate::Error;

/// Where the control plane has its local pages too (istiod's ControlZ).
const PORT_LOCAL: u16 = 9876;

/// Settings of the node agent. The manifests of `tulle install` set them through the environment.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this node (`NODE_NAME`).
    pub node: String,
    /// Namespace of the mesh itself, never enrolled (`POD_NAMESPACE`).
    pub system_namespace: String,
    /// Namespaces that are never enrolled, comma separated (`EXCLUDE_NAMESPACES`).
    pub excluded: BTreeSet<String>,
    /// Whether the mesh serves IPv6 (`AMBIENT_IPV6`); without it, TCP over IPv6 of enrolled pods is refused.
    pub ipv6: bool,
    /// Whether the node proxy answers DNS (`AMBIENT_DNS_CAPTURE`).
    pub dns: bool,
    /// The node's `/proc` (`HOST_PROC`).
    pub proc: PathBuf,
    /// The node's CNI program directory (`CNI_BIN_DIR`).
    pub cni_programs: PathBuf,
    /// The node's CNI configuration directory (`CNI_CONF_DIR`).
    pub cni_configuration: PathBuf,
    /// Our CNI plugin, inside the image (`CNI_PLUGIN`).
    pub plugin: PathBuf,
    /// Where node proxies connect (`ZTUNNEL_SOCKET`).
    pub zds_socket: PathBuf,
    /// Where the CNI plugin connects (`CNI_SOCKET`).
    pub plugin_socket: PathBuf,
    /// Readiness page; `None` for none.
    pub ready: Option<u16>,
    /// Page that changes log levels, on loopback only; `None` for none.
    pub local: Option<u16>,
    /// Metrics page; `None` for none.
    pub metrics: Option<u16>,
}

impl Options {
    /// Reads the settings from the environment, each with the default of the manifests.
    ///
    /// # Errors
    /// [`Error::Setting`] names the variable that is missing or makes no sense.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    fn from_lookup(get: impl Fn(&'static str) -> Option<String>) -> Result<Self, Error> {
        let text = |name, default: &str| {
            get(name)
                .filter(|value| !value.is_empty())
                .unwrap_or_else(|| default.to_owned())
        };
        let node = text("NODE_NAME", "");
        if node.is_empty() {
            return Err(Error::Setting {
                name: "NODE_NAME",
                why: "it is not set; the DaemonSet sets it from spec.nodeName".into(),
            });
        }
        let switch = |name, default: bool| match get(name).as_deref() {
            None | Some("") => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(Error::Setting {
                name,
                why: format!("{other:?} is neither true nor false"),
            }),
        };
        let system_namespace = text("POD_NAMESPACE", SYSTEM_NAMESPACE);
        let mut excluded: BTreeSet<String> = get("EXCLUDE_NAMESPACES")
            .unwrap_or_else(|| "kube-system".into())
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        excluded.insert(system_namespace.clone());
        Ok(Self {
            node,
            system_namespace,
            excluded,
            ipv6: switch("AMBIENT_IPV6", true)?,
            dns: switch("AMBIENT_DNS_CAPTURE", false)?,
            proc: text("HOST_PROC", "/host/proc").into(),
            cni_programs: text("CNI_BIN_DIR", "/host/opt/cni/bin").into(),
            cni_configuration: text("CNI_CONF_DIR", "/host/etc/cni/net.d").into(),
            plugin: text("CNI_PLUGIN", "/usr/local/bin/tulle-cni").into(),
            zds_socket: text("ZTUNNEL_SOCKET", ZDS_SOCKET).into(),
            plugin_socket: text("CNI_SOCKET", PLUGIN_SOCKET).into(),
            ready: Some(PORT_NODE_AGENT_READY),
            local: Some(PORT_LOCAL),
            metrics: Some(PORT_CONTROL_PLANE_METRICS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Options, Error> {
        Options::from_lookup(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_node_must_be_known() {
        assert!(matches!(
            from(&[]),
            Err(Error::Setting {
                name: "NODE_NAME",
                ..
            })
        ));
    }

    #[test]
    fn defaults_are_those_of_the_manifests() {
        let options = from(&[("NODE_NAME", "a")]).unwrap();
        assert!(options.ipv6 && !options.dns);
        assert_eq!(
            options.excluded.into_iter().collect::<Vec<_>>(),
            ["istio-system", "kube-system"]
        );
        assert_eq!(
            options.zds_socket,
            PathBuf::from("/var/run/ztunnel/ztunnel.sock")
        );
    }

    #[test]
    fn the_mesh_itself_is_always_excluded() {
        let options = from(&[
            ("NODE_NAME", "a"),
            ("POD_NAMESPACE", "mesh"),
            ("EXCLUDE_NAMESPACES", " b, ,c"),
        ])
        .unwrap();
        assert_eq!(
            options.excluded.into_iter().collect::<Vec<_>>(),
            ["b", "c", "mesh"]
        );
    }

    #[test]
    fn a_switch_that_is_neither_is_refused() {
        let outcome = from(&[("NODE_NAME", "a"), ("AMBIENT_IPV6", "perhaps")]);
        assert!(matches!(
            outcome,
            Err(Error::Setting {
                name: "AMBIENT_IPV6",
                ..
            })
        ));
    }
}
