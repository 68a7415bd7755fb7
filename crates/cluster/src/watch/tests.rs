use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;
use tokio::time::timeout;

use super::{Change, Selection, served_version, watch, watch_kind};
use crate::fake::{Answer, Fake, config_map, event, page, refusal, status};

/// "+name=datum", "-namespace/name" or "synced", as long as they come without delay.
async fn changes(fake: &Fake, selection: Selection, wanted: usize) -> Vec<String> {
    let api: Api<ConfigMap> = Api::all(fake.client());
    let mut stream = watch(api, selection);
    let mut seen = Vec::new();
    while seen.len() < wanted {
        let next = timeout(Duration::from_secs(30), stream.next()).await;
        let Ok(Some(change)) = next else { break };
        seen.push(match change {
            Change::Upsert(object) => {
                assert_eq!(
                    object.metadata.managed_fields,
                    Some(vec![]),
                    "kept managedFields"
                );
                let data = object.data.unwrap_or_default();
                format!("+{}={}", object.metadata.name.unwrap(), data["key"])
            }
            Change::Remove(key) => format!("-{key}"),
            Change::Synced => "synced".to_owned(),
        });
    }
    seen
}

#[tokio::test]
async fn pages_are_joined_and_synced_comes_after_the_last() {
    let fake = Fake::new(vec![
        page(5, Some("more"), vec![config_map("a", 1, "1")]),
        page(5, None, vec![config_map("b", 2, "2")]),
    ]);
    assert_eq!(
        changes(&fake, Selection::default(), 3).await,
        ["+a=1", "+b=2", "synced"]
    );
    let requests = fake.requests();
    assert!(requests[0].contains("limit=250"), "{requests:?}");
    assert!(requests[1].contains("continue=more"), "{requests:?}");
}

