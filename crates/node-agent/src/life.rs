//! One pod's way into the mesh and out of it, step by step.
//!
//! In: the proxy's listeners first, then the probe exemption, then the rules, then the annotation. Nothing points at a
//! port that nobody listens on, and peers are told to use HBONE when it works. Out: nothing new is captured, the
//! annotation goes, peers learn of it while the HBONE port is still served, then the proxy lets go and the rules end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use tulle_linux::redirect::Observation;
use tulle_linux::{NetNs, Redirect};
use tulle_proto::workload::zds::WorkloadInfo;

use crate::error::EnrolError;
use crate::limits::LEAVING_GRACE;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::pod::PodFacts;
use crate::records::Records;
use crate::zds::{Served, Zds};

/// What a pod's life is made of. Clones share it.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) node: Node,
    pub(crate) zds: Zds,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) metrics: Metrics,
    pub(crate) ipv6: bool,
    pub(crate) dns: bool,
}

/// Where a pod is.
#[derive(Debug, Default)]
pub(crate) enum Stage {
    /// Nothing of ours is in it.
    #[default]
    Out,
    /// Captured and served.
    In(Enrolled),
    /// No longer captured, still served for its peers.
    Leaving {
        ns: NetNs,
        since: Instant,
        /// The annotation is off.
        told: bool,
    },
}

/// A pod in the mesh.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) ns: NetNs,
    pub(crate) redirect: Redirect,
    /// What its namespace looked like when the rules were known to be right; `None` makes the next look thorough.
    pub(crate) seen: Option<Observation>,
    pub(crate) annotation: Annotation,
}

/// What became of the annotation on an enrolled pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Annotation {
    Missing,
    Written,
    /// The API server has told of it.
    Seen,
}

/// Where a pod should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Goal {
    In(PodFacts),
    Out(PodFacts),
    /// Its network is gone or about to go.
    Gone(PodFacts),
}

/// What remains after a step.
#[derive(Debug, PartialEq)]
pub(crate) enum Rest {
    /// The goal is reached.
    Nothing,
    /// Come back after this time.
    After(Duration),
}

impl Goal {
    pub(crate) fn pod(&self) -> &PodFacts {
        match self {
            Self::In(pod) | Self::Out(pod) | Self::Gone(pod) => pod,
        }
    }
}

impl Means {
    /// Brings a pod nearer to its goal.
    pub(crate) async fn step(&self, stage: &mut Stage, goal: &Goal) -> Result<Rest, EnrolError> {
        match goal {
            Goal::In(pod) => self.step_in(stage, pod).await.map(|()| Rest::Nothing),
            Goal::Out(pod) => self.step_out(stage, pod).await,
            Goal::Gone(pod) => {
                self.forget(stage, pod).await;
                Ok(Rest::Nothing)
            }
        }
    }

    /// Takes a pod in whose namespace is known: from the CNI plugin, before its first packet, or found by its process.
    pub(crate) async fn enrol(
        &self,
        stage: &mut Stage,
        pod: &PodFacts,
        ns: NetNs,
    ) -> Result<(), EnrolError> {
        let begun = Instant::now();
        let redirect = pod.redirect(self.ipv6, self.dns);
        let outcome = self.capture(pod, &ns, &redirect).await;
        let result = if outcome.is_ok() {
            "success"
        } else {
            "failure"
        };
        self.metrics.enrolments.with(&[result]).inc();
        match outcome {
            Ok(seen) => {
                self.count(stage, 1);
                *stage = Stage::In(Enrolled {
                    ns,
                    redirect,
                    seen,
                    annotation: Annotation::Missing,
                });
                info!(
                    "pod {} is in the mesh after {} ms",
                    pod.key,
                    begun.elapsed().as_millis()
                );
                Ok(())
            }
            Err(error) => {
                self.count(stage, 0);
                *stage = Stage::Out;
                self.undo(pod, &ns).await;
                Err(error)
            }
        }
    }

