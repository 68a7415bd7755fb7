//! Watches as streams of changes.
//!
//! The library's watcher restarts by itself and may list everything anew; this layer turns that
//! into plain changes: an object that vanished while the watch was broken yields
//! [`Change::Remove`], a kind that is not installed is waited for quietly, errors are logged once
//! and retried with growing pauses. It keeps names only, no objects.

use std::collections::HashSet;
use std::fmt::Debug;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::stream::{BoxStream, Stream, StreamExt, unfold};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::{debug, info, warn};

use crate::error::{Error, chain};
use crate::key::Key;
use crate::limits::{
    ABSENT_KIND_RETRY, KIND_SETTLES, LIST_PAGE, WATCH_FAILURES_BEFORE_RELIST, WATCH_RETRY_FIRST,
    WATCH_RETRY_LONGEST, WATCH_SECONDS, WATCH_WARN_EVERY,
};

/// One change of the watched set.
#[derive(Debug, Clone)]
pub enum Change<K> {
    /// The object is new or different (or was listed again: may be equal to what is known).
    Upsert(K),
    /// The object is gone.
    Remove(Key),
    /// All objects that existed at the start have been told. Comes once per stream; for a kind
    /// that is not installed it comes as soon as that is known.
    Synced,
}

/// Which objects of a kind are watched; everything by default.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Label selector, as kubectl's `-l`.
    pub labels: Option<String>,
    /// Field selector, as kubectl's `--field-selector`.
    pub fields: Option<String>,
    /// The kind may be absent (its CRD comes later or never).
    pub optional: bool,
    /// Of an optional kind: versions that will do, the best first. Whatever the cluster serves of them is read.
    pub versions: &'static [&'static str],
}

impl Selection {
    /// Everything of a kind that may not be installed.
    pub fn optional() -> Self {
        Self {
            optional: true,
            ..Self::default()
        }
    }

    /// Everything of a kind that may not be installed, in the first of these versions that the cluster serves.
    pub fn versions(versions: &'static [&'static str]) -> Self {
        Self {
            optional: true,
            versions,
            ..Self::default()
        }
    }

    /// The objects with this label selector.
    pub fn labelled(labels: &str) -> Self {
        Self {
            labels: Some(labels.to_owned()),
            ..Self::default()
        }
    }

    /// The objects with this field selector, e.g. `spec.nodeName=a` or `metadata.name=b`.
    pub fn fields(fields: &str) -> Self {
        Self {
            fields: Some(fields.to_owned()),
            ..Self::default()
        }
    }
}

/// The stream made by [`watch`] and [`watch_kind`]; it never ends.
pub struct Watch<K>(BoxStream<'static, Change<K>>);

impl<K> Stream for Watch<K> {
    type Item = Change<K>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// Watches the objects that `api` and `selection` name. `managedFields` are gone from every
/// object. Nothing runs unless the stream is polled: back-pressure reaches the API server.
pub fn watch<K>(api: Api<K>, selection: Selection) -> Watch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Send,
{
    follow(State::new(api, selection))
}

/// Watches all objects of a kind that may be served in one of several versions, or not at all: what each object means is
/// the same, the best version that there is is read. Versions that come and go with the definition are noticed.
pub fn watch_kind(
    client: Client,
    resource: &ApiResource,
    versions: &'static [&'static str],
) -> Watch<DynamicObject> {
    let api = Api::all_with(client, resource);
    let mut state = State::new(api, Selection::versions(versions));
    let resource = resource.clone();
    state.at_version = Some(Box::new(move |client, version| {
        Api::all_with(client, &at_version(&resource, version))
    }));
    follow(state)
}

/// The same kind in another version.
fn at_version(resource: &ApiResource, version: &str) -> ApiResource {
    let kind = GroupVersionKind::gvk(&resource.group, version, &resource.kind);
    ApiResource::from_gvk_with_plural(&kind, &resource.plural)
}

/// The first of `versions` in which the cluster serves a kind; `None` when it does not.
///
/// # Errors
/// If the definition cannot be read.
pub async fn served_version(
    client: &Client,
    resource: &ApiResource,
    versions: &'static [&'static str],
) -> Result<Option<&'static str>, Error> {
    let name = format!("{}.{}", resource.plural, resource.group);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = crate::get(&definitions, &name).await?;
    Ok(definition.and_then(|definition| choose(&definition, versions)))
}

