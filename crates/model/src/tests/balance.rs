//! Endpoint choice.

use proptest::prelude::*;

use super::{port, service, workload};
use crate::{
    Health, HealthPolicy, LoadBalancing, Locality, Mesh, Mode, NoEndpoint, Scope, Service,
    Workload, choose,
};

fn mesh(service: &Service, workloads: impl IntoIterator<Item = Workload>) -> Mesh {
    let mut mesh = Mesh::default();
    mesh.insert_service(service.clone());
    workloads.into_iter().for_each(|w| mesh.insert_workload(w));
    mesh
}

fn in_zone(uid: &str, region: &str, zone: &str) -> Workload {
    let locality = Locality {
        region: region.into(),
        zone: zone.into(),
        ..Locality::default()
    };
    Workload {
        locality,
        node: format!("{region}{zone}").into(),
        ..workload(uid, "10.0.0.1", &["s"])
    }
}

fn chosen(
    mesh: &Mesh,
    service: &Service,
    client: Option<&Workload>,
) -> Result<Vec<String>, NoEndpoint> {
    let mut seen = std::collections::BTreeSet::new();
    for dice in 0..64 {
        seen.insert(
            choose(mesh, service, 80, client, &[], dice)?
                .workload
                .uid
                .to_string(),
        );
    }
    Ok(seen.into_iter().collect())
}

#[test]
fn shares_follow_capacity() {
    let service = service("ns", "s", &[]);
    let weigh = |uid: &str, capacity| Workload {
        capacity,
        ..workload(uid, "10.0.0.1", &["s"])
    };
    let mesh = mesh(&service, [weigh("a", 1), weigh("b", 3), weigh("c", 0)]);
    let mut counts = [0u32; 3];
    for dice in 0..4000u64 {
        let uid = choose(&mesh, &service, 80, None, &[], dice)
            .unwrap()
            .workload
            .uid
            .clone();
        counts[["a", "b", "c"].iter().position(|u| **u == *uid).unwrap()] += 1;
    }
    assert_eq!(
        counts,
        [1000, 3000, 0],
        "exactly by weight over a full round of the dice"
    );
}

#[test]
fn why_there_is_no_endpoint() {
    let plain = service("ns", "s", &[]);
    let refuse = |mesh: &Mesh, port| choose(mesh, &plain, port, None, &[], 7).unwrap_err();
    assert_eq!(refuse(&mesh(&plain, []), 80), NoEndpoint::Empty);
    assert_eq!(refuse(&mesh(&plain, []), 81), NoEndpoint::Port);
    let sick = Workload {
        health: Health::Unhealthy,
        ..workload("a", "10.0.0.1", &["s"])
    };
    assert_eq!(
        refuse(&mesh(&plain, [sick.clone()]), 80),
        NoEndpoint::Unhealthy
    );
    let nameless = Workload {
        services: [(plain.key(), vec![])].into(),
        ..workload("a", "10.0.0.1", &[])
    };
    assert_eq!(
        refuse(&mesh(&plain, [nameless]), 80),
        NoEndpoint::Empty,
        "a port that did not resolve"
    );
    let zero = Workload {
        services: [(plain.key(), vec![port(80, 0)])].into(),
        ..workload("a", "10.0.0.1", &[])
    };
    assert_eq!(refuse(&mesh(&plain, [zero]), 80), NoEndpoint::Empty);

    let health = HealthPolicy::AllowAll;
    let eager = Service {
        load_balancing: LoadBalancing {
            health,
            ..LoadBalancing::default()
        },
        ..plain.clone()
    };
    let mesh = mesh(&eager, [sick]);
    assert_eq!(
        choose(&mesh, &eager, 80, None, &[], 7).unwrap().target_port,
        8080
    );
}

