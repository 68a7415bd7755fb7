use super::{Options, OptionsError};
use crate::deployer::Template;

fn from(pairs: &[(&str, &str)]) -> Result<Options, OptionsError> {
    Options::from_env(|name| {
        let found = pairs.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn an_empty_environment_gives_istios_defaults() {
    let options = from(&[("POD_NAMESPACE", " ")]).unwrap();
    assert_eq!(options.namespace, "istio-system");
    assert_eq!(options.cluster_id, "Kubernetes");
    let account = ("istio-system".to_owned(), "ztunnel".to_owned());
    assert_eq!(options.trusted_node_accounts, [account]);
    assert_eq!(options.ports.xds, 15012);
}

#[test]
fn trusted_accounts_are_a_list_or_an_error() {
    let options = from(&[("CA_TRUSTED_NODE_ACCOUNTS", "a/b, c/d")]).unwrap();
    let wanted = [
        ("a".to_owned(), "b".to_owned()),
        ("c".to_owned(), "d".to_owned()),
    ];
    assert_eq!(options.trusted_node_accounts, wanted);
    for value in ["a", "a/", "/b", "a/b,c"] {
        let error = from(&[("CA_TRUSTED_NODE_ACCOUNTS", value)]).unwrap_err();
        assert!(
            error.to_string().contains("CA_TRUSTED_NODE_ACCOUNTS"),
            "{error}"
        );
    }
}

#[test]
fn the_serving_certificate_names_service_and_revision() {
    let options = from(&[
        ("REVISION", "canary"),
        ("ISTIOD_CUSTOM_HOST", "istiod.example.org"),
    ]);
    let names = options.unwrap().serving_names();
    for wanted in [
        "istiod.istio-system.svc",
        "istiod.istio-system.svc.cluster.local",
        "istiod-canary.istio-system.svc",
        "istiod.example.org",
    ] {
        assert!(
            names.iter().any(|name| name == wanted),
            "{wanted} in {names:?}"
        );
    }
}

#[test]
fn the_template_of_proxies_is_json() {
    let with = |value: &str| {
        let value = value.to_owned();
        Options::from_env(move |name| (name == "PROXY_TEMPLATE").then(|| value.clone()))
    };
    let options =
        with(r#"{"image":"tulle:1","waypoint":{"resources":{"limits":{"cpu":"2"}}}}"#).unwrap();
    assert_eq!(options.template.image, "tulle:1");
    assert_eq!(options.template.waypoint.resources["limits"]["cpu"], "2");
    assert_eq!(with("{").unwrap_err().name, "PROXY_TEMPLATE");
    assert_eq!(
        Options::from_env(|_| None).unwrap().template,
        Template::default()
    );
}
