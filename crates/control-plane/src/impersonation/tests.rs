use serde_json::json;

use tulle_xds::server::Caller;

use super::{Refusal, Rules};
use crate::pods::Pods;

const DOMAIN: &str = "cluster.local";

fn add(pods: &Pods, namespace: &str, name: &str, account: &str, node: &str, phase: &str) {
    let pod = json!({
        "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{name}") },
        "spec": { "serviceAccountName": account, "nodeName": node, "containers": [] },
        "status": { "phase": phase },
    });
    pods.upsert(&serde_json::from_value(pod).unwrap());
}

fn rules() -> Rules {
    let pods = Pods::new();
    add(
        &pods,
        "istio-system",
        "ztunnel-1",
        "ztunnel",
        "one",
        "Running",
    );
    add(
        &pods,
        "istio-system",
        "ztunnel-2",
        "ztunnel",
        "two",
        "Running",
    );
    add(&pods, "istio-system", "other", "other", "one", "Running");
    add(&pods, "default", "sleep", "sleep", "one", "Running");
    add(&pods, "default", "details", "details", "two", "Running");
    add(&pods, "default", "job", "job", "one", "Failed");
    Rules {
        pods,
        trusted: vec![("istio-system".to_owned(), "ztunnel".to_owned())],
    }
}

fn node_proxy() -> Caller {
    Caller {
        namespace: "istio-system".to_owned(),
        service_account: "ztunnel".to_owned(),
        pod_name: Some("ztunnel-1".to_owned()),
        pod_uid: Some("uid-ztunnel-1".to_owned()),
        node: Some("one".to_owned()),
        gateway: None,
    }
}

async fn ask(rules: &Rules, caller: &Caller, wanted: &str) -> Result<String, Refusal> {
    rules
        .decide(caller, Some(wanted), DOMAIN)
        .await
        .map(|identity| identity.to_string())
}

#[tokio::test]
async fn a_node_proxy_gets_what_runs_on_its_node_and_nothing_else() {
    let rules = rules();
    let sleep = "spiffe://cluster.local/ns/default/sa/sleep";
    assert_eq!(ask(&rules, &node_proxy(), sleep).await.unwrap(), sleep);
    let own = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";
    assert_eq!(ask(&rules, &node_proxy(), own).await.unwrap(), own);
    for elsewhere in [
        "ns/default/sa/details",
        "ns/default/sa/job",
        "ns/default/sa/nobody",
    ] {
        let wanted = format!("spiffe://cluster.local/{elsewhere}");
        let answer = ask(&rules, &node_proxy(), &wanted).await;
        assert!(
            matches!(answer, Err(Refusal::NotOnNode(..))),
            "{elsewhere}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn identities_of_other_domains_and_odd_spellings_are_refused() {
    let rules = rules();
    for wanted in [
        "spiffe://other.domain/ns/default/sa/sleep",
        "cluster.local/ns/default/sa/sleep",
        "spiffe://cluster.local/ns/default/sa/sleep/",
        "spiffe://cluster.local/ns/default/sa/../sa/sleep",
        "spiffe://cluster.local/ns/default/sa/sleep%2f",
        "",
    ] {
        let refusal = ask(&rules, &node_proxy(), wanted).await.unwrap_err();
        assert_eq!(refusal.label(), "identity", "{wanted}: {refusal}");
    }
}

#[tokio::test]
async fn only_a_node_proxy_that_exists_as_it_says_may_ask_for_others() {
    let rules = rules();
    let change = |change: fn(&mut Caller)| {
        let mut caller = node_proxy();
        change(&mut caller);
        caller
    };
    for (caller, label) in [
        (
            change(|c| c.service_account = "other".to_owned()),
            "not_trusted",
        ),
        (
            change(|c| c.namespace = "default".to_owned()),
            "not_trusted",
        ),
        (change(|c| c.pod_uid = None), "caller_pod"),
        (
            change(|c| c.pod_uid = Some("another uid".to_owned())),
            "caller_pod",
        ),
        (
            change(|c| c.pod_name = Some("ztunnel-9".to_owned())),
            "caller_pod",
        ),
        (change(|c| c.node = Some("two".to_owned())), "caller_pod"),
        // A pod of another account, named in a forged token of the right one.
        (
            change(|c| {
                c.pod_name = Some("other".to_owned());
                c.pod_uid = Some("uid-other".to_owned());
            }),
            "caller_pod",
        ),
    ] {
        let wanted = "spiffe://cluster.local/ns/default/sa/sleep";
        let refusal = ask(&rules, &caller, wanted).await.unwrap_err();
        assert_eq!(refusal.label(), label, "{caller:?}: {refusal}");
    }
}

#[tokio::test]
async fn without_a_wish_the_caller_gets_its_own_name() {
    let caller = Caller {
        namespace: "default".to_owned(),
        service_account: "sleep".to_owned(),
        ..Caller::default()
    };
    let identity = rules().decide(&caller, None, DOMAIN).await.unwrap();
    assert_eq!(
        identity.to_string(),
        "spiffe://cluster.local/ns/default/sa/sleep"
    );
}

#[tokio::test]
async fn a_pod_newer_than_the_watch_is_waited_for() {
    let rules = rules();
    let late = async {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        add(&rules.pods, "default", "new", "new", "one", "Pending");
    };
    let proxy = node_proxy();
    let asked = ask(&rules, &proxy, "spiffe://cluster.local/ns/default/sa/new");
    let (answer, ()) = tokio::join!(asked, late);
    assert!(answer.is_ok(), "{answer:?}");
}
