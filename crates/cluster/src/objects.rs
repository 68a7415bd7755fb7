//! Objects of any kind, as manifests hold them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use serde_json::Value;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::limits::{KNOWN_KINDS, REQUEST_DEADLINE};
use crate::{wait, write};

/// Reads, applies and deletes manifests of kinds that are known only by name; asks the server
/// once per kind how it serves it.
pub struct Objects {
    client: Client,
    manager: String,
    kinds: Mutex<HashMap<GroupVersionKind, (ApiResource, Scope)>>,
}

impl Objects {
    /// `manager` is the field manager of everything applied through this value.
    pub fn new(client: Client, manager: &str) -> Self {
        Self {
            client,
            manager: manager.to_owned(),
            kinds: Mutex::default(),
        }
    }

    /// The client underneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Server-side apply of one manifest.
    pub async fn apply(&self, manifest: &Value) -> Result<DynamicObject> {
        let (api, name) = self.locate(manifest).await?;
        write::apply(&api, &name, &self.manager, manifest).await
    }

    /// The object that `manifest` names (kind, namespace, name), if it exists. A kind that the
    /// cluster does not know counts as absent.
    pub async fn get(&self, manifest: &Value) -> Result<Option<DynamicObject>> {
        match self.locate(manifest).await {
            Ok((api, name)) => write::get(&api, &name).await,
            Err(Error::UnknownKind { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for the deletion; `false` when there was nothing to delete.
    pub async fn delete(&self, manifest: &Value) -> Result<bool> {
        match self.locate(manifest).await {
            Ok((api, name)) => write::delete(&api, &name).await,
            Err(Error::UnknownKind { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes and waits until the object is gone; `false` when there was nothing to delete.
    pub async fn delete_and_wait(&self, manifest: &Value, deadline: Duration) -> Result<bool> {
        match self.locate(manifest).await {
            Ok((api, name)) => wait::delete_and_wait(&api, &name, deadline).await,
            Err(Error::UnknownKind { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The API of a kind; `namespace` is ignored for cluster-wide kinds, `None` means all
    /// namespaces.
    pub async fn api(
        &self,
        kind: &GroupVersionKind,
        namespace: Option<&str>,
    ) -> Result<Api<DynamicObject>> {
        let (resource, scope) = self.kind(kind).await?;
        Ok(match (scope, namespace) {
            (Scope::Namespaced, Some(namespace)) => {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            _ => Api::all_with(self.client.clone(), &resource),
        })
    }

    async fn locate(&self, manifest: &Value) -> Result<(Api<DynamicObject>, String)> {
        let malformed = |why: &str| Error::Malformed {
            doing: "read a manifest".to_owned(),
            why: why.to_owned(),
        };
        let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
        let api_version = text("/apiVersion").ok_or_else(|| malformed("it has no apiVersion"))?;
        let kind = text("/kind").ok_or_else(|| malformed("it has no kind"))?;
        let name = text("/metadata/name").ok_or_else(|| malformed("it has no metadata.name"))?;
        let types = TypeMeta {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        };
        let kind = GroupVersionKind::try_from(types).map_err(|why| malformed(&why.to_string()))?;
        let namespace = text("/metadata/namespace").unwrap_or("default");
        Ok((self.api(&kind, Some(namespace)).await?, name.to_owned()))
    }

    async fn kind(&self, kind: &GroupVersionKind) -> Result<(ApiResource, Scope)> {
        if let Some(known) = self.lock().get(kind) {
            return Ok(known.clone());
        }
        let unknown = || Error::UnknownKind {
            api_version: kind.api_version(),
            kind: kind.kind.clone(),
        };
        let doing = || format!("ask how {} {} is served", kind.api_version(), kind.kind);
        let found = match timeout(REQUEST_DEADLINE, pinned_kind(&self.client, kind)).await {
            Ok(Ok((resource, capabilities))) => (resource, capabilities.scope),
            Ok(Err(kube::Error::Discovery(_))) => return Err(unknown()),
            Ok(Err(error)) => {
                let error = Error::from_kube(doing(), error);
                return Err(if error.is_not_found() {
                    unknown()
                } else {
                    error
                });
            }
            Err(_) => {
                let why = "no answer in time".to_owned();
                return Err(Error::Unreachable {
                    server: String::new(),
                    doing: doing(),
                    why,
                });
            }
        };
        let mut kinds = self.lock();
        if kinds.len() < KNOWN_KINDS {
            kinds.insert(kind.clone(), found.clone());
        }
        Ok(found)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<GroupVersionKind, (ApiResource, Scope)>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