fn choose(
    definition: &CustomResourceDefinition,
    versions: &'static [&'static str],
) -> Option<&'static str> {
    let served = |version: &&&str| {
        let all = &definition.spec.versions;
        all.iter().any(|of| of.served && of.name == **version)
    };
    versions.iter().find(served).copied()
}

fn follow<K>(state: State<K>) -> Watch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Send,
{
    Watch(
        unfold(state, |mut state| async move {
            let change = state.next().await;
            Some((change, state))
        })
        .boxed(),
    )
}

struct State<K> {
    api: Api<K>,
    selection: Selection,
    /// `None` until the kind is known to be installed.
    source: Option<BoxStream<'static, watcher::Result<Event<K>>>>,
    /// Names that the consumer knows.
    known: HashSet<Key>,
    /// Names seen in the list under way, `None` outside of one.
    listing: Option<HashSet<Key>>,
    /// Removals found by a list, handed out one by one.
    vanished: Vec<Key>,
    synced: Progress,
    trouble: Trouble,
    /// Of a kind in several versions: its API in one of them.
    at_version: Option<AtVersion<K>>,
}

type AtVersion<K> = Box<dyn Fn(Client, &str) -> Api<K> + Send + Sync>;

#[derive(PartialEq, Eq, Clone, Copy)]
enum Progress {
    NotYet,
    Due,
    Told,
}

impl<K> State<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Send,
{
    fn new(api: Api<K>, selection: Selection) -> Self {
        let source = (!selection.optional).then(|| source(&api, &selection));
        let trouble = Trouble::new(api.resource_url().to_owned());
        Self {
            api,
            selection,
            source,
            known: HashSet::new(),
            listing: None,
            vanished: Vec::new(),
            synced: Progress::NotYet,
            trouble,
            at_version: None,
        }
    }

    async fn next(&mut self) -> Change<K> {
        loop {
            if let Some(key) = self.vanished.pop() {
                return Change::Remove(key);
            }
            if self.synced == Progress::Due {
                self.synced = Progress::Told;
                return Change::Synced;
            }
            let Some(source) = &mut self.source else {
                self.look_for_kind().await;
                continue;
            };
            let change = match source.next().await {
                Some(Ok(event)) => self.event(event),
                Some(Err(error)) => {
                    self.failed(error).await;
                    None
                }
                None => {
                    self.restart();
                    None
                }
            };
            if let Some(change) = change {
                return change;
            }
        }
    }

    fn event(&mut self, event: Event<K>) -> Option<Change<K>> {
        match event {
            Event::Init => {
                self.listing = Some(HashSet::new());
                None
            }
            Event::InitApply(object) => {
                let key = Key::of(&object);
                if let Some(listing) = &mut self.listing {
                    listing.insert(key.clone());
                }
                Some(self.upsert(key, object))
            }
            Event::InitDone => {
                self.trouble.over();
                let present = self.listing.take().unwrap_or_default();
                self.vanished
                    .extend(self.known.difference(&present).cloned());
                self.known = present;
                self.reached();
                None
            }
            Event::Apply(object) => {
                self.trouble.over();
                let key = Key::of(&object);
                Some(self.upsert(key, object))
            }
            Event::Delete(object) => {
                self.trouble.over();
                let key = Key::of(&object);
                self.known.remove(&key);
                Some(Change::Remove(key))
            }
        }
    }

    fn upsert(&mut self, key: Key, mut object: K) -> Change<K> {
        object.managed_fields_mut().clear();
        self.known.insert(key);
        Change::Upsert(object)
    }

    fn reached(&mut self) {
        if self.synced == Progress::NotYet {
            self.synced = Progress::Due;
        }
    }

    /// Pauses as the error deserves; the next poll tries again.
    async fn failed(&mut self, error: watcher::Error) {
        let code = code(&error);
        if code == Some(404) && self.selection.optional {
            self.absent();
            // A new definition is there a moment before its objects can be listed.
            tokio::time::sleep(KIND_SETTLES).await;
            return;
        }
        let pause = self.trouble.again(&error);
        tokio::time::sleep(pause).await;
        if code == Some(410)
            || self
                .trouble
                .failures
                .is_multiple_of(WATCH_FAILURES_BEFORE_RELIST)
        {
            self.restart();
        }
    }

