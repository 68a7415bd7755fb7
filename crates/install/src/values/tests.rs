use super::*;

fn with(settings: &[&str]) -> Result<Values, SetError> {
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    Values::default().with(&settings)
}

#[test]
fn paths_reach_nested_values_of_each_type() {
    let values = with(&[
        "image=registry.example:5000/mesh/tulle:dev",
        "cni.cniBinDir=/var/lib/rancher/k3s/data/cni",
        "cni.ipv6=false",
        "cni.excludeNamespaces={kube-system,monitoring}",
        "ztunnel.terminationGracePeriodSeconds=60",
        "ztunnel.resources.limits.cpu=2",
        "pilot.env.SPEED=9",
        "pilot.env.LOUD=true",
        "meshConfig.trustDomain=td1.example",
        "meshConfig.enableThing=true",
    ])
    .unwrap();
    assert_eq!(values.image, "registry.example:5000/mesh/tulle:dev");
    assert_eq!(values.cni.cni_bin_dir, "/var/lib/rancher/k3s/data/cni");
    assert!(!values.cni.ipv6);
    assert_eq!(values.cni.exclude_namespaces, ["kube-system", "monitoring"]);
    assert_eq!(values.ztunnel.termination_grace_period_seconds, 60);
    assert_eq!(values.ztunnel.resources.limits["cpu"], "2");
    assert_eq!(values.pilot.env["SPEED"], "9");
    assert_eq!(values.pilot.env["LOUD"], "true");
    assert_eq!(values.trust_domain(), "td1.example");
    assert_eq!(values.mesh_config["enableThing"], true);
    // What was not named stays.
    assert_eq!(values.cni.cni_conf_dir, Values::default().cni.cni_conf_dir);
}

#[test]
fn a_text_that_looks_like_a_number_stays_text() {
    assert_eq!(with(&["logLevel=1"]).unwrap().log_level, "1");
    assert_eq!(with(&["network=10"]).unwrap().network, "10");
}

#[test]
fn mistakes_are_named() {
    for (setting, expected) in [
        ("image", "write path=value"),
        ("=x", "write path=value"),
        ("cni..x=1", "write path=value"),
        ("cni.binDir=/opt", "binDir"),
        ("imag=x", "imag"),
        ("image.tag=x", "no parts"),
        ("cni.ipv6=perhaps", "boolean"),
        ("cni.cniBinDir=opt/cni", "absolute path"),
        ("cni.cniConfDir=/etc/../root", "absolute path"),
        ("imagePullPolicy=Sometimes", "IfNotPresent"),
        ("meshConfig.trustDomain=Not A Domain", "trust domain"),
        ("image=", "image reference"),
    ] {
        let error = with(&[setting]).unwrap_err().to_string();
        assert!(error.contains(expected), "{setting}: {error}");
    }
}

#[test]
fn a_values_file_is_laid_over_the_defaults() {
    let overlay = serde_json::json!({ "cni": { "resources": { "requests": { "cpu": "5m" } } } });
    let values = Values::default().merged(overlay).unwrap();
    assert_eq!(values.cni.resources.requests["cpu"], "5m");
    assert_eq!(values.cni.resources.requests["memory"], "32Mi");
    assert_eq!(values.pilot, PilotValues::default());
    let error = Values::default()
        .merged(serde_json::json!({ "cnI": 1 }))
        .unwrap_err();
    assert!(error.to_string().contains("cnI"), "{error}");
}
