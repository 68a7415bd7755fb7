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
