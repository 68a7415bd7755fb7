//! All pods of this node, each with a task that brings it to its goal.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};
use tulle_cluster::{Change, Key};

use crate::error::EnrolError;
use crate::life::{Annotation, Enrolled, Goal, Means, Rest, Stage};
use crate::limits::{DEPARTURES_LOOK, LEAVING_GRACE, PODS, RETRY_FIRST, RETRY_LONGEST};
use crate::pod::{NamespaceFacts, PodFacts};
use crate::zds::Served;

/// The node agent's memory and its tasks. Clones share them.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) means: Means,
    inner: Arc<Inner>,
}

struct Inner {
    system_namespace: String,
    excluded: BTreeSet<String>,
    known: Mutex<Known>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// What the API server told.
#[derive(Default)]
struct Known {
    namespaces: HashMap<Arc<str>, NamespaceFacts>,
    pods: HashMap<Key, PodFacts>,
    /// Goals are set from the moment that everything was told.
    complete: bool,
}

/// One pod: who holds the stage may work on it.
pub(crate) struct Slot {
    pub(crate) stage: Arc<tokio::sync::Mutex<Stage>>,
    goal: watch::Sender<Goal>,
}

/// The right to work on a pod's stage.
pub(crate) type Hold = OwnedMutexGuard<Stage>;

impl Agent {
    pub(crate) fn new(means: Means, system_namespace: String, excluded: BTreeSet<String>) -> Self {
        let inner = Inner {
            system_namespace,
            excluded,
            known: Mutex::default(),
            slots: Mutex::default(),
        };
        Self {
            means,
            inner: Arc::new(inner),
        }
    }

    /// Takes in a change of a pod of this node.
    pub(crate) fn pod_changed(&self, change: Change<PodFacts>) {
        match change {
            Change::Upsert(pod) => {
                let replaced = self.known().pods.insert(pod.key.clone(), pod.clone());
                // The same name again, without a removal in between: a StatefulSet's pod.
                if let Some(old) = replaced.filter(|old| old.uid != pod.uid) {
                    self.pursue(Goal::Gone(old));
                }
                self.consider(&pod);
            }
            Change::Remove(key) => {
                let removed = self.known().pods.remove(&key);
                if let Some(pod) = removed {
                    self.pursue(Goal::Gone(pod));
                }
            }
            Change::Synced => {}
        }
    }

    /// Takes in a change of a namespace.
    pub(crate) fn namespace_changed(&self, change: Change<(Arc<str>, NamespaceFacts)>) {
        let name = match change {
            Change::Upsert((name, facts)) => {
                let before = self.known().namespaces.insert(name.clone(), facts);
                if before == Some(facts) {
                    return;
                }
                name
            }
            Change::Remove(key) => {
                self.known().namespaces.remove(&key.name);
                key.name
            }
            Change::Synced => return,
        };
        // The mesh's own namespace can dismiss everybody.
        let everybody = *name == *self.inner.system_namespace;
        let concerned: Vec<_> = {
            let known = self.known();
            known
                .pods
                .values()
                .filter(|pod| everybody || pod.key.namespace == name)
                .cloned()
                .collect()
        };
        for pod in &concerned {
            self.consider(pod);
        }
    }

    /// Everything was told once: finds what an earlier run of the agent has done, then sets every pod's goal.
    pub(crate) async fn recover(&self) -> Result<(), EnrolError> {
        let pods: Vec<_> = self
            .known()
            .pods
            .values()
            .filter(|pod| !pod.finished)
            .cloned()
            .collect();
        let found = self.means.node.namespaces().await?;
        let (mut stages, mut owners) = (Vec::new(), BTreeMap::new());
        for pod in pods {
            let Some(stage) = self.found_stage(&pod, found.get(&pod.runtime_uid)).await else {
                continue;
            };
            if let Stage::In(enrolled) = &stage {
                self.means.zds.restore(
                    &pod.uid,
                    Served {
                        info: (&pod).into(),
                        ns: enrolled.ns.clone(),
                    },
                );
                owners.extend(
                    pod.addresses
                        .iter()
                        .map(|address| (*address, pod.uid.clone())),
                );
                self.means.metrics.pods.inc();
            }
            stages.push((pod, stage));
        }
        self.means.node.forget_scan().await;
        self.means.node.replace_probes(owners).await?;
        info!(
            enrolled = stages.len(),
            "what is known of this node's pods is restored"
        );
        self.known().complete = true;
        for (pod, stage) in stages {
            if let Some(goal) = self.goal(&pod) {
                self.make(&mut self.slots(), goal, stage);
            }
        }
        let all: Vec<_> = self.known().pods.values().cloned().collect();
        for pod in &all {
            self.consider(pod);
        }
        Ok(())
    }

