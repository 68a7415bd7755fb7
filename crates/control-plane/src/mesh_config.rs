//! The ConfigMap `istio`: mesh-wide settings, checked before anything follows them.

use serde::Deserialize;
use tulle_api::mesh::MeshConfig;

use crate::limits::LONGEST_MESH_CONFIG;

/// Why a mesh configuration is not taken; the one before stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeshConfigError {
    /// Too long.
    #[error("the mesh configuration has {0} bytes, at most {LONGEST_MESH_CONFIG} are read")]
    TooLong(usize),
    /// No YAML, or a value of the wrong type.
    #[error("{0}")]
    Unreadable(String),
    /// A value that makes no identity.
    #[error("trustDomain {0:?} is no DNS name in lower case; the settings before stay in force")]
    TrustDomain(String),
    /// A value that is no namespace.
    #[error("rootNamespace {0:?} is no namespace name; the settings before stay in force")]
    RootNamespace(String),
}

/// Istio's defaults for a control plane in `namespace`.
pub(crate) fn defaults(namespace: &str) -> MeshConfig {
    MeshConfig {
        root_namespace: namespace.to_owned(),
        ..MeshConfig::default()
    }
}

/// Reads the value of the key `mesh`, for a control plane in `namespace`.
pub(crate) fn parse(text: &str, namespace: &str) -> Result<MeshConfig, MeshConfigError> {
    /// Tells a root namespace that was set from one that was filled in.
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Root {
        root_namespace: String,
    }
    if text.len() > LONGEST_MESH_CONFIG {
        return Err(MeshConfigError::TooLong(text.len()));
    }
    let unreadable = |why: String| MeshConfigError::Unreadable(why);
    let mut config = MeshConfig::parse(text).map_err(|error| unreadable(error.to_string()))?;
    let root = if text.trim().is_empty() {
        Root::default()
    } else {
        serde_saphyr::from_str(text).map_err(|error| unreadable(error.to_string()))?
    };
    if root.root_namespace.is_empty() {
        config.root_namespace = namespace.to_owned();
    }
    if !is_name(&config.trust_domain, true) {
        return Err(MeshConfigError::TrustDomain(config.trust_domain));
    }
    if !is_name(&config.root_namespace, false) {
        return Err(MeshConfigError::RootNamespace(config.root_namespace));
    }
    Ok(config)
}

fn is_name(text: &str, dots: bool) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    let part = |part: &str| !part.is_empty() && part.bytes().all(allowed);
    text.len() <= 253
        && if dots {
            text.split('.').all(part)
        } else {
            part(text)
        }
}

#[cfg(test)]
mod tests;
