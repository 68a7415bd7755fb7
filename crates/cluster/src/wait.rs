//! Waiting for a condition, always under a deadline and with the last state in the error.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Error, Result, chain};
use crate::limits::POLL_EVERY;
use crate::write::{Object, delete};

/// One look at an awaited condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// It is so.
    Done(T),
    /// Not yet; the text says what is seen instead.
    Waiting(String),
}

/// Looks every 200 ms until `probe` is done. Transient failures of the API server are waited out;
/// other errors end the wait at once. `what` names the condition for the error, e.g.
/// `"DaemonSet istio-system/ztunnel becoming ready"`.
pub async fn wait_until<T, Look>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Look,
) -> Result<T>
where
    Look: Future<Output = Result<Progress<T>>>,
{
    let end = Instant::now() + deadline;
    let mut last = "nothing was seen".to_owned();
    loop {
        match timeout_at(end, probe()).await {
            Ok(Ok(Progress::Done(value))) => return Ok(value),
            Ok(Ok(Progress::Waiting(seen))) => last = seen,
            Ok(Err(error)) if error.is_transient() => last = error.to_string(),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(passed(what, deadline, last)),
        }
        if Instant::now() + POLL_EVERY >= end {
            return Err(passed(what, deadline, last));
        }
        sleep(POLL_EVERY).await;
    }
}

/// Watches the one object `name` until `condition` is done; it is called with `None` while the
/// object does not exist.
pub async fn wait_for<K, T>(
    api: Api<K>,
    name: &str,
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut(Option<&K>) -> Progress<T>,
) -> Result<T>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let end = Instant::now() + deadline;
    let mut last = "nothing was seen".to_owned();
    let mut states = std::pin::pin!(watcher::watch_object(api, name));
    loop {
        match timeout_at(end, states.next()).await {
            Ok(Some(Ok(object))) => match condition(object.as_ref()) {
                Progress::Done(value) => return Ok(value),
                Progress::Waiting(seen) => last = seen,
            },
            Ok(Some(Err(error))) => {
                last = failed(what, error)?;
                sleep(POLL_EVERY).await;
            }
            Ok(None) | Err(_) => return Err(passed(what, deadline, last)),
        }
    }
}

/// Deletes and waits until the object is gone; `false` when it did not exist.
pub async fn delete_and_wait<K>(api: &Api<K>, name: &str, deadline: Duration) -> Result<bool>
where
    K: Object,
{
    if !delete(api, name).await? {
        return Ok(false);
    }
    let what = format!("removal of {}/{name}", api.resource_url());
    wait_until(&what, deadline, || async {
        Ok(match crate::write::get(api, name).await? {
            None => Progress::Done(true),
            Some(object) => Progress::Waiting(match &object.meta().finalizers {
                Some(finalizers) if !finalizers.is_empty() => {
                    format!("it still has the finalizers {}", finalizers.join(", "))
                }
                _ => "it still exists".to_owned(),
            }),
        })
    })
    .await
}

/// Errors that more waiting cannot cure end the wait; the text of others is kept.
fn failed(what: &str, error: watcher::Error) -> Result<String> {
    let sorted = match error {
        watcher::Error::InitialListFailed(inner)
        | watcher::Error::WatchStartFailed(inner)
        | watcher::Error::WatchFailed(inner) => Error::from_kube(what, inner),
        other => return Ok(chain(&other)),
    };
    match sorted {
        Error::Unauthorized { .. } | Error::Forbidden { .. } => Err(sorted),
        other => Ok(other.to_string()),
    }
}

fn passed(what: &str, after: Duration, last: String) -> Error {
    Error::Deadline {
        what: what.to_owned(),
        after,
        last,
    }
}

#[cfg(test)]
mod tests;
