use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn taken(nets: &[&str]) -> Vec<(Ipv4Net, String)> {
    nets.iter()
        .map(|net| (net.parse().unwrap(), "interface eth0".to_owned()))
        .collect()
}

#[test]
fn the_same_name_gets_the_same_subnets_and_another_name_usually_others() {
    let chosen = choose_subnets(&name("tulle"), &[]).unwrap();
    assert_eq!(chosen, choose_subnets(&name("tulle"), &[]).unwrap());
    assert_ne!(chosen, choose_subnets(&name("e2e"), &[]).unwrap());
}

#[test]
fn what_the_host_uses_is_stepped_over() {
    let first = choose_subnets(&name("tulle"), &[]).unwrap();
    let used = [(
        Ipv4Net::new_assert(first.node_pods(2).addr(), 24),
        "interface tl-x".to_owned(),
    )];
    let second = choose_subnets(&name("tulle"), &used).unwrap();
    assert!(!overlap(&first.all, &second.all));
    // All of 10/8 is routed, as in many offices.
    let third = choose_subnets(&name("tulle"), &taken(&["10.0.0.0/8"])).unwrap();
    assert_eq!(third.all.addr().octets()[0], 172);
}

#[test]
fn no_free_subnet_is_an_error_that_names_the_users() {
    let error = choose_subnets(&name("tulle"), &taken(&["10.0.0.0/8", "172.16.0.0/12"]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("172.16.0.0/12 (interface eth0)") && error.contains("--subnet"),
        "{error}"
    );
}

#[test]
fn a_subnet_asked_for_by_hand_must_be_free_and_a_16() {
    assert!(check_subnets("10.77.0.0/16".parse().unwrap(), &[]).is_ok());
    let used = check_subnets("10.77.0.0/16".parse().unwrap(), &taken(&["10.77.3.0/24"]))
        .unwrap_err()
        .to_string();
    assert!(used.contains("10.77.3.0/24 (interface eth0)"), "{used}");
    assert!(check_subnets("10.77.0.0/24".parse().unwrap(), &[]).is_err());
    assert!(check_subnets("10.77.1.0/16".parse().unwrap(), &[]).is_err());
}

#[test]
fn subnets_lie_within_the_16_and_apart() {
    let subnets = Subnets {
        all: "10.77.0.0/16".parse().unwrap(),
    };
    let parts = [subnets.machines(), subnets.pods(), subnets.services()];
    for (i, part) in parts.iter().enumerate() {
        assert!(subnets.all.contains(part));
        assert!(parts.iter().skip(i + 1).all(|other| !overlap(part, other)));
    }
    for n in 1..=crate::limits::NODES {
        assert!(subnets.pods().contains(&subnets.node_pods(n)));
        assert!(subnets.machines().contains(&subnets.node(n)));
    }
    assert!(subnets.services().contains(&subnets.dns_service()));
}

#[test]
fn routes_are_read_and_the_default_route_left_out() {
    let json = br#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0"},{"dst":"192.0.2.0/24","dev":"eth0"},
        {"type":"local","dst":"127.0.0.1","dev":"lo","table":"local"}]"#;
    let routes = parse_routes(json).unwrap();
    assert_eq!(
        routes[0],
        ("192.0.2.0/24".parse().unwrap(), "interface eth0".to_owned())
    );
    assert_eq!(routes[1].0.prefix_len(), 32);
    assert_eq!(routes.len(), 2);
}
