use std::cell::Cell;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::{Progress, delete_and_wait, wait_for, wait_until};
use crate::Error;
use crate::fake::{Answer, Fake, config_map, event, page, refusal, status};

const MINUTE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(900);

#[tokio::test]
async fn a_wait_that_fails_tells_what_it_saw_last() {
    let looks = Cell::new(0);
    let error = wait_until::<(), _>("istiod becoming ready", SOON, || async {
        looks.set(looks.get() + 1);
        Ok(Progress::Waiting(format!("{} of 300", looks.get())))
    })
    .await
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("istiod becoming ready did not happen within 900ms: "),
        "{text}"
    );
    assert!(text.ends_with("of 300") && looks.get() > 2, "{text}");
}

#[tokio::test]
async fn trouble_is_waited_out_and_refusals_are_not() {
    let looks = Cell::new(0);
    let answer = wait_until("x", MINUTE, || async {
        looks.set(looks.get() + 1);
        match looks.get() {
            1 => Err(Error::Refused {
                doing: "x".into(),
                code: 503,
                why: "etcd".into(),
            }),
            _ => Ok(Progress::Done(7)),
        }
    });
    assert_eq!(answer.await.unwrap(), 7);
    let refused = wait_until::<(), _>("x", MINUTE, || async {
        Err(Error::Forbidden {
            doing: "x".into(),
            why: "no".into(),
        })
    });
    assert!(matches!(
        refused.await.unwrap_err(),
        Error::Forbidden { .. }
    ));
}

#[tokio::test]
async fn a_probe_that_hangs_does_not_outlast_the_deadline() {
    let wait = wait_until::<(), _>("x", SOON, std::future::pending);
    assert!(matches!(wait.await.unwrap_err(), Error::Deadline { .. }));
}

#[tokio::test]
async fn a_watched_object_is_seen_when_it_changes() {
    let fake = Fake::new(vec![
        page(5, None, vec![]),
        Answer::Events(vec![
            event("ADDED", config_map("a", 6, "no")),
            event("MODIFIED", config_map("a", 7, "yes")),
        ]),
    ]);
    let api: Api<ConfigMap> = Api::namespaced(fake.client(), "default");
    let mut absent = 0;
    let value = wait_for(api, "a", "a", MINUTE, |object| match object {
        Some(object) if object.data.as_ref().unwrap()["key"] == "yes" => Progress::Done("there"),
        Some(_) => Progress::Waiting("no".to_owned()),
        None => {
            absent += 1;
            Progress::Waiting("absent".to_owned())
        }
    });
    assert_eq!(value.await.unwrap(), "there");
    assert_eq!(absent, 1);
}

#[tokio::test]
async fn a_deletion_that_hangs_names_the_finalizers() {
    let success = || Answer::Json(200, status(200, "", ""));
    let mut held = config_map("a", 1, "");
    held["metadata"]["finalizers"] = serde_json::json!(["example.com/keep"]);
    let mut script = vec![success()];
    script.extend((0..40).map(|_| Answer::Json(200, held.clone())));
    let fake = Fake::new(script);
    let api: Api<ConfigMap> = Api::namespaced(fake.client(), "default");
    let error = delete_and_wait(&api, "a", SOON).await.unwrap_err();
    assert!(error.to_string().contains("example.com/keep"), "{error}");

    let gone = || refusal(404, "NotFound", "not found");
    let fake = Fake::new(vec![success(), Answer::Json(200, held), gone(), gone()]);
    let api: Api<ConfigMap> = Api::namespaced(fake.client(), "default");
    assert!(delete_and_wait(&api, "a", MINUTE).await.unwrap());
    assert!(!delete_and_wait(&api, "a", MINUTE).await.unwrap());
}
