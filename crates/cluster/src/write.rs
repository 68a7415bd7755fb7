//! Reading and writing single objects, with deadlines and typed errors.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::limits::{LIST_PAGE, REQUEST_DEADLINE};

/// Field manager of what the mesh's own parts apply.
pub use tulle_api::contract::FIELD_MANAGER;

/// What can be read through these functions.
pub trait Object: Resource + Clone + DeserializeOwned + Debug {}
impl<K: Resource + Clone + DeserializeOwned + Debug> Object for K {}

/// `None` when the object (or its kind) does not exist.
pub async fn get<K: Object>(api: &Api<K>, name: &str) -> Result<Option<K>> {
    bounded(doing("read", api, name), api.get_opt(name)).await
}

/// All objects that the selectors name, read page by page.
pub async fn list<K: Object>(api: &Api<K>, labels: Option<&str>) -> Result<Vec<K>> {
    let mut parameters = ListParams::default().limit(LIST_PAGE);
    if let Some(labels) = labels {
        parameters = parameters.labels(labels);
    }
    let mut all = Vec::new();
    loop {
        let page = bounded(doing("list", api, ""), api.list(&parameters)).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(all),
        }
    }
}

/// Creates `object`; [`Error::Conflict`] when it exists.
pub async fn create<K: Object + Serialize>(api: &Api<K>, object: &K) -> Result<K> {
    let name = object.meta().name.clone().unwrap_or_default();
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    };
    bounded(doing("create", api, &name), api.create(&parameters, object)).await
}

/// Server-side apply as `manager`, taking fields over from other managers.
pub async fn apply<K: Object>(
    api: &Api<K>,
    name: &str,
    manager: &str,
    object: &(impl Serialize + Debug),
) -> Result<K> {
    let parameters = PatchParams::apply(manager).force();
    bounded(
        doing("apply", api, name),
        api.patch(name, &parameters, &Patch::Apply(object)),
    )
    .await
}

/// Server-side apply of the status subresource as `manager`.
pub async fn apply_status<K: Object>(
    api: &Api<K>,
    name: &str,
    manager: &str,
    object: &(impl Serialize + Debug),
) -> Result<K> {
    let parameters = PatchParams::apply(manager).force();
    let patch = Patch::Apply(object);
    let doing = doing("apply the status of", api, name);
    bounded(doing, api.patch_status(name, &parameters, &patch)).await
}

/// JSON merge patch of the object itself.
pub async fn merge_patch<K: Object>(
    api: &Api<K>,
    name: &str,
    patch: &(impl Serialize + Debug),
) -> Result<K> {
    let parameters = PatchParams::default();
    bounded(
        doing("patch", api, name),
        api.patch(name, &parameters, &Patch::Merge(patch)),
    )
    .await
}

/// JSON merge patch of the status subresource (for pods it reaches annotations too).
pub async fn merge_status<K: Object>(
    api: &Api<K>,
    name: &str,
    patch: &(impl Serialize + Debug),
) -> Result<K> {
    let parameters = PatchParams::default();
    let patch = Patch::Merge(patch);
    let doing = doing("patch the status of", api, name);
    bounded(doing, api.patch_status(name, &parameters, &patch)).await
}

/// Asks for the deletion; `false` when the object did not exist.
pub async fn delete<K: Object>(api: &Api<K>, name: &str) -> Result<bool> {
    let parameters = DeleteParams::background();
    match bounded(doing("delete", api, name), api.delete(name, &parameters)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs one request under the common deadline and sorts its error.
pub(crate) async fn bounded<T>(
    doing: String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T> {
    within(REQUEST_DEADLINE, doing, request).await
}

/// [`bounded`] with a deadline of its own.
pub(crate) async fn within<T>(
    deadline: Duration,
    doing: String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T> {
    match timeout(deadline, request).await {
        Ok(answer) => answer.map_err(|error| Error::from_kube(doing, error)),
        Err(_) => {
            let why = format!("no answer within {deadline:?}");
            Err(Error::Unreachable {
                server: String::new(),
                doing,
                why,
            })
        }
    }
}

/// "read /api/v1/namespaces/a/configmaps/b": the path names kind, namespace and object at once.
pub(crate) fn doing<K: Resource>(verb: &str, api: &Api<K>, name: &str) -> String {
    let path = api.resource_url();
    if name.is_empty() {
        format!("{verb} {path}")
    } else {
        format!("{verb} {path}/{name}")
    }
}