    /// What an earlier run left in a pod.
    async fn found_stage(&self, pod: &PodFacts, ns: Option<&tulle_linux::NetNs>) -> Option<Stage> {
        let ns = ns?.clone();
        if pod.annotated {
            let redirect = pod.redirect(self.means.ipv6, self.means.dns);
            return Some(Stage::In(Enrolled {
                ns,
                redirect,
                seen: None,
                annotation: Annotation::Seen,
            }));
        }
        if !self.means.node.leftover(&ns).await {
            return None;
        }
        warn!(
            "pod {} has rules of an enrolment or removal that was interrupted",
            pod.key
        );
        let since = Instant::now()
            .checked_sub(LEAVING_GRACE)
            .unwrap_or_else(Instant::now);
        Some(Stage::Leaving {
            ns,
            since,
            told: true,
        })
    }

    /// Waits until no pod is on its way out: its last rules must not outlive the agent that would remove them.
    pub(crate) async fn departures(&self) {
        loop {
            let stages: Vec<_> = self
                .slots()
                .values()
                .map(|slot| slot.stage.clone())
                .collect();
            let mut leaving = false;
            for stage in stages {
                leaving |= matches!(*stage.lock().await, Stage::Leaving { .. });
            }
            if !leaving {
                return;
            }
            tokio::time::sleep(DEPARTURES_LOOK).await;
        }
    }

    /// Whether the mesh takes this pod, as far as is known.
    pub(crate) fn wants(&self, pod: &PodFacts, namespace: NamespaceFacts) -> bool {
        !self.dismissed() && pod.eligible(namespace, &self.inner.excluded)
    }

    pub(crate) fn excludes(&self, namespace: &str) -> bool {
        self.inner.excluded.contains(namespace)
    }

    /// What is known of a pod and its namespace without asking.
    pub(crate) fn remembered(&self, key: &Key) -> Option<(PodFacts, NamespaceFacts)> {
        let known = self.known();
        Some((
            known.pods.get(key)?.clone(),
            *known.namespaces.get(&key.namespace)?,
        ))
    }

    /// Takes hold of a pod for the CNI plugin, with the goal that keeps it in. A task of its own then waits for its turn.
    pub(crate) async fn claim(&self, pod: PodFacts) -> Option<(Arc<Slot>, Hold)> {
        let (slot, hold) = {
            let mut slots = self.slots();
            match slots.get(&pod.uid) {
                Some(slot) => {
                    slot.goal.send_replace(Goal::In(pod));
                    (slot.clone(), None)
                }
                None => self.make(&mut slots, Goal::In(pod), Stage::Out)?,
            }
        };
        let hold = match hold {
            Some(hold) => hold,
            None => slot.stage.clone().lock_owned().await,
        };
        Some((slot, hold))
    }

    /// The plugin could not enrol: the task must not try with what is known now.
    pub(crate) fn abandon(&self, slot: &Slot, pod: PodFacts) {
        slot.goal.send_replace(Goal::Gone(pod));
    }

    /// The runtime takes a sandbox down: whatever it was part of is over, unless a newer sandbox took its place.
    pub(crate) async fn sandbox_gone(&self, uid: &str, ns: Option<&tulle_linux::NetNs>) {
        let Some(slot) = self.slots().get(uid).cloned() else {
            return;
        };
        let same = match (&*slot.stage.lock().await, ns) {
            (Stage::In(enrolled), Some(ns)) => enrolled.ns == *ns,
            (Stage::Leaving { ns: known, .. }, Some(ns)) => known == ns,
            _ => false,
        };
        if same {
            let pod = slot.goal.borrow().pod().clone();
            slot.goal.send_replace(Goal::Gone(pod));
        }
    }

    /// All pods that are being kept track of.
    pub(crate) fn all_slots(&self) -> Vec<(Arc<Slot>, Key)> {
        self.slots()
            .values()
            .map(|slot| (slot.clone(), slot.goal.borrow().pod().key.clone()))
            .collect()
    }

    fn dismissed(&self) -> bool {
        self.known()
            .namespaces
            .get(&*self.inner.system_namespace)
            .is_some_and(|facts| facts.unenroll)
    }

    /// Sets the goal that follows from what is known.
    fn consider(&self, pod: &PodFacts) {
        if let Some(goal) = self.goal(pod) {
            self.pursue(goal);
        }
    }

    /// `None` until everything was told.
    fn goal(&self, pod: &PodFacts) -> Option<Goal> {
        let namespace = {
            let known = self.known();
            known.complete.then(|| {
                known
                    .namespaces
                    .get(&pod.key.namespace)
                    .copied()
                    .unwrap_or_default()
            })?
        };
        Some(if pod.finished {
            Goal::Gone(pod.clone())
        } else if self.wants(pod, namespace) {
            Goal::In(pod.clone())
        } else {
            Goal::Out(pod.clone())
        })
    }