#[tokio::test]
async fn what_vanished_while_the_watch_was_lost_is_removed() {
    let fake = Fake::new(vec![
        page(
            5,
            None,
            vec![config_map("a", 1, "1"), config_map("b", 2, "2")],
        ),
        Answer::Events(vec![
            event("MODIFIED", config_map("b", 6, "3")),
            event("ERROR", status(410, "Expired", "too old resource version")),
        ]),
        page(
            9,
            None,
            vec![config_map("b", 6, "3"), config_map("c", 8, "4")],
        ),
        Answer::Events(vec![event("DELETED", config_map("c", 10, "4"))]),
    ]);
    let seen = changes(&fake, Selection::default(), 8).await;
    let wanted = [
        "+a=1",
        "+b=2",
        "synced",
        "+b=3",
        "+b=3",
        "+c=4",
        "-default/a",
        "-default/c",
    ];
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn a_watch_that_ends_is_resumed_where_it_ended() {
    let fake = Fake::new(vec![
        page(5, None, vec![]),
        Answer::Events(vec![event("ADDED", config_map("a", 7, "1"))]),
        Answer::Events(vec![event("MODIFIED", config_map("a", 8, "2"))]),
    ]);
    let seen = changes(&fake, Selection::fields("metadata.name=a"), 3).await;
    assert_eq!(seen, ["synced", "+a=1", "+a=2"]);
    let requests = fake.requests();
    assert!(requests[2].contains("resourceVersion=7"), "{requests:?}");
    assert!(
        requests
            .iter()
            .all(|r| r.contains("fieldSelector=metadata.name%3Da"))
    );
}

#[tokio::test]
async fn an_absent_kind_is_an_empty_set_until_it_appears() {
    let absent = || refusal(404, "NotFound", "no such definition");
    let there = json!({ "metadata": { "name": "things.example.com" } });
    let fake = Fake::new(vec![
        absent(),
        absent(),
        Answer::Json(200, there.clone()),
        // The definition is there, its objects are not yet.
        refusal(404, "NotFound", "not yet"),
        Answer::Json(200, there),
        page(5, None, vec![config_map("a", 1, "1")]),
    ]);
    let kind = GroupVersionKind::gvk("example.com", "v1", "Thing");
    let resource = ApiResource::from_gvk_with_plural(&kind, "things");
    let api: Api<DynamicObject> = Api::all_with(fake.client(), &resource);
    let mut stream = watch(api, Selection::optional());
    let within = Duration::from_secs(30);
    let first = timeout(within, stream.next()).await.unwrap().unwrap();
    assert!(matches!(first, Change::Synced), "{first:?}");
    assert_eq!(fake.requests().len(), 1);
    let second = timeout(within, stream.next()).await.unwrap().unwrap();
    assert!(matches!(second, Change::Upsert(_)), "{second:?}");
    let asked = fake.requests();
    assert!(
        asked[0].contains("/customresourcedefinitions/things.example.com"),
        "{asked:?}"
    );
    assert!(
        asked[5].contains("/apis/example.com/v1/things"),
        "{asked:?}"
    );
}

/// A definition that is served in these versions.
fn definition(versions: &[(&str, bool)]) -> Answer {
    let versions: Vec<_> = versions
        .iter()
        .map(|(name, served)| json!({ "name": name, "served": served, "storage": *name == "v1" }))
        .collect();
    Answer::Json(
        200,
        json!({
            "metadata": { "name": "things.example.com" },
            "spec": {
                "group": "example.com", "scope": "Namespaced", "versions": versions,
                "names": { "kind": "Thing", "plural": "things" },
            },
        }),
    )
}

fn things() -> ApiResource {
    let kind = GroupVersionKind::gvk("example.com", "v1", "Thing");
    ApiResource::from_gvk_with_plural(&kind, "things")
}

#[tokio::test]
async fn the_best_version_that_is_served_is_read_and_a_change_of_versions_is_noticed() {
    let versions = &["v1", "v1beta1", "v1alpha1"];
    let fake = Fake::new(vec![
        definition(&[("v1alpha1", true), ("v1beta1", true), ("v1", false)]),
        page(5, None, vec![config_map("a", 1, "1")]),
        // The definition was replaced by one without this version.
        refusal(404, "NotFound", "gone"),
        definition(&[("v1", true)]),
        page(6, None, vec![config_map("b", 1, "1")]),
    ]);
    let mut stream = watch_kind(fake.client(), &things(), versions);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let next = timeout(Duration::from_secs(30), stream.next()).await;
        seen.push(match next.unwrap().unwrap() {
            Change::Upsert(object) => format!("+{}", object.metadata.name.unwrap()),
            Change::Remove(key) => format!("-{key}"),
            Change::Synced => "synced".to_owned(),
        });
    }
    assert_eq!(seen, ["+a", "synced", "-default/a", "+b"]);
    let asked = fake.requests();
    assert!(
        asked[1].contains("/apis/example.com/v1beta1/things"),
        "{asked:?}"
    );
    assert!(
        asked[4].contains("/apis/example.com/v1/things"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_kind_in_no_version_that_we_know_is_not_served() {
    let fake = Fake::new(vec![
        definition(&[("v2", true)]),
        refusal(404, "NotFound", "no such definition"),
        definition(&[("v1", true)]),
    ]);
    let client = fake.client();
    let things = things();
    let ask = || served_version(&client, &things, &["v1", "v1beta1"]);
    assert_eq!(ask().await.unwrap(), None);
    assert_eq!(ask().await.unwrap(), None);
    assert_eq!(ask().await.unwrap(), Some("v1"));
}

#[tokio::test]
async fn a_kind_that_disappears_takes_its_objects_along() {
    let fake = Fake::new(vec![
        page(5, None, vec![config_map("a", 1, "1")]),
        refusal(404, "NotFound", "gone"),
    ]);
    let seen = changes(&fake, Selection::optional(), 3).await;
    assert_eq!(seen, ["+a=1", "synced", "-default/a"]);
}

#[tokio::test]
async fn a_required_kind_is_never_taken_for_empty() {
    let fake = Fake::new(vec![
        refusal(404, "NotFound", "not there"),
        refusal(500, "InternalError", "etcd is away"),
        refusal(403, "Forbidden", "not yet"),
        page(5, None, vec![]),
    ]);
    assert_eq!(changes(&fake, Selection::default(), 1).await, ["synced"]);
    assert_eq!(fake.requests().len(), 4);
}

#[tokio::test]
async fn a_version_that_the_server_does_not_know_leads_to_a_new_list() {
    let mut script = vec![page(900, None, vec![config_map("a", 1, "1")])];
    // After a restore of etcd the old version lies in the future.
    script.extend((0..5).map(|_| refusal(504, "Timeout", "Too large resource version: 900")));
    script.push(page(3, None, vec![]));
    let fake = Fake::new(script);
    let seen = changes(&fake, Selection::default(), 3).await;
    assert_eq!(seen, ["+a=1", "synced", "-default/a"]);
}
