//! Virtual addresses of ServiceEntries.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::world::{apply, bookinfo};
use crate::Cluster;

fn entry(name: &str, hosts: &str, more: &str, created: &str) -> String {
    format!(
        "kind: ServiceEntry\nmetadata: {{name: {name}, creationTimestamp: \"{created}\"}}\nspec: {{hosts: [{hosts}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS}}\n{more}"
    )
}

const DAY: [&str; 2] = ["2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z"];

/// Addresses of a service in what was told.
fn addresses(cluster: &Cluster, hostname: &str) -> Vec<String> {
    let all = cluster.snapshot();
    let found = all
        .services
        .iter()
        .find(|(key, _)| key.hostname() == hostname)
        .unwrap();
    let service = found.1.as_ref().unwrap();
    service
        .addresses
        .iter()
        .map(|address| address.range.addr().to_string())
        .collect()
}

#[test]
fn both_families_and_the_same_again() {
    let first = {
        let mut cluster = bookinfo();
        apply(
            &mut cluster,
            &entry("a", "a.example.com, b.example.com", "", DAY[0]),
        );
        cluster.take_changes();
        let found = addresses(&cluster, "a.example.com");
        let [v4, v6] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(
            v4.starts_with("240.240.") && v6.starts_with("2001:2::"),
            "{found:?}"
        );
        assert_ne!(found, addresses(&cluster, "b.example.com"));
        let unwritten = cluster.unwritten_addresses();
        let [((namespace, name), all)] = &unwritten[..] else {
            panic!("{unwritten:?}")
        };
        assert_eq!((&**namespace, &**name, all.len()), ("default", "a", 4));
        found
    };
    let mut again = bookinfo();
    apply(
        &mut again,
        &entry("a", "a.example.com, b.example.com", "", DAY[0]),
    );
    again.take_changes();
    assert_eq!(
        addresses(&again, "a.example.com"),
        first,
        "a control plane that lost the status chooses the same"
    );
}

#[test]
fn what_the_status_says_is_kept_and_nothing_is_left_to_write() {
    let mut cluster = bookinfo();
    let status = "status: {addresses: [{host: a.example.com, value: 240.240.3.4}, {host: a.example.com, value: \"2001:2::304\"}]}";
    apply(&mut cluster, &entry("a", "a.example.com", status, DAY[0]));
    cluster.take_changes();
    assert_eq!(
        addresses(&cluster, "a.example.com"),
        ["240.240.3.4", "2001:2::304"]
    );
    assert!(cluster.unwritten_addresses().is_empty());
}

#[test]
fn of_two_that_claim_one_address_the_older_keeps_it() {
    for order in [[0, 1], [1, 0]] {
        let mut cluster = bookinfo();
        for at in order {
            let host = ["old.example.com", "young.example.com"][at];
            let status = format!("status: {{addresses: [{{host: {host}, value: 240.240.3.4}}]}}");
            apply(
                &mut cluster,
                &entry(["old", "young"][at], host, &status, DAY[at]),
            );
            cluster.take_changes();
        }
        assert_eq!(addresses(&cluster, "old.example.com")[0], "240.240.3.4");
        assert_ne!(addresses(&cluster, "young.example.com")[0], "240.240.3.4");
    }
}

#[test]
fn who_gets_none() {
    let mut cluster = bookinfo();
    let base = |name: &str, spec: &str| {
        format!(
            "kind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{ports: [{{number: 80, name: http, protocol: HTTP}}], {spec}}}"
        )
    };
    apply(&mut cluster, &base("none", "hosts: [none.example.com]"));
    apply(
        &mut cluster,
        &base(
            "own",
            "hosts: [own.example.com], addresses: [198.51.100.1], resolution: STATIC",
        ),
    );
    apply(
        &mut cluster,
        &base("wild", "hosts: ['*.wild.example.com'], resolution: DNS"),
    );
    apply(
        &mut cluster,
        &base(
            "dynamic",
            "hosts: ['*.dynamic.example.com'], resolution: DYNAMIC_DNS",
        ),
    );
    let off = base("refused", "hosts: [refused.example.com], resolution: DNS").replace(
        "name: refused}",
        "name: refused, labels: {networking.istio.io/enable-autoallocate-ip: \"false\"}}",
    );
    apply(&mut cluster, &off);
    cluster.take_changes();
    for (host, expected) in [
        ("none.example.com", 0),
        ("own.example.com", 1),
        ("*.wild.example.com", 0),
        ("*.dynamic.example.com", 2),
        ("refused.example.com", 0),
    ] {
        assert_eq!(addresses(&cluster, host).len(), expected, "{host}");
    }
}

#[test]
fn addresses_of_the_user_replace_ours_and_ours_come_back() {
    let mut cluster = bookinfo();
    let automatic = entry("a", "a.example.com", "", DAY[0]);
    apply(&mut cluster, &automatic);
    cluster.take_changes();
    let ours = addresses(&cluster, "a.example.com");
    apply(
        &mut cluster,
        &automatic.replace(
            "resolution: DNS",
            "resolution: DNS, addresses: [198.51.100.1]",
        ),
    );
    cluster.take_changes();
    assert_eq!(addresses(&cluster, "a.example.com"), ["198.51.100.1"]);
    apply(&mut cluster, &automatic);
    cluster.take_changes();
    assert_eq!(addresses(&cluster, "a.example.com"), ours);
    cluster.remove_service_entry("default", "a");
    cluster.take_changes();
    assert!(cluster.unwritten_addresses().is_empty());
}

#[test]
fn thousands_of_hosts_have_addresses_of_their_own() {
    let mut cluster = bookinfo();
    for at in 0..40 {
        let hosts: Vec<String> = (0..50)
            .map(|host| format!("h{host}.e{at}.example.com"))
            .collect();
        apply(
            &mut cluster,
            &entry(&format!("e{at}"), &hosts.join(", "), "", DAY[0]),
        );
    }
    cluster.take_changes();
    let all = cluster.unwritten_addresses();
    let given: Vec<IpAddr> = all
        .iter()
        .flat_map(|(_, addresses)| addresses.iter().map(|(_, a)| *a))
        .collect();
    assert_eq!(given.len(), 4000);
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 4000);
}
