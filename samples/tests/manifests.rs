//! Our manifests: real objects, with the names of Istio's samples, and images that we have.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use serde_json::Value;
use tulle_samples::{Content, IMAGES, MANIFESTS, image_of};

fn documents() -> Vec<Value> {
    MANIFESTS
        .iter()
        .flat_map(|manifest| serde_saphyr::from_multiple::<Value>(manifest.yaml).unwrap())
        .collect()
}

#[test]
fn every_object_is_typed_and_every_image_is_ours() {
    let mut accounts = BTreeSet::new();
    let mut deployments = Vec::new();
    let mut names = BTreeSet::new();
    for document in documents() {
        let name = format!("{}/{}", document["kind"], document["metadata"]["name"]);
        assert!(names.insert(name.clone()), "{name} is there twice");
        match document["kind"].as_str().unwrap() {
            "Deployment" => {
                deployments.push(serde_json::from_value::<Deployment>(document).unwrap());
            }
            "Service" => {
                let service: Service = serde_json::from_value(document).unwrap();
                assert_eq!(
                    service.spec.unwrap().ports.unwrap()[0].name.as_deref(),
                    Some("http")
                );
            }
            "ServiceAccount" => {
                let account: ServiceAccount = serde_json::from_value(document).unwrap();
                accounts.insert(account.metadata.name.unwrap());
            }
            other => panic!("{other}"),
        }
    }
    let mut seen = Vec::new();
    for deployment in deployments {
        let name = deployment.metadata.name.unwrap();
        let spec = deployment.spec.unwrap().template.spec.unwrap();
        let container = &spec.containers[0];
        let reference = container.image.as_deref().unwrap();
        let image = image_of(reference).unwrap_or_else(|| panic!("no image {reference}"));
        let port = container
            .ports
            .as_ref()
            .map(|ports| ports[0].container_port);
        assert_eq!(port, image.port.map(i32::from), "{name}");
        assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
        assert_eq!(
            image.content == Content::Curl,
            container.command.is_some(),
            "{name}"
        );
        if let Some(account) = &spec.service_account_name {
            assert!(accounts.contains(account), "{account}");
        }
        seen.push(name);
    }
    seen.sort();
    let expected = [
        "curl",
        "details-v1",
        "echo",
        "ext-authz",
        "helloworld-v1",
        "helloworld-v2",
        "httpbin",
        "issuer",
        "notsleep",
        "productpage-v1",
        "ratings-v1",
        "reviews-v1",
        "reviews-v2",
        "reviews-v3",
        "sleep",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn image_names_are_complete_and_unique() {
    let mut all = BTreeSet::new();
    for reference in IMAGES.iter().flat_map(|image| image.references) {
        assert!(all.insert(reference), "{reference} is there twice");
        let (repository, tag) = reference.rsplit_once(':').unwrap();
        assert!(
            repository.split('/').count() >= 3 && !tag.is_empty(),
            "{reference}"
        );
    }
}
