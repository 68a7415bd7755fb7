use super::*;

fn sample() -> Registry {
    let registry = Registry::new();
    registry.build_info("ztunnel", "1.2.3");
    let xds = registry.counter("istio_xds_message", "Messages", &["url"]);
    xds.with(&["a\"b\\c\nd"]).inc_by(3);
    let seconds = registry.histogram("push_seconds", "Time", &["type"], &[0.1, 1.0]);
    seconds.with(&["wds"]).observe(0.05);
    seconds.with(&["wds"]).observe(0.5);
    seconds.with(&["wds"]).observe(7.0);
    // Without a value, a family says nothing.
    registry.gauge("unused", "Never set", &["x"]);
    registry
}

#[test]
fn prometheus_text() {
    let expected = r#"# HELP istio_build Istio component build info
# TYPE istio_build gauge
istio_build{component="ztunnel",tag="1.2.3"} 1
# HELP istio_xds_message_total Messages
# TYPE istio_xds_message_total counter
istio_xds_message_total{url="a\"b\\c\nd"} 3
# HELP push_seconds Time
# TYPE push_seconds histogram
push_seconds_bucket{type="wds",le="0.1"} 1
push_seconds_bucket{type="wds",le="1"} 2
push_seconds_bucket{type="wds",le="+Inf"} 3
push_seconds_sum{type="wds"} 7.55
push_seconds_count{type="wds"} 3
"#;
    assert_eq!(sample().encode(Format::Prometheus), expected);
}

#[test]
fn open_metrics() {
    let text = sample().encode(Format::OpenMetrics);
    assert!(
        text.contains("# TYPE istio_xds_message counter\nistio_xds_message_total{"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_scraper_chooses() {
    assert_eq!(Format::negotiate(None), Format::Prometheus);
    assert_eq!(
        Format::negotiate(Some("text/plain;version=0.0.4")),
        Format::Prometheus
    );
    let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    assert_eq!(Format::negotiate(Some(prometheus)), Format::OpenMetrics);
}

#[test]
fn too_many_label_values_share_one_series() {
    let registry = Registry::new();
    let family = registry.counter("many", "Many", &["n"]);
    for n in 0..SERIES_PER_FAMILY + 5 {
        family.with(&[&n.to_string()]).inc();
    }
    let text = registry.encode(Format::Prometheus);
    assert!(text.contains("many_total{n=\"overflow\"} 5\n"));
    assert_eq!(
        text.lines()
            .filter(|l| l.starts_with("many_total{"))
            .count(),
        SERIES_PER_FAMILY + 1
    );
}

#[test]
fn a_removed_series_is_gone_and_begins_anew() {
    let registry = Registry::new();
    let family = registry.gauge("expiry", "Expiry", &["identity"]);
    family.with(&["a"]).set(5);
    family.remove(&["a"]);
    assert_eq!(registry.encode(Format::Prometheus), "");
    assert_eq!(family.with(&["a"]).get(), 0);
}

#[test]
fn process_metrics_count_descriptors() {
    let registry = Registry::new();
    register_process_metrics(&registry);
    let value = |text: &str, name: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let text = registry.encode(Format::Prometheus);
    let open = value(&text, "process_open_fds ");
    assert!(
        open >= 3.0 && open <= value(&text, "process_max_fds "),
        "{text}"
    );
}
