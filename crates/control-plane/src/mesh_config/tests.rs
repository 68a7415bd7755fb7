use tulle_api::mesh::MeshConfig;

use super::defaults;

fn parse(text: &str) -> Result<MeshConfig, String> {
    super::parse(text, "mesh").map_err(|error| error.to_string())
}

#[test]
fn nothing_said_means_defaults() {
    for text in ["", "\n", "{}", "ingressClass: istio\nenableTracing: true"] {
        assert_eq!(parse(text).unwrap(), defaults("mesh"), "{text:?}");
    }
}

#[test]
fn trust_domain_and_root_namespace_are_followed() {
    let text = "defaultConfig:\n  discoveryAddress: istiod.istio-system.svc:15012\n\
                trustDomain: mesh@example.org\nrootNamespace: policies\n";
    let config = parse(text).unwrap();
    assert_eq!(config.trust_domain, "mesh.example.org");
    assert_eq!(config.root_namespace, "policies");
}

#[test]
fn what_makes_no_identity_is_refused_with_its_name() {
    for (text, wanted) in [
        ("trustDomain: Upper", "trustDomain"),
        ("trustDomain: a/b", "trustDomain"),
        ("trustDomain: a..b", "trustDomain"),
        ("rootNamespace: a.b", "rootNamespace"),
        ("trustDomain: [1]", ""),
        ("a: b: c", ""),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let long = "x".repeat(1 << 20);
    assert!(parse(&long).unwrap_err().contains("bytes"));
}
