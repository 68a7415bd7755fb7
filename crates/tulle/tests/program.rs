//! The built program as a user runs it: exit codes, output, and what works without a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

use std::process::{Command, Output, Stdio};

fn tulle(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tulle"));
    command
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    tulle(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const DUMP: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/ztunnel_config/config_dump.json"
);

#[test]
fn help_and_version_are_no_failures() {
    assert!(out(&run(&["--help"])).contains("Exit codes:"));
    assert!(run(&["--help"]).status.success());
    let version = run(&["version", "--client"]);
    assert_eq!(
        out(&version),
        format!("client version: {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["instal"]).status.code(), Some(2));
}

#[test]
fn a_dry_run_needs_no_cluster_and_prints_what_manifest_generate_prints() {
    let dry = run(&["install", "--dry-run", "--image", "r/t:1"]);
    assert!(dry.status.success(), "{}", err(&dry));
    assert!(out(&dry).contains("image: r/t:1"));
    let generated = run(&["manifest", "generate", "--set", "image=r/t:1"]);
    assert_eq!(out(&dry), out(&generated));
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&out(&dry)).unwrap();
    assert!(documents.len() > 20);
}

#[test]
fn values_can_be_shown_and_read_back() {
    let values = run(&["manifest", "values", "--cni-bin-dir", "/x"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("values.yaml");
    std::fs::write(&file, &values.stdout).unwrap();
    let again = run(&["manifest", "values", "-f", file.to_str().unwrap()]);
    assert_eq!(out(&values), out(&again), "{}", err(&again));
    assert!(out(&again).contains("cniBinDir: /x"));
}

#[test]
fn mistakes_end_with_two_and_say_what_to_write() {
    for (arguments, text) in [
        (
            &["install", "--dry-run", "--set", "cni.binDir=/x"][..],
            "binDir",
        ),
        (&["install", "--dry-run", "--set", "nonsense"], "path=value"),
        (
            &["install", "--dry-run", "--cni-conf-dir", "x"],
            "absolute path",
        ),
        (&["uninstall"], "--purge"),
        (&["zc", "workloads", "-f", "/nowhere"], "/nowhere"),
    ] {
        let output = run(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            err(&output)
        );
        assert!(err(&output).contains(text), "{}", err(&output));
    }
}

#[test]
fn without_a_cluster_the_message_says_how_to_name_one() {
    for arguments in [
        &["install"][..],
        &["status"],
        &["uninstall", "--purge"],
        &["zc", "workloads"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            err(&output).contains("no Kubernetes cluster is configured"),
            "{}",
            err(&output)
        );
    }
}

#[test]
fn an_unreachable_cluster_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
        clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\n\
        users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n";
    std::fs::write(&file, text).unwrap();
    let output = run(&["--kubeconfig", file.to_str().unwrap(), "status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("127.0.0.1:9"), "{}", err(&output));
}

#[test]
fn a_saved_dump_is_shown() {
    let output = run(&[
        "zc",
        "workloads",
        "-f",
        DUMP,
        "--workload-namespace",
        "kube-system",
    ]);
    assert!(
        out(&output).contains("coredns-1 10.244.1.2 node1 None     TCP"),
        "{}",
        out(&output)
    );
    let json = run(&["zc", "policies", "-f", DUMP, "-o", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        value[1]["rules"][0][0][0]["principals"][0]["Exact"],
        "cluster.local/ns/default/sa/sleep"
    );
    let all = out(&run(&["zc", "all", "-f", DUMP]));
    for title in [
        "# WORKLOADS",
        "# SERVICES",
        "# POLICIES",
        "# CERTIFICATES",
        "# CONNECTIONS",
    ] {
        assert!(all.contains(title), "{all}");
    }
}

/// `tulle … | head`: a reader who has seen enough is no error.
#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = tulle(&["manifest", "generate"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(err(&output), "");
}

#[test]
fn output_for_programs_has_no_colours() {
    let output = run(&["uninstall"]);
    assert!(!err(&output).contains('\x1b'));
}

#[test]
fn a_waypoint_is_generated_without_a_cluster() {
    let made = run(&["waypoint", "generate", "-n", "shop", "--for", "all"]);
    assert!(made.status.success(), "{}", err(&made));
    let gateway: serde_json::Value = serde_saphyr::from_str(&out(&made)).unwrap();
    assert_eq!(gateway["metadata"]["namespace"], "shop");
    assert_eq!(
        gateway["metadata"]["labels"]["istio.io/waypoint-for"],
        "all"
    );
    assert_eq!(gateway["spec"]["gatewayClassName"], "istio-waypoint");
    assert_eq!(gateway["spec"]["listeners"][0]["port"], 15008);
    let none = run(&["waypoint", "generate", "--name", "none"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(
        err(&none).contains("'none' is a reserved value"),
        "{}",
        err(&none)
    );
    // What old tutorials say is answered with what to say instead.
    let old = run(&["waypoint", "apply", "--service-account", "reviews"]);
    assert_eq!(old.status.code(), Some(2));
    assert!(
        err(&old).contains("istio.io/use-waypoint=reviews-waypoint"),
        "{}",
        err(&old)
    );
}