#[test]
fn failover_takes_the_nearest_and_strict_only_the_same() {
    let preference = vec![Scope::Network, Scope::Region, Scope::Zone];
    let with = |mode| {
        let load_balancing = LoadBalancing {
            preference: preference.clone(),
            mode,
            ..LoadBalancing::default()
        };
        Service {
            load_balancing,
            ..service("ns", "s", &[])
        }
    };
    let failover = with(Mode::Failover);
    let client = in_zone("client", "r1", "z1");
    let all = [
        in_zone("far", "r2", "z1"),
        in_zone("region", "r1", "z2"),
        in_zone("zone1", "r1", "z1"),
        in_zone("zone2", "r1", "z1"),
    ];
    let whole = mesh(&failover, all.clone());
    assert_eq!(
        chosen(&whole, &failover, Some(&client)).unwrap(),
        ["zone1", "zone2"]
    );
    let partly = mesh(&failover, all[..2].to_vec());
    assert_eq!(
        chosen(&partly, &failover, Some(&client)).unwrap(),
        ["region"]
    );
    let far = mesh(&failover, all[..1].to_vec());
    assert_eq!(
        chosen(&far, &failover, Some(&client)).unwrap(),
        ["far"],
        "a zone of the same name elsewhere is not near"
    );

    let strict = with(Mode::Strict);
    assert_eq!(
        chosen(&mesh(&strict, all.clone()), &strict, Some(&client)).unwrap(),
        ["zone1", "zone2"]
    );
    assert_eq!(
        chosen(&partly, &strict, Some(&client)),
        Err(NoEndpoint::Scope)
    );
    assert_eq!(
        chosen(&partly, &strict, None),
        Err(NoEndpoint::Scope),
        "a client that is nowhere"
    );

    let standard = with(Mode::Standard);
    assert_eq!(chosen(&whole, &standard, Some(&client)).unwrap().len(), 4);
}

#[test]
fn a_sick_neighbour_does_not_hold_traffic() {
    let preference = vec![Scope::Zone];
    let load_balancing = LoadBalancing {
        preference,
        mode: Mode::Failover,
        ..LoadBalancing::default()
    };
    let service = Service {
        load_balancing,
        ..service("ns", "s", &[])
    };
    let near = Workload {
        health: Health::Unhealthy,
        ..in_zone("near", "r", "z")
    };
    let mesh = mesh(&service, [near, in_zone("far", "r", "other")]);
    assert_eq!(
        chosen(&mesh, &service, Some(&in_zone("client", "r", "z"))).unwrap(),
        ["far"]
    );
}

proptest! {
    #[test]
    fn any_dice_gives_a_usable_endpoint(
        dice in any::<u64>(),
        endpoints in prop::collection::vec((0u32..4, any::<bool>()), 0..8),
    ) {
        let service = service("ns", "s", &[]);
        let workloads = endpoints.iter().enumerate().map(|(i, (capacity, healthy))| Workload {
            capacity: *capacity,
            health: if *healthy { Health::Healthy } else { Health::Unhealthy },
            ..workload(&i.to_string(), "10.0.0.1", &["s"])
        });
        let mesh = mesh(&service, workloads);
        let usable = endpoints.iter().any(|(capacity, healthy)| *capacity > 0 && *healthy);
        match choose(&mesh, &service, 80, None, &[], dice) {
            Ok(chosen) => {
                prop_assert!(chosen.workload.capacity > 0);
                prop_assert_eq!(chosen.workload.health, Health::Healthy);
            }
            Err(_) => prop_assert!(!usable),
        }
    }
}

#[test]
fn who_has_no_address_and_no_name_is_not_chosen() {
    let mut mesh = Mesh::default();
    let web = service("ns", "web", &["10.96.0.1/32"]);
    mesh.insert_service(web.clone());
    let mut nowhere = workload("nowhere", "", &["web"]);
    mesh.insert_workload(nowhere.clone());
    assert_eq!(
        choose(&mesh, &web, 80, None, &[], 0),
        Err(NoEndpoint::Empty)
    );
    nowhere.hostname = "web.example.com".into();
    mesh.insert_workload(nowhere);
    assert!(choose(&mesh, &web, 80, None, &[], 0).is_ok());
}
