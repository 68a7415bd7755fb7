//! Taking the mesh away: pods first, so that none is left with rules that lead nowhere.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use tulle_api::contract::ANNOTATION_UNENROLL;
use tulle_api::contract::{ANNOTATION_REDIRECTION, CONFIGMAP_ROOT, SECRET_CA, SYSTEM_NAMESPACE};
use tulle_api::k8s_openapi;
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::kube::api::ListParams;
use tulle_cluster::{Api, Client, FIELD_MANAGER, Objects};

mod deployed;

use crate::error::Error;
use crate::install::ANNOTATION_CREATED;
use crate::limits::{LOOK_EVERY, OBJECT_GONE_DEADLINE, PODS_GONE_DEADLINE, PODS_NAMED};
use crate::manifests::{LABEL_MANAGED_BY, MANAGED_BY, Phase, objects, title};
use crate::preflight::{UNINSTALL, foreign, rights};
use crate::progress::{Event, Progress};
use crate::ready::{Component, look};
use crate::values::Values;

/// How to remove.
#[derive(Clone, Copy, Debug)]
pub struct UninstallOptions {
    /// Go on although pods are still enrolled after the deadline.
    pub force: bool,
    /// Delete Istio's resource definitions too, and with them every policy in the cluster.
    pub delete_crds: bool,
    /// How long to wait until no pod is enrolled.
    pub deadline: Duration,
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uninstalled {
    /// Pods that left the mesh.
    pub unenrolled: usize,
    /// Objects that were deleted.
    pub deleted: usize,
    /// What was left on purpose, one sentence each.
    pub kept: Vec<String>,
}

/// Removes the mesh: un-enrols every pod and waits for it, then deletes agents, proxies, control plane, rights and
/// configuration. Safe to repeat.
pub async fn uninstall(
    client: &Client,
    options: &UninstallOptions,
    progress: &dyn Progress,
) -> Result<Uninstalled, Error> {
    let objects = Objects::new(client.clone(), FIELD_MANAGER);
    let run = Run {
        client,
        objects,
        options,
        progress,
    };
    run.step("cluster and rights checked", async {
        rights(client, "remove the mesh", UNINSTALL).await?;
        foreign(client).await
    })
    .await?;
    let mut report = Uninstalled {
        unenrolled: run
            .step("pods taken out of the mesh", run.unenrol())
            .await?,
        ..Uninstalled::default()
    };
    // The agents clean their nodes when they see that their DaemonSet is gone; they still need their rights for that.
    for component in [
        Component::NodeAgent,
        Component::Ztunnel,
        Component::ControlPlane,
    ] {
        let name = format!("{} removed", component.name());
        report.deleted += run.step(&name, run.remove_component(component)).await?;
    }
    // Nobody makes them anew now.
    report.deleted += run
        .step("waypoints and gateways removed", run.remove_deployed())
        .await?;
    report.deleted += run
        .step("rights and configuration removed", run.remove_rest())
        .await?;
    if options.delete_crds {
        let name = "resource definitions and all their objects removed";
        report.deleted += run.step(name, run.remove_definitions()).await?;
    } else {
        report.kept.push(
            "Istio's resource definitions and your policies are kept; `tulle uninstall --purge --delete-crds` removes them, \
             with every Istio object in the cluster"
                .to_owned(),
        );
    }
    report.kept.push(
        "your Gateways and routes are kept; what ran for them is gone, and the next installation makes it again".to_owned(),
    );
    report.kept.push(
        "labels and annotations on your namespaces and pods are yours and stay; without the mesh they do nothing".to_owned(),
    );
    match run.step("namespace", run.remove_namespace()).await? {
        None => report.deleted += 1,
        Some(why) => report.kept.push(why),
    }
    Ok(report)
}

struct Run<'a> {
    client: &'a Client,
    objects: Objects,
    options: &'a UninstallOptions,
    progress: &'a dyn Progress,
}

