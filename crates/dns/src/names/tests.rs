//! Which name means which service, from whose point of view.

use ipnet::IpNet;
use tulle_model::{LoadBalancing, ServiceKey, Visibility};

use super::*;
use crate::tests::{service, workload};

fn zone() -> Zone {
    Zone {
        cluster_domain: "cluster.local".into(),
        ipv6: true,
        preferred_namespace: None,
    }
}

fn find(mesh: &Mesh, name: &str) -> Option<Known> {
    let client = workload("client", "default", "10.0.0.1");
    zone().find(mesh, &client, name, Family::V4)
}

fn first(mesh: &Mesh, name: &str) -> Option<String> {
    find(mesh, name).map(|known| known.addresses[0].to_string())
}

#[test]
fn every_short_form_of_a_kubernetes_service() {
    let mut mesh = Mesh::default();
    mesh.insert_service(service("web", "default", &["10.96.0.1"]));
    mesh.insert_service(service("web", "other", &["10.96.0.2"]));
    for name in [
        "web",
        "web.default",
        "web.default.svc",
        "web.default.svc.cluster.local",
    ] {
        assert_eq!(first(&mesh, name).as_deref(), Some("10.96.0.1"), "{name}");
    }
    for name in ["web.other", "web.other.svc", "web.other.svc.cluster.local"] {
        assert_eq!(first(&mesh, name).as_deref(), Some("10.96.0.2"), "{name}");
    }
    for name in [
        "nobody",
        "web.nowhere",
        "web.default.svc.cluster",
        "example.com",
        "local",
    ] {
        assert_eq!(find(&mesh, name), None, "{name}");
    }
}

#[test]
fn search_domains_are_taken_off_and_an_alias_says_so() {
    let mut mesh = Mesh::default();
    mesh.insert_service(service("web", "other", &["10.96.0.2"]));
    let mut entry = service("api", "default", &["240.240.0.1"]);
    entry.hostname = "api.example.com".into();
    mesh.insert_service(entry);
    assert_eq!(find(&mesh, "api.example.com").unwrap().alias, None);
    for search in [
        "default.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
    ] {
        let known = find(&mesh, &format!("api.example.com.{search}")).unwrap();
        assert_eq!(known.alias.as_deref(), Some("api.example.com"), "{search}");
        assert_eq!(known.addresses[0].to_string(), "240.240.0.1");
    }
    // A resolver with `ndots:5` appends the search domain to a half-qualified service.
    let known = find(&mesh, "web.other.default.svc.cluster.local").unwrap();
    assert_eq!(known.alias.as_deref(), Some("web.other"));
    assert_eq!(
        find(&mesh, "api.example.com.elsewhere.svc.cluster.local"),
        None
    );
}

#[test]
fn wildcards_from_narrow_to_wide_and_never_an_alias() {
    let mut mesh = Mesh::default();
    for (host, vip) in [
        ("*.example.com", "240.240.0.1"),
        ("*.a.example.com", "240.240.0.2"),
    ] {
        let mut entry = service("wild", "default", &[vip]);
        entry.hostname = host.into();
        mesh.insert_service(entry);
    }
    assert_eq!(
        first(&mesh, "x.example.com").as_deref(),
        Some("240.240.0.1")
    );
    assert_eq!(
        first(&mesh, "x.a.example.com").as_deref(),
        Some("240.240.0.2")
    );
    assert_eq!(
        first(&mesh, "y.x.a.example.com").as_deref(),
        Some("240.240.0.2")
    );
    assert_eq!(find(&mesh, "example.com"), None);
    let known = find(&mesh, "x.example.com.cluster.local").unwrap();
    assert_eq!(known.alias, None);
}

#[test]
fn the_literal_name_wins_over_every_other_reading() {
    let mut mesh = Mesh::default();
    mesh.insert_service(service("api", "com", &["10.96.0.1"]));
    let mut entry = service("entry", "default", &["240.240.0.1"]);
    entry.hostname = "api.com".into();
    mesh.insert_service(entry);
    assert_eq!(first(&mesh, "api.com").as_deref(), Some("240.240.0.1"));
    assert_eq!(first(&mesh, "api.com.svc").as_deref(), Some("10.96.0.1"));
}

