//! The house rules, applied to this workspace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

use std::path::Path;
use std::process::Command;

use tulle_tidy::layers::{self, Package};
use tulle_tidy::sources::{self, Source};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn dependencies_point_downward() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(format!("{ROOT}/Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let packages: Vec<Package> = metadata
        .packages
        .iter()
        .map(|p| Package {
            name: p.name.to_string(),
            dependencies: p
                .dependencies
                .iter()
                .filter(|d| d.kind == cargo_metadata::DependencyKind::Normal)
                .map(|d| d.name.clone())
                .collect(),
        })
        .collect();
    assert!(packages.len() > 15, "cargo metadata lists the workspace");
    assert_eq!(layers::check(&packages), []);
}

#[test]
fn sources_keep_the_rules() {
    let sources = tracked();
    assert!(
        sources.iter().any(|s| s.path == "Cargo.toml"),
        "git lists the repository"
    );
    let findings: Vec<_> = sources.iter().flat_map(sources::check).collect();
    let text: Vec<String> = findings
        .iter()
        .map(|f| format!("{}: {}", f.place, f.message))
        .collect();
    assert!(
        findings.is_empty(),
        "house rules are broken:\n{}",
        text.join("\n")
    );
}

/// What git tracks, or will track: text files only.
fn tracked() -> Vec<Source> {
    let output = Command::new("git")
        .args([
            "-C",
            ROOT,
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .expect("git ls-files");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let list = String::from_utf8(output.stdout).expect("names are UTF-8");
    list.lines()
        .filter(|path| !path.ends_with(".lock") && !path.ends_with("go.sum"))
        .filter_map(|path| {
            let text = std::fs::read_to_string(Path::new(ROOT).join(path)).ok()?;
            Some(Source {
                path: path.into(),
                text,
            })
        })
        .collect()
}
