use super::*;

use serde_json::{Value, json};
use tulle_daemon::Readiness;
use tulle_telemetry::Registry;

struct Host {
    dir: tempfile::TempDir,
    installer: Installer,
    readiness: Readiness,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "net.d"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("tulle-cni"), "program, version 1").unwrap();
        let options = Options {
            node: "a".into(),
            system_namespace: "istio-system".into(),
            excluded: BTreeSet::from(["kube-system".to_owned()]),
            ipv6: true,
            dns: false,
            proc: "/proc".into(),
            cni_programs: dir.path().join("bin"),
            cni_configuration: dir.path().join("net.d"),
            plugin: dir.path().join("tulle-cni"),
            zds_socket: "/z".into(),
            plugin_socket: "/var/run/istio-cni/pluginevent.sock".into(),
            ready: None,
            local: None,
            metrics: None,
        };
        let readiness = Readiness::new();
        let metrics = Metrics::new(&Registry::new());
        let installer = Installer::new(
            &options,
            metrics,
            readiness.condition("CNI plugin installed"),
        );
        Self {
            dir,
            installer,
            readiness,
        }
    }

    fn write(&self, name: &str, content: &Value) {
        fs::write(
            self.dir.path().join("net.d").join(name),
            content.to_string(),
        )
        .unwrap();
    }

    fn read(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.dir.path().join("net.d").join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("net.d")).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn bridge() -> Value {
    json!({ "cniVersion": "1.0.0", "name": "kind", "plugins": [{ "type": "bridge" }, { "type": "portmap" }] })
}

fn types(list: &Value) -> Vec<&str> {
    list["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["type"].as_str().unwrap())
        .collect()
}

#[test]
fn the_entry_is_appended_once_and_the_program_copied() {
    let host = Host::new();
    host.write("10-a.conflist", &bridge());
    assert!(host.installer.ensure().unwrap());
    assert!(
        !host.installer.ensure().unwrap(),
        "the second time there is nothing to do"
    );
    let list = host.read("10-a.conflist");
    assert_eq!(types(&list), ["bridge", "portmap", "istio-cni"]);
    assert_eq!(
        list["plugins"][2]["excludeNamespaces"],
        json!(["istio-system", "kube-system"])
    );
    assert_eq!(
        list["plugins"][2]["socket"],
        "/var/run/istio-cni/pluginevent.sock"
    );
    let program = host.dir.path().join("bin/istio-cni");
    assert_eq!(fs::read_to_string(&program).unwrap(), "program, version 1");
    assert_eq!(
        fs::metadata(&program).unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert_eq!(host.names(), ["10-a.conflist"], "no drafts stay");
}

#[test]
fn a_single_configuration_becomes_a_list() {
    let host = Host::new();
    host.write(
        "10-a.conf",
        &json!({ "cniVersion": "0.4.0", "name": "n", "type": "ptp", "mtu": 1400 }),
    );
    assert!(host.installer.ensure().unwrap());
    assert_eq!(host.names(), ["10-a.conflist"]);
    let list = host.read("10-a.conflist");
    assert_eq!(
        (&list["cniVersion"], &list["name"]),
        (&json!("0.4.0"), &json!("n"))
    );
    assert_eq!(list["plugins"][0], json!({ "type": "ptp", "mtu": 1400 }));
    assert_eq!(types(&list), ["ptp", "istio-cni"]);
}

#[test]
fn what_others_do_to_it_is_repaired() {
    let host = Host::new();
    host.write("10-a.conflist", &bridge());
    host.installer.ensure().unwrap();
    // Rewritten by the network plugin.
    host.write("10-a.conflist", &bridge());
    assert!(host.installer.ensure().unwrap());
    assert_eq!(
        types(&host.read("10-a.conflist")),
        ["bridge", "portmap", "istio-cni"]
    );
    // Another one comes first now.
    host.write("05-b.conflist", &bridge());
    assert!(host.installer.ensure().unwrap());
    assert_eq!(
        types(&host.read("05-b.conflist")),
        ["bridge", "portmap", "istio-cni"]
    );
    assert_eq!(types(&host.read("10-a.conflist")), ["bridge", "portmap"]);
    // The program is replaced or gone.
    fs::write(host.dir.path().join("bin/istio-cni"), "other").unwrap();
    assert!(host.installer.ensure().unwrap());
    fs::remove_file(host.dir.path().join("bin/istio-cni")).unwrap();
    assert!(host.installer.ensure().unwrap());
    assert!(!host.installer.ensure().unwrap());
}

#[test]
fn removal_leaves_the_network_as_it_was() {
    let host = Host::new();
    host.write("10-a.conflist", &bridge());
    host.installer.ensure().unwrap();
    host.installer.remove();
    assert_eq!(host.read("10-a.conflist"), bridge());
    assert!(!host.dir.path().join("bin/istio-cni").exists());
}

#[test]
fn complaints_name_the_file_and_what_to_do() {
    let host = Host::new();
    let nothing = host.installer.ensure().unwrap_err().to_string();
    assert!(
        nothing.contains("net.d holds no CNI configuration"),
        "{nothing}"
    );
    host.installer.report(host.installer.ensure());
    assert_eq!(host.readiness.pending(), ["CNI plugin installed"]);
    for (content, why) in [
        ("{", "EOF"),
        ("[]", "not a JSON object"),
        ("{}", "neither"),
        (r#"{"plugins":[]}"#, "empty"),
    ] {
        fs::write(host.dir.path().join("net.d/10-a.conflist"), content).unwrap();
        let text = host.installer.ensure().unwrap_err().to_string();
        assert!(
            text.contains("10-a.conflist") && text.contains(why),
            "{text}"
        );
        assert_eq!(
            fs::read_to_string(host.dir.path().join("net.d/10-a.conflist")).unwrap(),
            content
        );
    }
    host.write("10-a.conflist", &bridge());
    host.installer.report(host.installer.ensure());
    assert!(host.readiness.pending().is_empty());
    fs::remove_file(host.dir.path().join("tulle-cni")).unwrap();
    assert!(
        host.installer
            .ensure()
            .unwrap_err()
            .to_string()
            .contains("tulle-cni")
    );
}

#[test]
fn files_that_are_not_configurations_are_left_alone() {
    let host = Host::new();
    for name in [
        "00-readme.txt",
        ".01-hidden.conflist",
        "02-old.conflist.bak",
    ] {
        host.write(name, &bridge());
    }
    host.write("10-a.conflist", &bridge());
    host.installer.ensure().unwrap();
    assert_eq!(host.read("02-old.conflist.bak"), bridge());
    assert_eq!(
        types(&host.read("10-a.conflist")),
        ["bridge", "portmap", "istio-cni"]
    );
}
