//! What the parts are told, compared with files. `UPDATE_GOLDEN=1 cargo test` writes them anew.

use super::*;

fn subnets() -> Subnets {
    Subnets {
        all: "10.77.0.0/16".parse().unwrap(),
    }
}

fn golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        expected,
        text,
        "{} differs; UPDATE_GOLDEN=1 writes it anew",
        path.display()
    );
}

#[test]
fn configuration_is_as_recorded() {
    let (pki, dir) = (Path::new("/p/pki"), Path::new("/p/node2"));
    golden(
        "kubeconfig.yaml",
        &kubeconfig(&subnets(), pki, "admin", "tulle"),
    );
    golden("containerd.toml", &containerd(dir, "overlayfs"));
    golden(
        "kubelet.yaml",
        &kubelet(&subnets(), 2, pki, dir, "/tulle-x/node2"),
    );
    golden("pods.conflist", &pod_network(&subnets(), 2, dir));
    golden("Corefile", &corefile(Path::new("/p/coredns.kubeconfig")));
    golden("dns.yaml", &dns_manifest(&subnets()));
}

#[test]
fn the_pod_network_is_json() {
    let text = pod_network(&subnets(), 1, Path::new("/p/node1"));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        value["plugins"][0]["ipam"]["ranges"][0][0]["subnet"],
        "10.77.17.0/24"
    );
}
