//! Pods in real namespaces, with a scripted proxy and a scripted API server. Needs root.

mod world;

use super::*;

use serde_json::json;
use tokio::time::timeout;
use tulle_api::contract::ANNOTATION_UNENROLL;
use tulle_linux::redirect;

use world::*;

#[tokio::test]
async fn a_running_pod_joins_and_leaves_in_order() {
    let mut world = World::at_work().await;
    world.pod_is(json!({}));
    assert!(world.is_quiet().await, "an unlabelled pod is left alone");
    world.ambient();
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    assert!(world.probes().contains("10.1.2.3"));
    world.pod_is(annotated());
    let begun = Instant::now();
    world.namespace_is("shop", json!({ "name": "shop" }));
    assert_eq!(
        world.next().await,
        Annotated {
            on: false,
            captured: false
        }
    );
    assert!(
        redirect::installed(&world.pod),
        "connections go on while it leaves"
    );
    assert_eq!(world.next().await, Deleted { captured: false });
    assert!(
        begun.elapsed() >= LEAVING_GRACE,
        "HBONE is served until the peers know"
    );
    timeout(PATIENCE, async {
        while redirect::installed(&world.pod) || world.probes().contains("10.1.2.3") {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_pod_that_comes_back_while_leaving_is_captured_at_once() {
    let mut world = World::at_work().await;
    world.ambient();
    world.pod_is(json!({}));
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    world.namespace_is("shop", json!({ "name": "shop" }));
    assert_eq!(
        world.next().await,
        Annotated {
            on: false,
            captured: false
        }
    );
    world.ambient();
    assert_eq!(world.next().await, Added { with_rules: true });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    assert!(world.is_quiet().await);
}

#[tokio::test]
async fn a_refused_pod_is_not_captured_and_tried_again() {
    let mut world = World::at_work().await;
    world.script.refusals.lock().unwrap().push("address in use");
    world.ambient();
    world.pod_is(json!({}));
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(world.next().await, Deleted { captured: false });
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
}

#[tokio::test]
async fn the_plugin_enrols_before_it_is_answered() {
    let mut world = World::at_work().await;
    world.ambient();
    world.server_knows(pod(json!({ "status": { "podIP": null } })), true);
    let answer = world.plugin(&world.plugin_request("ADD")).await;
    assert!(answer.enrolled && answer.error.is_none(), "{answer:?}");
    assert!(redirect::intact(&world.pod, &wanted()));
    assert!(world.probes().contains("10.1.2.3") && world.probes().contains("fd00::3"));
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    // The watch comes after it, first without, then with the address: nothing more is to do.
    world.pod_is(json!({ "status": { "podIP": null } }));
    world.pod_is(annotated());
    assert!(world.is_quiet().await);
    // The sandbox goes.
    assert!(
        world
            .plugin(&world.plugin_request("DEL"))
            .await
            .error
            .is_none()
    );
    assert_eq!(world.next().await, Deleted { captured: true });
}

#[tokio::test]
async fn the_plugin_hears_why_a_pod_may_not_start() {
    let mut world = World::at_work().await;
    world.server_knows(pod(json!({ "metadata": { "uid": "another" } })), true);
    let stale = world
        .plugin(&world.plugin_request("ADD"))
        .await
        .error
        .unwrap();
    assert!(stale.contains("UID another"), "{stale}");
    world.server_knows(pod(json!({})), true);
    world.script.refusals.lock().unwrap().push("address in use");
    let refused = world
        .plugin(&world.plugin_request("ADD"))
        .await
        .error
        .unwrap();
    assert!(refused.contains("address in use"), "{refused}");
    assert!(!redirect::installed(&world.pod));
    assert_eq!(world.next().await, Added { with_rules: false });
    let gone = world
        .plugin_request("ADD")
        .replace(&path_of(&world.pod).display().to_string(), "/nonexistent");
    let missing = world.plugin(&gone).await.error.unwrap();
    assert!(
        missing.contains("/nonexistent") && missing.contains("cniNetnsDir"),
        "{missing}"
    );
    for rubbish in [
        "{}",
        "not json",
        r#"{"command":"FLY","podName":"a","podNamespace":"b","sandboxId":"c"}"#,
    ] {
        assert!(world.plugin(rubbish).await.error.is_some(), "{rubbish}");
    }
}

#[tokio::test]
async fn the_plugin_passes_pods_outside_the_mesh() {
    let mut world = World::at_work().await;
    world.server_knows(pod(json!({})), false);
    let answer = world.plugin(&world.plugin_request("ADD")).await;
    assert!(!answer.enrolled && answer.error.is_none());
    assert!(!redirect::installed(&world.pod) && world.is_quiet().await);
}

#[tokio::test]
async fn after_a_restart_enrolled_pods_are_known_before_the_first_proxy() {
    let mut world = World::new();
    redirect::install(&world.pod, &wanted()).unwrap();
    world.ambient();
    world.pod_is(annotated());
    world.agent.recover().await.unwrap();
    assert!(world.probes().contains("10.1.2.3"));
    world.proxy().await;
    // From the snapshot; nothing else is to do.
    assert_eq!(world.next().await, Added { with_rules: true });
    assert!(world.is_quiet().await);
    assert!(
        world
            .registry
            .encode(tulle_telemetry::Format::negotiate(None))
            .contains("nodeagent_enrolled_pods 1")
    );
}

#[tokio::test]
async fn what_an_interrupted_run_left_is_removed() {
    let mut world = World::new();
    redirect::install(&world.pod, &wanted()).unwrap();
    world.namespace_is("shop", json!({ "name": "shop" }));
    world.pod_is(json!({}));
    world.agent.recover().await.unwrap();
    timeout(PATIENCE, async {
        while redirect::installed(&world.pod) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert!(world.is_quiet().await);
}

#[tokio::test]
async fn the_mesh_can_dismiss_everybody() {
    let mut world = World::at_work().await;
    world.ambient();
    world.pod_is(json!({}));
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    let dismissal =
        json!({ "name": "istio-system", "annotations": { ANNOTATION_UNENROLL: "true" } });
    world.namespace_is("istio-system", dismissal);
    assert_eq!(
        world.next().await,
        Annotated {
            on: false,
            captured: false
        }
    );
    world.server_knows(pod(json!({})), true);
    assert!(!world.plugin(&world.plugin_request("ADD")).await.enrolled);
}

#[tokio::test]
async fn flushed_rules_are_back_within_ten_seconds() {
    let mut world = World::at_work().await;
    world.ambient();
    world.pod_is(json!({}));
    assert_eq!(world.next().await, Added { with_rules: false });
    assert_eq!(
        world.next().await,
        Annotated {
            on: true,
            captured: true
        }
    );
    let repairing = tokio::spawn(crate::repair::run(world.agent.clone()));
    for ns in [&world.pod, &world.host] {
        let flush = || {
            std::process::Command::new("nft")
                .args(["flush", "ruleset"])
                .status()
        };
        assert!(ns.enter(flush).unwrap().unwrap().success());
    }
    let counted = |page: &str| {
        ["pod", "host"].iter().all(|kind| {
            page.contains(&format!(
                "nodeagent_reconcile_events_total{{type=\"{kind}\"}} 1"
            ))
        })
    };
    let page = || {
        let format = tulle_telemetry::Format::negotiate(None);
        world.registry.encode(format)
    };
    timeout(Duration::from_secs(10), async {
        while !redirect::intact(&world.pod, &wanted())
            || !world.probes().contains("10.1.2.3")
            || !counted(&page())
        {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    repairing.abort();
}

#[tokio::test]
async fn a_finished_or_deleted_pod_is_given_up() {
    for end in [json!({ "status": { "phase": "Succeeded" } }), json!({})] {
        let mut world = World::at_work().await;
        world.ambient();
        let facts = world.pod_is(json!({}));
        assert_eq!(world.next().await, Added { with_rules: false });
        assert_eq!(
            world.next().await,
            Annotated {
                on: true,
                captured: true
            }
        );
        if end == json!({}) {
            world.agent.pod_changed(Change::Remove(facts.key));
        } else {
            world.pod_is(end);
        }
        assert_eq!(world.next().await, Deleted { captured: true });
        timeout(PATIENCE, async {
            while !world.agent.all_slots().is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        assert!(!world.probes().contains("10.1.2.3"));
    }
}
