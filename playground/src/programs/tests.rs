use super::*;

#[test]
fn the_version_set_at_link_time_is_the_version_that_is_built() {
    assert!(GO_MOD.contains(&format!("k8s.io/kubernetes v{KUBERNETES}\n")));
    let minor = KUBERNETES.strip_prefix("1.").unwrap();
    let staged: Vec<_> = GO_MOD.lines().filter(|line| line.contains("=>")).collect();
    assert_eq!(staged.len(), 33);
    assert!(
        staged
            .iter()
            .all(|line| line.ends_with(&format!(" v0.{minor}"))),
        "{staged:?}"
    );
}

#[test]
fn metallbs_definitions_are_those_of_its_programs() {
    let (_, version, ..) = INSTALLED
        .iter()
        .find(|(name, ..)| *name == "MetalLB")
        .unwrap();
    assert_eq!(METALLB, format!("go.universe.tf/metallb@{version}"));
}

#[test]
fn the_gateway_api_is_standard_but_for_what_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for (channel, name, kind) in [
        ("standard", EXPERIMENTAL[0], "CustomResourceDefinition"),
        ("standard", "gateways.yaml", "CustomResourceDefinition"),
        (
            "standard",
            "vap_safeupgrades.yaml",
            "ValidatingAdmissionPolicy",
        ),
        ("standard", "kustomization.yaml", "Kustomization"),
        ("experimental", EXPERIMENTAL[0], "CustomResourceDefinition"),
        ("experimental", EXPERIMENTAL[1], "CustomResourceDefinition"),
        ("experimental", "gateways.yaml", "CustomResourceDefinition"),
        ("experimental", "xmeshes.yaml", "CustomResourceDefinition"),
    ] {
        let path = directory.path().join(channel);
        fs::create_dir_all(&path).unwrap();
        fs::write(
            path.join(name),
            format!("kind: {kind}\nfrom: {channel} {name}\n"),
        )
        .unwrap();
    }
    let manifest = gateway_api_manifest(directory.path()).unwrap();
    let from: Vec<&str> = manifest
        .lines()
        .filter_map(|l| l.strip_prefix("from: "))
        .collect();
    let [routes, budget] = EXPERIMENTAL.map(|name| format!("experimental {name}"));
    assert_eq!(from, [&*routes, &*budget, "standard gateways.yaml"]);
}

#[test]
fn failing_go_is_quoted() {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "echo a/package; echo main.go:3:1: undefined: x >&2; exit 1",
    ]);
    let error = count(command, None, &mut Progress::silent())
        .unwrap_err()
        .to_string();
    assert!(error.contains("undefined: x"), "{error}");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "echo a/package; echo b/package; echo go: downloading c v1 >&2",
    ]);
    assert_eq!(count(command, None, &mut Progress::silent()).unwrap(), 2);
}
