use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

/// Help texts are a contract with readers and scripts. `UPDATE_GOLDEN=1` writes the file anew.
#[test]
fn help() {
    fn collect(command: &mut clap::Command, path: &str, text: &mut String) {
        text.push_str(&format!("===== {path}\n{}\n", command.render_help()));
        let names: Vec<String> = command
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set())
            .map(|sub| sub.get_name().to_owned())
            .collect();
        for name in names.iter().filter(|name| *name != "help") {
            if let Some(sub) = command.find_subcommand_mut(name) {
                collect(sub, &format!("{path} {name}"), text);
            }
        }
    }
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = String::new();
    collect(&mut command, "tulle", &mut text);
    let text: String = text
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap_or_default();
    let different = text
        .lines()
        .zip(expected.lines())
        .find(|(is, was)| is != was);
    assert!(
        text == expected,
        "help differs: {different:?}; see the comment on this test"
    );
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn installation() {
    let cli =
        parse("tulle install --image r/t:1 --set a.b=c -s d=e --cni-bin-dir /x --timeout 90s -y")
            .unwrap();
    let Command::Install(install) = cli.command else {
        panic!()
    };
    assert_eq!(install.values.image.as_deref(), Some("r/t:1"));
    assert_eq!(install.values.set, ["a.b=c", "d=e"]);
    assert_eq!(install.timeout, Duration::from_secs(90));
    assert!(!install.no_wait && !install.dry_run);
}

#[test]
fn flags_win_over_set_and_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("values.yaml");
    std::fs::write(
        &file,
        "image: from/file:1\nlogLevel: debug\ncni:\n  ipv6: false\n",
    )
    .unwrap();
    let line = format!(
        "tulle install -f {} --set image=from/set:1 --image from/flag:1",
        file.display()
    );
    let Command::Install(install) = parse(&line).unwrap().command else {
        panic!()
    };
    let values = crate::values::values(&install.values).unwrap();
    assert_eq!(
        (values.image.as_str(), values.log_level.as_str()),
        ("from/flag:1", "debug")
    );
    assert!(!values.cni.ipv6);
    let line = "tulle install -f /nowhere/values.yaml";
    let Command::Install(install) = parse(line).unwrap().command else {
        panic!()
    };
    let error = crate::values::values(&install.values).unwrap_err();
    assert_eq!(crate::exit::code(&error), 2);
}

#[test]
fn names_of_istioctl_work() {
    for line in [
        "tulle zc workload",
        "tulle zc workloads --workload-namespace a -o json",
        "tulle ztunnel-config workload ztunnel-x.istio-system --address 10.0.0.1",
        "tulle zc service --service-namespace a",
        "tulle zc services",
        "tulle zc policy --policy-namespace a",
        "tulle zc policies",
        "tulle zc certificate --node n",
        "tulle zc certificates",
        "tulle zc connections --direction inbound --raw",
        "tulle zc all -f dump.json",
        "tulle zc log --level debug",
        "tulle zc log -r",
        "tulle version -o yaml",
        "tulle version --client -o table",
        "tulle manifest generate --set a=b",
        "tulle install -y",
        "tulle uninstall --purge --yes",
        "tulle run ztunnel",
        "tulle run ztunnel --worker",
        "tulle run waypoint",
        "tulle run control-plane",
        "tulle run node-agent",
        "tulle --context c status --kubeconfig k",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn mistakes_are_usage_errors() {
    for line in [
        "tulle",
        "tulle instal",
        "tulle install --timeout soon",
        "tulle install --profile demo",
        "tulle zc connections --direction sideways",
        "tulle zc workloads -f x --node n",
        "tulle zc log --level debug --reset",
        "tulle version -o xml",
        "tulle run",
    ] {
        assert!(
            parse(line).unwrap_err().use_stderr() || line == "tulle",
            "{line}"
        );
    }
}

#[test]
fn times() {
    for (text, milliseconds) in [
        ("5m", 300_000),
        ("90s", 90_000),
        ("90", 90_000),
        ("500ms", 500),
        ("1h", 3_600_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
    }
    for text in [
        "",
        "m",
        "-1s",
        "1.5s",
        "1d",
        "99999999999999999999s",
        "18446744073709551615h",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn waypoints() {
    use super::waypoint::{TrafficType, WaypointCommand};
    let arguments = |line: &str| match parse(line).unwrap().command {
        Command::Waypoint(arguments) => arguments,
        other => panic!("{other:?}"),
    };
    let apply = arguments(
        "tulle waypoint apply -n shop --name w --for workload --enroll-namespace --overwrite -r v1 -w --waypoint-timeout 5s",
    );
    assert_eq!(apply.namespace.as_deref(), Some("shop"));
    assert_eq!(apply.name, "w");
    let WaypointCommand::Apply(flags) = apply.command else {
        panic!()
    };
    assert_eq!(flags.traffic, Some(TrafficType::Workload));
    assert!(flags.enroll_namespace && flags.overwrite && flags.wait);
    assert_eq!(flags.waypoint_timeout, Duration::from_secs(5));
    let status = |line: &str| match arguments(line).command {
        WaypointCommand::Status(status) => status.waits(),
        other => panic!("{other:?}"),
    };
    assert!(status("tulle waypoint status"));
    assert!(status("tulle waypoint status -w"));
    assert!(!status("tulle waypoint status --wait=false -A"));
    assert_eq!(arguments("tulle waypoint list -A -o json").name, "waypoint");
    assert!(parse("tulle waypoint apply --for everything").is_err());
    let delete = arguments("tulle waypoint delete a b -n shop");
    let WaypointCommand::Delete(delete) = delete.command else {
        panic!()
    };
    assert_eq!(delete.names, ["a", "b"]);
}
