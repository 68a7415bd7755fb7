//! From flags and files to the values of an installation.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use tulle_install::Values;

use crate::cli::ValuesArguments;
use crate::exit::Usage;

/// Files first, then `--set`, then the flags with names of their own.
pub(crate) fn values(arguments: &ValuesArguments) -> anyhow::Result<Values> {
    let mut values = Values::default();
    for path in &arguments.values {
        let overlay = read(path)?;
        values = values
            .merged(overlay)
            .with_context(|| format!("values file {}", path.display()))?;
    }
    values = values.with(&arguments.set)?;
    let flags = [
        ("image", &arguments.image),
        ("imagePullPolicy", &arguments.image_pull_policy),
        ("cni.cniBinDir", &arguments.cni_bin_dir),
        ("cni.cniConfDir", &arguments.cni_conf_dir),
        ("cni.cniNetnsDir", &arguments.cni_netns_dir),
        ("meshConfig.trustDomain", &arguments.trust_domain),
        ("clusterId", &arguments.cluster_id),
        ("logLevel", &arguments.log_level),
    ];
    let settings: Vec<String> = flags
        .into_iter()
        .filter_map(|(path, value)| Some(format!("{path}={}", value.as_ref()?)))
        .collect();
    Ok(values.with(&settings)?)
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Usage(format!(
            "cannot read the values file {}: {error}",
            path.display()
        ))
    })?;
    let value = serde_saphyr::from_str(&text)
        .map_err(|error| Usage(format!("{} is no YAML: {error}", path.display())))?;
    Ok(value)
}