impl Run<'_> {
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

    /// Asks the node agents to let all pods go, and waits. When that fails, the request is taken back, so that the mesh
    /// goes on as before.
    async fn unenrol(&self) -> Result<usize, Error> {
        let before = self.enrolled().await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if tulle_cluster::get(&namespaces, SYSTEM_NAMESPACE)
            .await?
            .is_none()
        {
            return if before.is_empty() {
                Ok(0)
            } else {
                self.give_up(&before).await
            };
        }
        // Nobody is there who could let them go: no use in waiting.
        if !before.is_empty() && look(self.client, Component::NodeAgent).await?.is_none() {
            return self.give_up(&before).await;
        }
        // Also when no pod is enrolled now: none may be from here on.
        self.ask_to_leave(&namespaces, true).await?;
        match self.wait_until_left().await {
            Ok(()) => Ok(before.len()),
            Err(error) if self.options.force => {
                self.progress
                    .event(Event::Note(format!("going on by force: {error}")));
                Ok(before.len())
            }
            Err(error) => {
                self.ask_to_leave(&namespaces, false).await?;
                Err(error)
            }
        }
    }

    async fn give_up(&self, left: &[String]) -> Result<usize, Error> {
        if self.options.force {
            return Ok(0);
        }
        Err(self.still_enrolled(left, Duration::ZERO).await?)
    }

    async fn ask_to_leave(&self, api: &Api<Namespace>, leave: bool) -> Result<(), Error> {
        let value = if leave { json!("true") } else { Value::Null };
        let patch = json!({ "metadata": { "annotations": { ANNOTATION_UNENROLL: value } } });
        tulle_cluster::merge_patch(api, SYSTEM_NAMESPACE, &patch).await?;
        Ok(())
    }

    async fn wait_until_left(&self) -> Result<(), Error> {
        let end = Instant::now() + self.options.deadline;
        let mut told = usize::MAX;
        loop {
            let left = self.enrolled().await?;
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(self.still_enrolled(&left, self.options.deadline).await?);
            }
            if left.len() != told {
                told = left.len();
                self.progress
                    .event(Event::Waiting(format!("{told} pods are still enrolled")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Names of all running pods that carry the redirection annotation.
    async fn enrolled(&self) -> Result<Vec<String>, Error> {
        let api: Api<Pod> = Api::all(self.client.clone());
        // Ended pods keep their annotations and have no network.
        let running = "status.phase!=Succeeded,status.phase!=Failed";
        let list = api
            .list_metadata(&ListParams::default().fields(running))
            .await
            .map_err(|error| tulle_cluster::Error::from_kube("list pods", error))?;
        let enrolled = list.items.iter().filter(|pod| {
            pod.annotations().contains_key(ANNOTATION_REDIRECTION)
                && pod.metadata.deletion_timestamp.is_none()
        });
        Ok(enrolled
            .map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()))
            .collect())
    }

    async fn still_enrolled(&self, left: &[String], after: Duration) -> Result<Error, Error> {
        let why = match look(self.client, Component::NodeAgent).await? {
            None => "the node agents (DaemonSet istio-cni-node) do not exist".to_owned(),
            Some(readiness) if readiness.is_ready() => {
                "the node agents run; see `kubectl logs -n istio-system -l k8s-app=istio-cni-node`"
                    .to_owned()
            }
            Some(readiness) => format!("the node agents are {readiness}"),
        };
        let examples = left
            .iter()
            .take(PODS_NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        Ok(Error::StillEnrolled {
            count: left.len(),
            examples,
            why,
            after,
        })
    }

    /// Deletes the workload and waits until its pods have ended.
    async fn remove_component(&self, component: Component) -> Result<usize, Error> {
        let kind = if component == Component::ControlPlane {
            "Deployment"
        } else {
            "DaemonSet"
        };
        let workload = json!({
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": { "name": component.name(), "namespace": SYSTEM_NAMESPACE },
        });
        let deleted = self.objects.delete(&workload).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let what = format!("the pods of {} ending", component.name());
        let ended = tulle_cluster::wait_until(&what, PODS_GONE_DEADLINE, || async {
            let left = tulle_cluster::list(&pods, Some(component.selector())).await?;
            Ok(match left.first() {
                None => tulle_cluster::Progress::Done(()),
                Some(pod) => {
                    let text = format!("{} pods are left, e.g. {}", left.len(), pod.name_any());
                    tulle_cluster::Progress::Waiting(text)
                }
            })
        });
        match ended.await {
            Ok(()) => {}
            // A node that is away cannot confirm the end of its pods.
            Err(error @ tulle_cluster::Error::Deadline { .. }) if self.options.force => {
                self.progress
                    .event(Event::Note(format!("going on by force: {error}")));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(usize::from(deleted))
    }

    /// Everything else that an installation applies and that is still ours, plus what the control plane made.
    async fn remove_rest(&self) -> Result<usize, Error> {
        let mut all = objects(&Values::default())?;
        let mut with_quota = Values::default();
        with_quota.cni.resource_quota = true;
        all.extend(objects(&with_quota)?);
        let mut seen = BTreeSet::new();
        let mut deleted = 0;
        for rendered in all.iter().rev().filter(|r| r.phase == Phase::Foundations) {
            if !seen.insert(title(&rendered.object)) {
                continue;
            }
            let Some(found) = self.objects.get(&rendered.object).await? else {
                continue;
            };
            if found.labels().get(LABEL_MANAGED_BY).map(String::as_str) != Some(MANAGED_BY) {
                let note = format!("{} is not ours and stays", rendered.title());
                self.progress.event(Event::Note(note));
                continue;
            }
            deleted += usize::from(self.objects.delete(&rendered.object).await?);
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        deleted += usize::from(tulle_cluster::delete(&secrets, SECRET_CA).await?);
        Ok(deleted + self.remove_roots().await?)
    }

    /// The root certificates that the control plane published in every namespace.
    async fn remove_roots(&self) -> Result<usize, Error> {
        let api: Api<ConfigMap> = Api::all(self.client.clone());
        let fields = format!("metadata.name={CONFIGMAP_ROOT}");
        let list = api
            .list_metadata(&ListParams::default().fields(&fields))
            .await
            .map_err(|error| tulle_cluster::Error::from_kube("list ConfigMaps", error))?;
        let mut deleted = 0;
        for found in list.items {
            let namespace = found.namespace().unwrap_or_default();
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
            deleted += usize::from(tulle_cluster::delete(&api, CONFIGMAP_ROOT).await?);
        }
        Ok(deleted)
    }

    async fn remove_definitions(&self) -> Result<usize, Error> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let ours = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
        let mut deleted = 0;
        for definition in tulle_cluster::list(&api, Some(&ours)).await? {
            let name = definition.name_any();
            let gone = tulle_cluster::delete_and_wait(&api, &name, OBJECT_GONE_DEADLINE).await?;
            deleted += usize::from(gone);
        }
        Ok(deleted)
    }

    /// `None` when the namespace is gone; else why it stays.
    async fn remove_namespace(&self) -> Result<Option<String>, Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Some(namespace) = tulle_cluster::get(&api, SYSTEM_NAMESPACE).await? else {
            return Ok(Some(format!("namespace {SYSTEM_NAMESPACE} did not exist")));
        };
        if !namespace.annotations().contains_key(ANNOTATION_CREATED) {
            self.ask_to_leave(&api, false).await?;
            return Ok(Some(format!(
                "namespace {SYSTEM_NAMESPACE} was there before the mesh and is kept"
            )));
        }
        let foreign = self.foreign_things().await?;
        if !foreign.is_empty() {
            self.ask_to_leave(&api, false).await?;
            return Ok(Some(format!(
                "namespace {SYSTEM_NAMESPACE} is kept: it holds things that are not the mesh's: {}",
                foreign.join(", ")
            )));
        }
        tulle_cluster::delete_and_wait(&api, SYSTEM_NAMESPACE, OBJECT_GONE_DEADLINE).await?;
        Ok(None)
    }

    /// What users may have put into the namespace: workloads, services, Secrets, ConfigMaps.
    async fn foreign_things(&self) -> Result<Vec<String>, Error> {
        let kinds = [
            ("v1", "Pod"),
            ("v1", "Service"),
            ("v1", "Secret"),
            ("v1", "ConfigMap"),
            ("v1", "PersistentVolumeClaim"),
            ("apps/v1", "Deployment"),
            ("apps/v1", "DaemonSet"),
            ("apps/v1", "StatefulSet"),
        ];
        let mut things = Vec::new();
        for (api_version, kind) in kinds {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let kind = tulle_cluster::kube::api::GroupVersionKind::gvk(group, version, kind);
            let api = self.objects.api(&kind, Some(SYSTEM_NAMESPACE)).await?;
            for object in tulle_cluster::list(&api, None).await? {
                let name = object.name_any();
                // Published by Kubernetes in every namespace.
                if name != "kube-root-ca.crt" && things.len() < PODS_NAMED {
                    things.push(format!("{} {name}", kind.kind));
                }
            }
        }
        Ok(things)
    }
}