    async fn step_in(&self, stage: &mut Stage, pod: &PodFacts) -> Result<(), EnrolError> {
        match stage {
            // Without an address it is starting, and the CNI plugin brings it in.
            Stage::Out if pod.addresses.is_empty() => return Ok(()),
            Stage::Out => {
                let ns = self.node.find(pod).await?;
                self.enrol(stage, pod, ns).await?;
            }
            Stage::Leaving { ns, .. } => {
                let ns = ns.clone();
                info!("pod {} comes back before it had left", pod.key);
                self.enrol(stage, pod, ns).await?;
            }
            Stage::In(enrolled) => {
                let redirect = pod.redirect(self.ipv6, self.dns);
                if enrolled.redirect != redirect {
                    enrolled.seen = self.node.install(&enrolled.ns, &redirect).await?;
                    enrolled.redirect = redirect;
                    info!(
                        "pod {}: redirection changed as its annotations ask",
                        pod.key
                    );
                }
            }
        }
        if let Stage::In(enrolled) = stage {
            enrolled.annotation = match (enrolled.annotation, pod.annotated) {
                (_, true) => Annotation::Seen,
                // The watch has not told of it yet.
                (Annotation::Written, false) => Annotation::Written,
                // Not there yet, or taken off by somebody.
                (Annotation::Missing | Annotation::Seen, false) => {
                    self.records.annotate(pod, true).await?;
                    Annotation::Written
                }
            };
        }
        Ok(())
    }

    async fn step_out(&self, stage: &mut Stage, pod: &PodFacts) -> Result<Rest, EnrolError> {
        if let Stage::In(enrolled) = stage {
            self.node.stop_capture(&enrolled.ns).await?;
            let ns = enrolled.ns.clone();
            self.count(stage, 0);
            *stage = Stage::Leaving {
                ns,
                since: Instant::now(),
                told: false,
            };
        }
        let Stage::Leaving { ns, since, told } = stage else {
            if pod.annotated {
                // An earlier run ended between the last steps.
                self.records.annotate(pod, false).await?;
            }
            return Ok(Rest::Nothing);
        };
        if !*told {
            self.records.annotate(pod, false).await?;
            // The time for peers to learn of it starts now.
            (*since, *told) = (Instant::now(), true);
        }
        let left = LEAVING_GRACE.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return Ok(Rest::After(left));
        }
        self.zds.del(&pod.uid).await;
        self.node.remove(ns).await?;
        self.node.remove_probes(&pod.uid).await?;
        *stage = Stage::Out;
        info!("pod {} has left the mesh", pod.key);
        Ok(Rest::Nothing)
    }

    /// The pod's network ends with it; only what others hold of it must go.
    async fn forget(&self, stage: &mut Stage, pod: &PodFacts) {
        if matches!(stage, Stage::Out) {
            return;
        }
        self.count(stage, 0);
        *stage = Stage::Out;
        self.zds.del(&pod.uid).await;
        if let Err(error) = self.node.remove_probes(&pod.uid).await {
            warn!(
                "pod {} is gone, but its addresses stay exempted as probe targets: {error}",
                pod.key
            );
        }
    }

    async fn capture(
        &self,
        pod: &PodFacts,
        ns: &NetNs,
        redirect: &Redirect,
    ) -> Result<Option<Observation>, EnrolError> {
        self.node.prepare(ns).await?;
        self.zds
            .add(
                &pod.uid,
                Served {
                    info: pod.into(),
                    ns: ns.clone(),
                },
            )
            .await?;
        self.node.add_probes(pod).await?;
        self.node.install(ns, redirect).await
    }

    async fn undo(&self, pod: &PodFacts, ns: &NetNs) {
        // Rules first: they must not point at listeners that close. Each failure is less than the one that brought us here.
        let rules = self.node.remove(ns).await;
        self.zds.del(&pod.uid).await;
        let probes = self.node.remove_probes(&pod.uid).await;
        if let Err(error) = rules.and(probes) {
            warn!("pod {}: undoing a failed enrolment: {error}", pod.key);
        }
    }

    /// Keeps the gauge of enrolled pods right: `now` is 1 when the pod is in after this.
    fn count(&self, stage: &Stage, now: i64) {
        match (matches!(stage, Stage::In(_)), now) {
            (false, 1) => self.metrics.pods.inc(),
            (true, 0) => self.metrics.pods.dec(),
            _ => {}
        }
    }
}

impl From<&PodFacts> for WorkloadInfo {
    fn from(pod: &PodFacts) -> Self {
        Self {
            name: pod.key.name.to_string(),
            namespace: pod.key.namespace.to_string(),
            service_account: pod.service_account.clone(),
        }
    }
}
