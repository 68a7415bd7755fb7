use super::*;

fn options(vars: &[(&str, &str)]) -> Result<Options, Error> {
    let vars = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Options::from_vars(vars.collect())
}

#[test]
fn defaults_are_upstreams() {
    let o = options(&[("ZTUNNEL_CPU_LIMIT", "2")]).unwrap();
    assert_eq!(o.cluster_id, "Kubernetes");
    assert_eq!(o.mark, 0x539);
    assert_eq!(
        o.agent_socket.to_str(),
        Some("/var/run/ztunnel/ztunnel.sock")
    );
    assert_eq!(o.discovery.address, "https://localhost:15012");
    assert_eq!(o.drain, Duration::from_secs(5));
    assert_eq!(o.certificate_lifetime, Duration::from_secs(24 * 3600));
    assert_eq!((o.workers, o.hbone.pool_max_streams), (2, 100));
    assert_eq!(
        (o.admin_port, o.metrics_port, o.ready_port),
        (15000, 15020, 15021)
    );
    assert!(o.dns && o.zone.ipv6 && o.zone.preferred_namespace.is_none());
    assert_eq!(&*o.zone.cluster_domain, "cluster.local");
    assert!(o.original_source && !o.response_baggage && !o.post_quantum);
    let o = options(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")]).unwrap();
    assert_eq!(o.authority.address, "https://istiod.istio-system.svc:15012");
}

#[test]
fn names() {
    let resolv_conf = std::env::temp_dir().join(format!("tulle-resolv-{}", std::process::id()));
    std::fs::write(&resolv_conf, "nameserver 10.96.0.10\n").unwrap();
    let o = options(&[
        ("ISTIO_META_DNS_CAPTURE", "False"),
        ("CLUSTER_DOMAIN", "example.org."),
        ("IPV6_ENABLED", "false"),
        ("PREFERED_SERVICE_NAMESPACE", "global"),
        ("TULLE_RESOLV_CONF", resolv_conf.to_str().unwrap()),
    ]);
    std::fs::remove_file(&resolv_conf).unwrap();
    let o = o.unwrap();
    assert!(!o.dns && !o.zone.ipv6);
    assert_eq!(&*o.zone.cluster_domain, "example.org");
    assert_eq!(o.zone.preferred_namespace.as_deref(), Some("global"));
    assert_eq!(o.resolvers.servers, ["10.96.0.10:53".parse().unwrap()]);
    let none = options(&[("TULLE_RESOLV_CONF", "/nowhere/resolv.conf")]).unwrap();
    assert!(none.resolvers.servers.is_empty());
}

#[test]
fn what_the_daemonset_sets() {
    let o = options(&[
        ("CA_ADDRESS", "istiod.istio-system.svc:15012"),
        ("XDS_ADDRESS", "https://istiod.other.svc:15012"),
        ("CLUSTER_ID", "ignored"),
        ("ISTIO_META_CLUSTER_ID", "c1"),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30"),
        ("XDS_HEADER_X_Tenant", "a"),
        ("ALT_CA_HOSTNAME", "ca.example"),
        ("POD_NAME", "ztunnel-abc"),
        ("NETWORK", "n1"),
        ("COMPLIANCE_POLICY", "pqc"),
        ("HTTP2_STREAM_WINDOW_SIZE", "4194304"),
    ])
    .unwrap();
    assert_eq!(o.authority.address, "https://istiod.istio-system.svc:15012");
    assert_eq!(o.discovery.address, "https://istiod.other.svc:15012");
    assert_eq!(
        (o.cluster_id.as_str(), o.node.cluster_id.as_str()),
        ("c1", "c1")
    );
    assert_eq!(o.drain, Duration::from_secs(25));
    assert_eq!(
        o.discovery.headers,
        [("x_tenant".to_owned(), "a".to_owned())]
    );
    assert_eq!(o.authority.server_name.as_deref(), Some("ca.example"));
    assert_eq!(o.node.pod, "ztunnel-abc");
    assert_eq!(o.network, "n1");
    assert_eq!(o.hbone.stream_window, 4 << 20);
    assert!(o.post_quantum);
}

#[test]
fn worker_threads_by_number_percentage_limit_and_default() {
    let workers = |vars: &[(&str, &str)]| options(vars).map(|o| o.workers);
    let cpus = ("ZTUNNEL_CPU_LIMIT", "8");
    assert_eq!(
        workers(&[cpus, ("ZTUNNEL_WORKER_THREADS", "4")]).unwrap(),
        4
    );
    assert_eq!(
        workers(&[cpus, ("ZTUNNEL_WORKER_THREADS", "50%")]).unwrap(),
        4
    );
    assert_eq!(
        workers(&[cpus, ("ZTUNNEL_WORKER_THREADS", "30%")]).unwrap(),
        3
    );
    assert_eq!(
        workers(&[cpus, ("ZTUNNEL_WORKER_THREADS", "0")]).unwrap(),
        8
    );
    assert_eq!(workers(&[cpus]).unwrap(), 2);
    assert_eq!(workers(&[("ZTUNNEL_CPU_LIMIT", "32")]).unwrap(), 8);
    assert_eq!(
        workers(&[cpus, ("ZTUNNEL_RESOURCE_CPU_REQUEST", "2500m")]).unwrap(),
        3
    );
    assert_eq!(
        workers(&[cpus, ("ZTUNNEL_RESOURCE_CPU_LIMIT", "500m")]).unwrap(),
        1
    );
    for wrong in ["many", "-1", "0%", "101%", "x%"] {
        let error = workers(&[("ZTUNNEL_WORKER_THREADS", wrong)])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ZTUNNEL_WORKER_THREADS") && error.contains(wrong),
            "{error}"
        );
    }
}

#[test]
fn durations() {
    let of = |text: &str| options(&[("SECRET_TTL", text)]).map(|o| o.certificate_lifetime);
    let cases = [
        ("90s", 90),
        ("5m", 300),
        ("24h", 86_400),
        ("1h30m", 5400),
        ("7", 7),
        ("2d", 172_800),
    ];
    for (text, seconds) in cases {
        assert_eq!(of(text).unwrap(), Duration::from_secs(seconds), "{text}");
    }
    assert_eq!(of("1500ms").unwrap(), Duration::from_millis(1500));
    for wrong in ["x", "5 parsecs", "-1s", "99999999999999999999s", "s"] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn short_grace_periods_keep_a_second() {
    let of = |grace: &str| {
        options(&[("TERMINATION_GRACE_PERIOD_SECONDS", grace)])
            .unwrap()
            .drain
    };
    assert_eq!([of("10"), of("1"), of("0")].map(|d| d.as_secs()), [9, 1, 1]);
    let both = [
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30"),
        ("CONNECTION_TERMINATION_DEADLINE", "2s"),
    ];
    assert_eq!(options(&both).unwrap().drain, Duration::from_secs(2));
}