    /// Gives a pod a goal; a pod that nothing was ever done to needs no task to do nothing.
    fn pursue(&self, goal: Goal) {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&goal.pod().uid) {
            slot.goal.send_if_modified(|now| {
                let goal = keep_addresses(now, goal);
                let changed = *now != goal;
                *now = goal;
                changed
            });
            return;
        }
        let something_to_do = match &goal {
            Goal::In(_) => true,
            Goal::Out(pod) => pod.annotated,
            Goal::Gone(_) => false,
        };
        if something_to_do {
            self.make(&mut slots, goal, Stage::Out);
        }
    }

    /// A new slot, held, and its task, which waits for the hold to be given up.
    fn make(
        &self,
        slots: &mut HashMap<String, Arc<Slot>>,
        goal: Goal,
        stage: Stage,
    ) -> Option<(Arc<Slot>, Option<Hold>)> {
        let pod = goal.pod();
        if slots.len() >= PODS {
            error!(
                "more than {PODS} pods on this node; pod {} is not looked at",
                pod.key
            );
            return None;
        }
        let uid = pod.uid.clone();
        let stage = Arc::new(tokio::sync::Mutex::new(stage));
        let hold = stage.clone().try_lock_owned().ok();
        let slot = Arc::new(Slot {
            stage,
            goal: watch::Sender::new(goal),
        });
        slots.insert(uid, slot.clone());
        tokio::spawn(self.clone().lead(slot.clone()));
        Some((slot, hold))
    }

    /// A pod's task: one step after another, until the pod is gone.
    async fn lead(self, slot: Arc<Slot>) {
        let mut goals = slot.goal.subscribe();
        goals.mark_changed();
        let mut trouble = Trouble::default();
        let mut proxies = self.means.zds.connected();
        loop {
            let goal = goals.borrow_and_update().clone();
            let outcome = {
                let mut stage = slot.stage.lock().await;
                self.means.step(&mut stage, &goal).await
            };
            let pause = match outcome {
                Ok(Rest::Nothing) if self.retire(&slot, &goal).await => return,
                Ok(Rest::Nothing) => None,
                Ok(Rest::After(pause)) => Some(pause),
                Err(error) => Some(trouble.note(&self, &goal, &error).await),
            };
            if pause.is_none() {
                trouble = Trouble::default();
            }
            tokio::select! {
                _ = goals.changed() => {}
                _ = proxies.changed() => {}
                () = pause_for(pause) => {}
            }
        }
    }

    /// Ends a task that has nothing left to do; false when there is something after all.
    async fn retire(&self, slot: &Arc<Slot>, goal: &Goal) -> bool {
        if matches!(goal, Goal::In(_)) {
            return false;
        }
        let stage = slot.stage.lock().await;
        let mut slots = self.slots();
        // A new goal may have come while the last step ran; it is set under the same lock.
        let over = matches!(*stage, Stage::Out) && *slot.goal.borrow() == *goal;
        if over {
            slots.remove(&goal.pod().uid);
        }
        over
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.inner
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watch may still tell of a pod without address that the CNI plugin has already named one for.
fn keep_addresses(now: &Goal, mut goal: Goal) -> Goal {
    if let (Goal::In(known), Goal::In(pod)) = (now, &mut goal)
        && pod.addresses.is_empty()
    {
        pod.addresses.clone_from(&known.addresses);
    }
    goal
}

async fn pause_for(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Failures in a row: growing pauses, and each complaint once.
#[derive(Default)]
struct Trouble {
    failures: u32,
    last: String,
}

impl Trouble {
    async fn note(&mut self, agent: &Agent, goal: &Goal, error: &EnrolError) -> Duration {
        let pause = RETRY_FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_LONGEST);
        self.failures += 1;
        let text = error.to_string();
        // A pod's first process appears a moment after its address; that is not worth a word.
        let normal = matches!(error, EnrolError::NoProcess) && self.failures < 4;
        if text != self.last && !normal {
            let (pod, to) = (
                goal.pod(),
                if matches!(goal, Goal::In(_)) {
                    "take in"
                } else {
                    "release"
                },
            );
            warn!("cannot {to} pod {} now: {text}; trying again", pod.key);
            let message = format!("Tulle cannot {to} this pod now and tries again: {text}");
            agent
                .means
                .records
                .event(pod, "MeshEnrolmentDelayed", &message)
                .await;
            self.last = text;
        }
        pause
    }
}

#[cfg(test)]
mod tests;
