//! Applying the objects and waiting until they work.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use tulle_api::contract::{ANNOTATION_UNENROLL, CONFIGMAP_ROOT, SYSTEM_NAMESPACE};
use tulle_api::k8s_openapi;
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::{Api, Client, FIELD_MANAGER, Objects};

use crate::error::Error;
use crate::limits::{CRD_DEADLINE, LOOK_EVERY, PARALLEL_APPLIES};
use crate::manifests::{LABEL_MANAGED_BY, MANAGED_BY, Phase, Rendered, objects};
use crate::preflight::preflight;
use crate::progress::{Event, Progress};
use crate::ready::{Component, look};
use crate::values::Values;

/// On the namespace: it was made by an installation, so a removal may take it away.
pub(crate) const ANNOTATION_CREATED: &str = "tulle.mesh/created";

/// How to install.
#[derive(Clone, Copy, Debug)]
pub struct InstallOptions {
    /// How long to wait until everything is ready; `None`: not at all.
    pub wait: Option<Duration>,
}

/// What an installation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Objects that were applied.
    pub applied: usize,
    /// From the first question to the last readiness.
    pub took: Duration,
}

/// Installs or upgrades the mesh: asks whether it can work, applies all objects, waits until all parts are ready.
///
/// Safe to repeat: what is as it should be stays untouched. On failure, what was applied stays.
pub async fn install(
    client: &Client,
    values: &Values,
    options: &InstallOptions,
    progress: &dyn Progress,
) -> Result<Installed, Error> {
    let begin = Instant::now();
    let rendered = objects(values)?;
    let run = Run {
        client,
        objects: Objects::new(client.clone(), FIELD_MANAGER),
        progress,
    };
    run.step("cluster and rights checked", preflight(client))
        .await?;
    let mut applied = 0;
    run.namespace(&rendered).await?;
    let definitions = run.definitions(&rendered).await?;
    applied += 1 + definitions;
    applied += run
        .phase(
            "accounts, rights and configuration applied",
            &rendered,
            Phase::Foundations,
        )
        .await?;
    applied += run
        .phase(
            "control plane and node agents applied",
            &rendered,
            Phase::Agents,
        )
        .await?;
    let end = options.wait.map(|wait| (begin + wait, wait));
    if let Some(end) = end {
        let step = run.wait_for_roots(end);
        run.step("root certificates published", step).await?;
    }
    applied += run
        .phase("node proxies applied", &rendered, Phase::Proxies)
        .await?;
    if let Some(end) = end {
        run.step("all parts ready", run.wait_for_all(end)).await?;
    }
    Ok(Installed {
        applied,
        took: begin.elapsed(),
    })
}

struct Run<'a> {
    client: &'a Client,
    objects: Objects,
    progress: &'a dyn Progress,
}