#[test]
fn a_headless_service_is_its_ready_endpoints() {
    let mut mesh = Mesh::default();
    let headless = service("db", "default", &[]);
    mesh.insert_service(headless.clone());
    assert_eq!(find(&mesh, "db").unwrap().addresses, [] as [IpAddr; 0]);
    for (name, address, health) in [
        ("db-0", "10.0.0.2", Health::Healthy),
        ("db-1", "10.0.0.3", Health::Unhealthy),
    ] {
        let mut endpoint = workload(name, "default", address);
        endpoint.services = [(headless.key(), Vec::new())].into();
        endpoint.health = health;
        mesh.insert_workload(endpoint);
    }
    assert_eq!(find(&mesh, "db").unwrap().addresses.len(), 1);
    mesh.insert_service(Service {
        load_balancing: LoadBalancing {
            health: HealthPolicy::AllowAll,
            ..LoadBalancing::default()
        },
        ..headless
    });
    assert_eq!(find(&mesh, "db").unwrap().addresses.len(), 2);
}

#[test]
fn an_entry_without_an_address_is_for_the_resolvers() {
    let mut mesh = Mesh::default();
    let mut entry = service("entry", "default", &[]);
    entry.hostname = "api.example.com".into();
    mesh.insert_service(entry.clone());
    assert_eq!(find(&mesh, "api.example.com"), None);
    // Nor does a range help: nobody could dial it.
    entry.addresses = vec![NetworkAddress {
        network: Arc::default(),
        range: "10.0.0.0/8".parse::<IpNet>().unwrap(),
    }];
    mesh.insert_service(entry);
    assert_eq!(find(&mesh, "api.example.com"), None);
}

#[test]
fn families_and_networks() {
    let mut mesh = Mesh::default();
    let mut dual = service("web", "default", &["10.96.0.1", "fd00::1"]);
    mesh.insert_service(dual.clone());
    let client = workload("client", "default", "10.0.0.1");
    let count = |mesh: &Mesh, zone: &Zone, family| {
        let known = zone.find(mesh, &client, "web", family).unwrap();
        known.addresses.len()
    };
    assert_eq!(count(&mesh, &zone(), Family::V4), 1);
    assert_eq!(count(&mesh, &zone(), Family::V6), 1);
    let only_v4 = Zone {
        ipv6: false,
        ..zone()
    };
    assert_eq!(
        count(&mesh, &only_v4, Family::V6),
        0,
        "known, without records"
    );
    dual.families = IpFamilies::V6;
    mesh.insert_service(dual.clone());
    assert_eq!(count(&mesh, &zone(), Family::V4), 0);
    dual.families = IpFamilies::Automatic;
    for address in &mut dual.addresses {
        address.network = "other".into();
    }
    mesh.insert_service(dual);
    assert_eq!(
        count(&mesh, &zone(), Family::V4),
        0,
        "not callable from here"
    );
}

#[test]
fn whose_service_it_is() {
    let entry = |namespace: &str, vip: &str| Service {
        hostname: "api.example.com".into(),
        canonical: false,
        ..service("entry", namespace, &[vip])
    };
    let mut mesh = Mesh::default();
    mesh.insert_service(entry("a", "240.240.0.1"));
    mesh.insert_service(entry("b", "240.240.0.2"));
    assert_eq!(
        first(&mesh, "api.example.com").as_deref(),
        Some("240.240.0.1")
    );
    let preferring = Zone {
        preferred_namespace: Some("b".into()),
        ..zone()
    };
    let client = workload("client", "default", "10.0.0.1");
    let known = preferring.find(&mesh, &client, "api.example.com", Family::V4);
    assert_eq!(known.unwrap().addresses[0].to_string(), "240.240.0.2");
    mesh.insert_service(Service {
        visibility: Visibility::Namespace,
        ..entry("a", "240.240.0.1")
    });
    assert_eq!(
        first(&mesh, "api.example.com").as_deref(),
        Some("240.240.0.2")
    );
    mesh.insert_service(entry("default", "240.240.0.3"));
    assert_eq!(
        first(&mesh, "api.example.com").as_deref(),
        Some("240.240.0.3")
    );
    mesh.remove_service(&ServiceKey::new("default", "api.example.com"));
    assert_eq!(
        first(&mesh, "api.example.com").as_deref(),
        Some("240.240.0.2")
    );
}

#[test]
fn long_names_end() {
    let mesh = Mesh::default();
    let name = vec!["a"; 127].join(".");
    assert_eq!(find(&mesh, &name), None);
    assert_eq!(with_wildcards(&name).count(), 1 + WILDCARDS);
}