    /// Starts the watch if the kind is installed, else waits a little. The definition is asked
    /// for by name: a request for objects of an unknown kind is answered by a page of text, which
    /// the client library complains about every time.
    async fn look_for_kind(&mut self) {
        let Some(name) = definition(self.api.resource_url()) else {
            return self.restart();
        };
        match self.is_installed(&name).await {
            Ok(false) => {
                if self.synced == Progress::Told && self.known.is_empty() {
                    tokio::time::sleep(ABSENT_KIND_RETRY).await;
                } else {
                    info!(kind = name, "not installed in this cluster; waiting for it");
                }
                self.absent();
            }
            // Without the right to look there is only to try.
            Ok(true) | Err(Error::Forbidden { .. }) => self.restart(),
            Err(error) => {
                debug!(kind = name, "looking for the kind: {error}");
                tokio::time::sleep(ABSENT_KIND_RETRY).await;
            }
        }
    }

    /// Whether the kind is there; of a kind in several versions, the best one is chosen.
    async fn is_installed(&mut self, name: &str) -> Result<bool, Error> {
        let client = self.api.clone().into_client();
        let Some(at_version) = &self.at_version else {
            let definitions: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
            return Ok(crate::get(&definitions, name).await?.is_some());
        };
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let Some(definition) = crate::get(&definitions, name).await? else {
            return Ok(false);
        };
        let Some(version) = choose(&definition, self.selection.versions) else {
            return Ok(false);
        };
        self.api = at_version(client, version);
        Ok(true)
    }

    /// The kind is not installed (any more): nothing of it exists.
    fn absent(&mut self) {
        self.vanished.extend(self.known.drain());
        self.reached();
        self.listing = None;
        self.source = None;
    }

    fn restart(&mut self) {
        self.listing = None;
        self.source = Some(source(&self.api, &self.selection));
    }
}

/// Name of the definition of an optional kind, from the path of its objects; `None` for kinds
/// that can have none.
fn definition(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix("/apis/")?.split('/');
    let group = parts.next().filter(|group| group.contains('.'))?;
    Some(format!("{}.{group}", parts.next_back()?))
}

fn source<K>(api: &Api<K>, selection: &Selection) -> BoxStream<'static, watcher::Result<Event<K>>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Send,
{
    let config = watcher::Config {
        label_selector: selection.labels.clone(),
        field_selector: selection.fields.clone(),
        page_size: Some(LIST_PAGE),
        timeout: Some(WATCH_SECONDS),
        ..watcher::Config::default()
    };
    watcher::watcher(api.clone(), config).boxed()
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Failures in a row: their pauses, and log lines that do not repeat endlessly.
struct Trouble {
    path: String,
    failures: u32,
    warned: Option<Instant>,
}

impl Trouble {
    fn new(path: String) -> Self {
        Self {
            path,
            failures: 0,
            warned: None,
        }
    }

    fn again(&mut self, error: &watcher::Error) -> Duration {
        self.failures = self.failures.saturating_add(1);
        // A single broken watch is everyday life: it is resumed silently.
        let tell = self.failures > 1
            && self
                .warned
                .is_none_or(|last| last.elapsed() >= WATCH_WARN_EVERY);
        if tell {
            self.warned = Some(Instant::now());
            warn!(
                what = self.path,
                failures = self.failures,
                "watch: {}",
                describe(error)
            );
        } else {
            debug!(
                what = self.path,
                failures = self.failures,
                "watch: {}",
                describe(error)
            );
        }
        let doublings = self.failures.saturating_sub(1).min(10);
        (WATCH_RETRY_FIRST * 2u32.pow(doublings)).min(WATCH_RETRY_LONGEST)
    }

    fn over(&mut self) {
        if self.warned.take().is_some() {
            info!(what = self.path, "watch: works again");
        }
        self.failures = 0;
    }
}

fn describe(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => {
            Error::from_status("list".to_owned(), status).to_string()
        }
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            Error::from_status("watch".to_owned(), status).to_string()
        }
        other => chain(other),
    }
}

#[cfg(test)]
mod tests;