impl Run<'_> {
    /// Runs one step between its two events.
    async fn step<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.progress.event(Event::Step(name.to_owned()));
        let begin = Instant::now();
        let result = work.await?;
        self.progress.event(Event::Done {
            step: name.to_owned(),
            took: begin.elapsed(),
        });
        Ok(result)
    }

    async fn phase(&self, name: &str, all: &[Rendered], phase: Phase) -> Result<usize, Error> {
        let chosen: Vec<&Value> = all
            .iter()
            .filter(|r| r.phase == phase)
            .map(|r| &r.object)
            .collect();
        self.step(name, self.apply(&chosen)).await?;
        Ok(chosen.len())
    }

    /// Applies objects that do not depend on each other.
    async fn apply(&self, chosen: &[&Value]) -> Result<(), Error> {
        stream::iter(chosen.iter().map(|object| self.apply_one(object)))
            .buffer_unordered(PARALLEL_APPLIES)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    async fn apply_one(&self, object: &Value) -> Result<(), Error> {
        match self.objects.apply(object).await {
            Ok(_) => Ok(()),
            Err(source) => {
                let object = crate::manifests::title(object);
                Err(Error::Apply { object, source })
            }
        }
    }

    /// The namespace remembers whether an installation made it, and forgets a removal that was begun.
    async fn namespace(&self, all: &[Rendered]) -> Result<(), Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = tulle_cluster::get(&api, SYSTEM_NAMESPACE).await?;
        let ours = match &found {
            None => true,
            Some(namespace) => namespace.annotations().contains_key(ANNOTATION_CREATED),
        };
        let leaving = found
            .as_ref()
            .is_some_and(|namespace| namespace.annotations().contains_key(ANNOTATION_UNENROLL));
        if leaving {
            let patch = json!({ "metadata": { "annotations": { ANNOTATION_UNENROLL: null } } });
            tulle_cluster::merge_patch(&api, SYSTEM_NAMESPACE, &patch).await?;
        }
        for rendered in all
            .iter()
            .filter(|rendered| rendered.phase == Phase::Namespace)
        {
            let mut object = rendered.object.clone();
            if ours {
                object["metadata"]["annotations"] = json!({ ANNOTATION_CREATED: "true" });
            }
            self.apply_one(&object).await?;
        }
        Ok(())
    }

    /// Istio's definitions, except those that another installation brought: they may know more fields than ours.
    async fn definitions(&self, all: &[Rendered]) -> Result<usize, Error> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let mut chosen = Vec::new();
        for rendered in all
            .iter()
            .filter(|rendered| rendered.phase == Phase::Definitions)
        {
            let name = rendered.object["metadata"]["name"]
                .as_str()
                .unwrap_or_default();
            match tulle_cluster::get(&api, name).await? {
                Some(found)
                    if found.labels().get(LABEL_MANAGED_BY).map(String::as_str)
                        != Some(MANAGED_BY) =>
                {
                    let note = format!(
                        "CustomResourceDefinition {name} is another installation's and stays as it is"
                    );
                    self.progress.event(Event::Note(note));
                }
                _ => chosen.push(&rendered.object),
            }
        }
        let work = async {
            self.apply(&chosen).await?;
            for object in &chosen {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                established(&api, name).await?;
            }
            Ok(())
        };
        self.step("resource definitions applied", work).await?;
        Ok(chosen.len())
    }

    /// The node proxies cannot even be started before the control plane has published the root certificates; the
    /// kubelet would retry with growing pauses.
    async fn wait_for_roots(&self, end: End) -> Result<(), Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let mut told = String::new();
        loop {
            if tulle_cluster::get(&api, CONFIGMAP_ROOT).await?.is_some() {
                return Ok(());
            }
            let seen = look(self.client, Component::ControlPlane).await?;
            let seen = match seen {
                Some(readiness) => format!("istiod {readiness}"),
                None => "istiod does not exist".to_owned(),
            };
            self.pause(end, seen, &mut told).await?;
        }
    }

    async fn wait_for_all(&self, end: End) -> Result<(), Error> {
        let mut told = String::new();
        loop {
            let mut missing = Vec::new();
            for component in Component::ALL {
                match look(self.client, component).await? {
                    Some(readiness) if readiness.is_ready() => {}
                    Some(readiness) => missing.push(format!("{} {readiness}", component.name())),
                    None => missing.push(format!("{} does not exist", component.name())),
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            self.pause(end, missing.join("\n"), &mut told).await?;
        }
    }

    /// Tells what is seen if it is news, and sleeps; past the end, what is seen is the error.
    async fn pause(&self, end: End, seen: String, told: &mut String) -> Result<(), Error> {
        let (end, after) = end;
        if Instant::now() >= end {
            return Err(Error::NotReady { what: seen, after });
        }
        if *told != seen {
            self.progress.event(Event::Waiting(seen.clone()));
            *told = seen;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }
}

/// When waiting ends, and how long that was.
type End = (Instant, Duration);

async fn established(api: &Api<CustomResourceDefinition>, name: &str) -> Result<(), Error> {
    let what = format!("CustomResourceDefinition {name} being served");
    tulle_cluster::wait_until(&what, CRD_DEADLINE, || async {
        let found = tulle_cluster::get(api, name).await?;
        let conditions = found
            .and_then(|found| found.status)
            .and_then(|status| status.conditions);
        let conditions = conditions.unwrap_or_default();
        let done = conditions
            .iter()
            .any(|c| c.type_ == "Established" && c.status == "True");
        if done {
            return Ok(tulle_cluster::Progress::Done(()));
        }
        let seen = conditions
            .into_iter()
            .find(|c| c.status == "False")
            .and_then(|c| c.message);
        let seen = seen.unwrap_or_else(|| "not established yet".to_owned());
        Ok(tulle_cluster::Progress::Waiting(seen))
    })
    .await?;
    Ok(())
}
