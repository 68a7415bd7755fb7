//! Who may depend on whom: nouns <- mechanisms <- components <- the one program.

use crate::Finding;

/// Pure crates, lowest first. No async, no sockets, no files, no clock or dice of their own.
pub const NOUNS: [&str; 5] = [
    "tulle-api",
    "tulle-model",
    "tulle-policy",
    "tulle-route",
    "tulle-translate",
];

/// Crates that each own an awkward dependency. One may import those before it in this list, none after.
pub const MECHANISMS: [&str; 10] = [
    "tulle-proto",
    "tulle-linux",
    "tulle-telemetry",
    "tulle-daemon",
    "tulle-identity",
    "tulle-hbone",
    "tulle-http",
    "tulle-dns",
    "tulle-xds",
    "tulle-cluster",
];

/// Crates that assemble. They never import each other.
pub const COMPONENTS: [&str; 6] = [
    "tulle-ztunnel",
    "tulle-waypoint",
    "tulle-control-plane",
    "tulle-node-agent",
    "tulle-cni-plugin",
    "tulle-install",
];

/// May import everything of the product.
pub const TOP: [&str; 2] = ["tulle", "tulle-testing"];

/// Never imported by the product.
pub const BESIDE: [&str; 5] = [
    "tulle-playground",
    "tulle-samples",
    "tulle-testing",
    "tulle-tidy",
    "tulle-fuzz",
];

/// Third-party families and the crates that may name them. Dev-dependencies are free.
pub const FAMILIES: &[(&[&str], &[&str])] = &[
    (
        &[
            "rustls",
            "tokio-rustls",
            "aws-lc-rs",
            "rustls-webpki",
            "x509-parser",
        ],
        &["tulle-identity"],
    ),
    (&["rcgen"], &["tulle-identity", "tulle-playground"]),
    (&["tonic", "tonic-prost"], &["tulle-proto", "tulle-xds"]),
    (&["hickory-proto"], &["tulle-dns"]),
    (&["prometheus-client"], &["tulle-telemetry"]),
    (
        &["hyper", "hyper-util", "http-body-util"],
        &["tulle-daemon", "tulle-http", "tulle-xds", "tulle-samples"],
    ),
    (&["kube"], &["tulle-api", "tulle-cluster"]),
    (
        &["libc", "rustix", "socket2"],
        &["tulle-linux", "tulle-playground", "tulle-testing"],
    ),
    (
        &["anyhow"],
        &[
            "tulle",
            "tulle-playground",
            "tulle-samples",
            "tulle-testing",
        ],
    ),
    (&["clap"], &["tulle", "tulle-playground", "tulle-testing"]),
];

/// A package of the workspace and the names of its normal dependencies.
#[derive(Debug, Clone)]
pub struct Package {
    /// For example `tulle-model`.
    pub name: String,
    /// Names of normal dependencies, ours and others'.
    pub dependencies: Vec<String>,
}

/// All findings about dependencies.
pub fn check(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        if rank(&package.name).is_none() && !BESIDE.contains(&&*package.name) {
            findings.push(Finding::new(
                &package.name,
                "is in no layer: add it to tidy's layers.rs",
            ));
        }
        for dependency in &package.dependencies {
            if let Some(message) = forbidden(&package.name, dependency) {
                findings.push(Finding::new(&package.name, message));
            }
        }
    }
    findings
}

fn forbidden(package: &str, dependency: &str) -> Option<String> {
    for (family, owners) in FAMILIES {
        if family.contains(&dependency) && !owners.contains(&package) {
            return Some(format!(
                "imports {dependency}, which only {} may",
                owners.join(", ")
            ));
        }
    }
    if !dependency.starts_with("tulle") || TOP.contains(&package) {
        return None;
    }
    if BESIDE.contains(&dependency) && !BESIDE.contains(&package) {
        return Some(format!(
            "imports {dependency}: the product never imports what stands beside it"
        ));
    }
    match (rank(package), rank(dependency)) {
        (Some(own), Some(other)) if other >= own => Some(format!(
            "imports {dependency}, which is not below it (nouns <- mechanisms <- components <- tulle)"
        )),
        _ => None,
    }
}

/// Height in the house; equal heights may not import each other.
fn rank(package: &str) -> Option<usize> {
    let nouns = NOUNS.iter().position(|n| *n == package);
    let mechanisms = MECHANISMS
        .iter()
        .position(|n| *n == package)
        .map(|i| i + NOUNS.len());
    let top = NOUNS.len() + MECHANISMS.len();
    let component = COMPONENTS.contains(&package).then_some(top);
    let one_program = (package == "tulle").then_some(top + 1);
    nouns.or(mechanisms).or(component).or(one_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.into(),
            dependencies: dependencies.iter().map(|d| d.to_string()).collect(),
        }
    }

    #[test]
    fn downward_is_allowed() {
        let fine = [
            package("tulle-policy", &["tulle-model", "ipnet"]),
            package("tulle-hbone", &["tulle-identity", "tulle-model", "tokio"]),
            package("tulle", &["tulle-ztunnel", "tulle-control-plane", "anyhow"]),
        ];
        assert_eq!(check(&fine), []);
    }

    #[test]
    fn upward_sideways_and_foreign_are_refused() {
        for (name, dependency) in [
            ("tulle-model", "tulle-policy"),
            ("tulle-identity", "tulle-hbone"),
            ("tulle-ztunnel", "tulle-node-agent"),
            ("tulle-ztunnel", "tulle-testing"),
            ("tulle-ztunnel", "rustls"),
            ("tulle-model", "anyhow"),
        ] {
            assert_eq!(
                check(&[package(name, &[dependency])]).len(),
                1,
                "{name} -> {dependency}"
            );
        }
        assert_eq!(check(&[package("tulle-new", &[])]).len(), 1);
    }
}
