//! Webhooks on port 15017, behind port 443 of the Service: served with the certificate of the discovery port, and the
//! API server is told which roots to expect.

use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};
use tulle_api::k8s_openapi::ByteString;
use tulle_cluster::kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use tulle_cluster::{Api, Change, Client, Selection};
use tulle_daemon::admin::{self, Page, Pages};
use tulle_identity::grpc::ServerTls;

use crate::deployer::{Deployments, Template};
use crate::injection;
use crate::limits::{WEBHOOK_CONNECTIONS, WEBHOOK_LIFE, WEBHOOK_RETRY};

/// The one webhook configuration, by Istio's name.
const CONFIGURATION: &str = "istio-sidecar-injector";

/// Serves for ever.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: ServerTls,
    template: Arc<Template>,
    deployments: Deployments,
) {
    let pages = pages(template, deployments);
    let places = Arc::new(Semaphore::new(WEBHOOK_CONNECTIONS));
    loop {
        // Never closed, so never an error.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((tcp, from)) => {
                let (tls, pages) = (tls.clone(), pages.clone());
                tokio::spawn(async move {
                    match tls.accept_webhook(tcp).await {
                        Ok((stream, http2)) => {
                            // A connection that is never closed must not hold its place for ever.
                            let served = admin::serve_secured(stream, http2, pages);
                            let _ = tokio::time::timeout(WEBHOOK_LIFE, served).await;
                        }
                        Err(error) => debug!(%from, %error, "webhook connection not secured"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a webhook connection; trying again");
                sleep(WEBHOOK_RETRY).await;
            }
        }
    }
}

fn pages(template: Arc<Template>, deployments: Deployments) -> Pages {
    // Istio's path may be followed by variables (`/inject/cluster/…/net/…`), which say nothing here.
    Pages::new().on("/inject*", move |visit| {
        let answer = injection::review(&visit.body, &template, &deployments.plane());
        let page = match answer {
            Ok(answer) => Page::json(&answer),
            Err(why) => Page::text(400, format!("{why}\n")),
        };
        async move { page }
    })
}

/// Keeps the roots in the webhook configuration equal to the mesh's, for ever.
pub(crate) async fn keep_roots(client: Client, mut roots: watch::Receiver<Arc<str>>) {
    let kind = GroupVersionKind::gvk(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
    );
    let resource = ApiResource::from_gvk_with_plural(&kind, "mutatingwebhookconfigurations");
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let selection = Selection::fields(&format!("metadata.name={CONFIGURATION}"));
    let mut changes = tulle_cluster::watch(api.clone(), selection);
    let mut now: Option<DynamicObject> = None;
    let mut failed = false;
    loop {
        tokio::select! {
            Some(change) = changes.next() => match change {
                Change::Upsert(object) => now = Some(object),
                Change::Remove(_) => now = None,
                Change::Synced => {}
            },
            Ok(()) = roots.changed() => {}
            () = sleep(WEBHOOK_RETRY), if failed => {}
        }
        failed = false;
        let pem = roots.borrow_and_update().clone();
        let patch = now.as_ref().and_then(|now| with_roots(now, &pem));
        let Some(patch) = patch else {
            continue;
        };
        match tulle_cluster::merge_patch(&api, CONFIGURATION, &patch).await {
            Ok(_) => info!("told the API server the roots of the webhooks"),
            // Changed in between, or deleted: the watch says so.
            Err(error) if error.is_conflict() || error.is_not_found() => {}
            Err(error) => {
                warn!("roots of the webhooks: {error}; trying again");
                failed = true;
            }
        }
    }
}

/// A patch that sets the roots of every webhook; `None` if they are right.
fn with_roots(now: &DynamicObject, pem: &str) -> Option<Value> {
    let bundle = serde_json::to_value(ByteString(pem.as_bytes().to_vec())).ok()?;
    let mut webhooks = now.data.get("webhooks")?.as_array()?.clone();
    let mut different = false;
    for webhook in &mut webhooks {
        let place = webhook.get_mut("clientConfig")?.as_object_mut()?;
        if place.get("caBundle") != Some(&bundle) {
            place.insert("caBundle".to_owned(), bundle.clone());
            different = true;
        }
    }
    different.then(|| {
        json!({
            "metadata": { "resourceVersion": now.metadata.resource_version },
            "webhooks": webhooks,
        })
    })
}

#[cfg(test)]
mod tests;
