//! Leader election over a Lease: one of several replicas does what only one may do.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::error::{Error, Result};
use crate::limits::{LEASE_DURATION, LEASE_RENEW, RESIGN_DEADLINE};
use crate::write::{bounded, get};

/// What is led, and who wants to lead.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease, one per duty.
    pub lease: String,
    /// Unique name of this replica, e.g. its pod's name.
    pub holder: String,
}

/// Taking part in an election.
pub struct Participation {
    leads: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Participation {
    /// `true` means: this replica leads. It turns `false` before anybody else can lead, also when
    /// the API server cannot be reached.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Gives the lease up, so that the next replica leads at once; waits for that, but not long.
    pub async fn resign(self) {
        self.stop.send_replace(true);
        // A lease that could not be given up runs out by itself.
        let _ = timeout(RESIGN_DEADLINE, self.task).await;
    }
}

/// Takes part until the result is dropped (the lease then runs out) or resigns.
pub fn take_part(client: Client, candidate: Candidate) -> Participation {
    let (sender, leads) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(run(client, candidate, sender, stopped));
    Participation { leads, stop, task }
}

async fn run(
    client: Client,
    candidate: Candidate,
    leads: watch::Sender<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    let api: Api<Lease> = Api::namespaced(client, &candidate.namespace);
    let mut election = Election::new(candidate);
    loop {
        election.round(&api, &leads, Instant::now()).await;
        tokio::select! {
            () = sleep(LEASE_RENEW) => {}
            asked = async { stopped.wait_for(|stop| *stop).await.is_ok() } => {
                let led = leads.send_replace(false);
                if asked && led {
                    election.give_up(&api).await;
                }
                return;
            }
        }
    }
}

struct Election {
    candidate: Candidate,
    /// Until when our own last renewal counts, by our own clock.
    ours_until: Option<Instant>,
    /// Another holder's last renewal as text, and when we first saw it: their clock is not
    /// compared with ours.
    theirs: Option<(String, Instant)>,
}

impl Election {
    fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            ours_until: None,
            theirs: None,
        }
    }

    async fn round(&mut self, api: &Api<Lease>, leads: &watch::Sender<bool>, before: Instant) {
        match timeout(LEASE_DURATION / 2, self.attempt(api, before)).await {
            Ok(Ok(true)) => self.ours_until = Some(before + LEASE_DURATION),
            Ok(Ok(false)) => self.ours_until = None,
            Ok(Err(error)) => {
                if *leads.borrow() {
                    warn!(lease = self.candidate.lease, "renewing the lease: {error}");
                }
            }
            Err(_) => warn!(
                lease = self.candidate.lease,
                "renewing the lease: no answer in time"
            ),
        }
        // The next round may take as long as a renewal plus its deadline: step back before.
        let safe = before + LEASE_RENEW + LEASE_RENEW / 2;
        let now_leads = self.ours_until.is_some_and(|end| end > safe);
        let changed =
            leads.send_if_modified(|state| std::mem::replace(state, now_leads) != now_leads);
        if changed {
            let lease = &self.candidate.lease;
            info!(
                lease,
                "{}",
                if now_leads {
                    "leads now"
                } else {
                    "does not lead any more"
                }
            );
        }
    }

    /// `true` when the lease is ours after this attempt.
    async fn attempt(&mut self, api: &Api<Lease>, now: Instant) -> Result<bool> {
        let name = &self.candidate.lease;
        let written = match get(api, name).await? {
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        ..Default::default()
                    },
                    spec: Some(self.spec(None)),
                };
                crate::write::create(api, &lease).await
            }
            Some(mut lease) => {
                let spec = lease.spec.take().unwrap_or_default();
                if !self.may_take(&spec, now) {
                    return Ok(false);
                }
                lease.spec = Some(self.spec(Some(&spec)));
                lease.metadata.managed_fields = None;
                replace(api, &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ours, nobody's, or not renewed for as long as it says (by our own clock).
    fn may_take(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.candidate.holder {
            self.theirs = None;
            return true;
        }
        let renewed = format!("{holder} {:?}", spec.renew_time);
        let valid = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(LEASE_DURATION, Duration::from_secs);
        match &self.theirs {
            Some((seen, since)) if *seen == renewed => now.duration_since(*since) > valid,
            _ => {
                self.theirs = Some((renewed, now));
                false
            }
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let same = before
            .is_some_and(|spec| spec.holder_identity.as_deref() == Some(&self.candidate.holder));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.candidate.holder.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: match before {
                Some(spec) if same => spec.acquire_time.clone(),
                _ => Some(now.clone()),
            },
            renew_time: Some(now),
            lease_transitions: Some(if same { transitions } else { transitions + 1 }),
            ..Default::default()
        }
    }

    /// An orderly end lets the next replica lead at once.
    async fn give_up(&self, api: &Api<Lease>) {
        let Ok(Some(mut lease)) = get(api, &self.candidate.lease).await else {
            return;
        };
        let Some(spec) = &mut lease.spec else { return };
        if spec.holder_identity.as_deref() != Some(&self.candidate.holder) {
            return;
        }
        spec.holder_identity = None;
        lease.metadata.managed_fields = None;
        if let Err(error) = replace(api, &lease).await {
            warn!(lease = self.candidate.lease, "giving the lease up: {error}");
        }
    }
}

async fn replace(api: &Api<Lease>, lease: &Lease) -> Result<Lease> {
    let name = lease.metadata.name.clone().unwrap_or_default();
    let parameters = PostParams::default();
    let doing = format!("update Lease {name}");
    bounded(doing, api.replace(&name, &parameters, lease)).await
}

#[cfg(test)]
mod tests;
