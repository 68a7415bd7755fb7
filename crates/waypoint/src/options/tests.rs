use super::*;

fn vars(pairs: &[(&str, &str)]) -> Vars {
    let own = [("POD_NAMESPACE", "shop"), ("SERVICE_ACCOUNT", "waypoint")];
    own.iter()
        .chain(pairs)
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn options(pairs: &[(&str, &str)]) -> Options {
    Options::from_vars(vars(pairs)).unwrap()
}

#[test]
fn istio_s_gateway_pods_are_understood() {
    let options = options(&[
        ("CA_ADDR", "istiod.istio-system.svc:15012"),
        ("ISTIO_META_CLUSTER_ID", "one"),
        ("ISTIO_META_NODE_NAME", "node-1"),
        ("ISTIO_META_NETWORK", "net"),
        ("TRUST_DOMAIN", "td"),
        ("TERMINATION_DRAIN_DURATION_SECONDS", "7"),
        ("PROXY_CONCURRENCY", "3"),
    ]);
    assert_eq!(
        options.identity.to_string(),
        "spiffe://td/ns/shop/sa/waypoint"
    );
    assert_eq!(
        options.discovery.address,
        "https://istiod.istio-system.svc:15012"
    );
    assert_eq!(options.authority.address, options.discovery.address);
    assert_eq!(
        (options.cluster_id.as_str(), options.network.as_str()),
        ("one", "net")
    );
    assert_eq!((options.node.node.as_str(), options.workers), ("node-1", 3));
    assert_eq!(options.drain, Duration::from_secs(7));
    assert!(options.is_own_port(15000) && options.is_own_port(15090) && !options.is_own_port(80));
}

#[test]
fn who_we_are_must_be_said() {
    let error = Options::from_vars(Vars::new()).unwrap_err();
    assert!(error.to_string().contains("POD_NAMESPACE"), "{error}");
}

#[test]
fn durations_as_people_write_them() {
    for (text, expected) in [
        ("24h", 86_400),
        ("90s", 90),
        ("5m", 300),
        ("12", 12),
        ("24h0m0s", 86_400),
    ] {
        let options = options(&[("SECRET_TTL", text)]);
        assert_eq!(
            options.certificate_lifetime,
            Duration::from_secs(expected),
            "{text}"
        );
    }
    let error = Options::from_vars(vars(&[("SECRET_TTL", "soon")])).unwrap_err();
    assert!(error.to_string().contains("SECRET_TTL"), "{error}");
}

#[test]
fn the_grace_period_leaves_time_to_end() {
    assert_eq!(options(&[]).drain, Duration::from_secs(5));
    let drain = |grace| options(&[("TERMINATION_GRACE_PERIOD_SECONDS", grace)]).drain;
    assert_eq!(drain("30"), Duration::from_secs(25));
    assert_eq!(drain("2"), Duration::from_secs(1));
}

#[test]
fn networks_that_are_not_asked_for_keys() {
    let all = options(&[("BLOCKED_CIDRS_IN_JWKS_URIS", "10.0.0.0/8, fd00::/8")]);
    let expected = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap());
    assert_eq!(all.blocked_key_networks, expected);
    assert!(options(&[]).blocked_key_networks.is_empty());
    let wrong = vars(&[("BLOCKED_CIDRS_IN_JWKS_URIS", "10.0.0.0/8,all")]);
    assert!(Options::from_vars(wrong).is_err());
}
