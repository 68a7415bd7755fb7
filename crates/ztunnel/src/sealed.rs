//! What a process leaves for its successor in sealed memory: the last snapshot, and the certificates with their keys.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tulle_daemon::keeper::{Client, Restored};
use tulle_identity::{Certificates, Credentials};
use tulle_linux::memory;
use tulle_model::{Interner, Service, Workload};
use tulle_policy::Policy;
use tulle_proto::{
    AddressItem, decode_address, decode_authorization, encode_policy, encode_service,
    encode_workload,
};

use crate::limits::{SEAL_INTERVAL, SEAL_SHARE};
use crate::state::{Snapshot, State};

/// Key of the snapshot at the keeper.
const SNAPSHOT: &str = "snapshot";
/// Key of the certificates at the keeper.
const CERTIFICATES: &str = "certificates";

const POLICY: u8 = 1;
const ADDRESS: u8 = 2;
const CREDENTIALS: u8 = 3;

/// A snapshot in parts.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) policies: Vec<Policy>,
    pub(crate) services: Vec<Service>,
    pub(crate) workloads: Vec<Workload>,
}

/// Takes what a predecessor left. What cannot be read is logged and left out: the control plane sends it again.
pub(crate) fn take(restored: &mut Restored) -> Option<(Contents, Vec<Credentials>)> {
    let mut blob = |key: &str| {
        let fd = restored.remove(key)?.into_iter().next()?;
        let read = memory::read_sealed(&fd);
        read.inspect_err(
            |error| tracing::warn!(key, %error, "cannot read what the predecessor left"),
        )
        .ok()
    };
    let snapshot = blob(SNAPSHOT)?;
    let credentials = blob(CERTIFICATES).unwrap_or_default();
    Some((read_contents(&snapshot), read_credentials(&credentials)))
}

fn read_contents(blob: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let mut texts = Interner::default();
    for (kind, body) in Records(blob) {
        let outcome = match kind {
            POLICY => decode_authorization(body).map(|p| contents.policies.push(p)),
            _ => decode_address(body, &mut texts).map(|item| match item {
                AddressItem::Service(service) => contents.services.push(service),
                AddressItem::Workload(workload) => contents.workloads.push(workload),
            }),
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "cannot read a resource that the predecessor left");
        }
    }
    contents
}

fn read_credentials(blob: &[u8]) -> Vec<Credentials> {
    let each = Records(blob).map(|(_, body)| Credentials::from_bytes(body));
    each.filter_map(|credentials| {
        credentials
            .inspect_err(|error| tracing::warn!(%error, "cannot read a certificate that the predecessor left"))
            .ok()
    })
    .collect()
}

/// Keeps the sealed copies up to date for as long as it is polled: soon after a change, but never too often.
pub(crate) async fn keep(
    keeper: Client,
    state: Arc<State>,
    certificates: Certificates,
    mut certificates_changed: watch::Receiver<u64>,
) {
    let mut published = state.subscribe();
    published.mark_changed();
    certificates_changed.mark_changed();
    let mut pause = Duration::ZERO;
    loop {
        let changed = tokio::select! {
            changed = published.changed() => changed,
            changed = certificates_changed.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        // What comes within the pause is covered by one copy.
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        published.borrow_and_update();
        certificates_changed.borrow_and_update();
        let sealed = async {
            let snapshot = memory::seal(SNAPSHOT, |to| write_snapshot(&state.load(), to))?;
            put(&keeper, SNAPSHOT, snapshot).await?;
            let certificates =
                memory::seal(CERTIFICATES, |to| write_certificates(&certificates, to))?;
            put(&keeper, CERTIFICATES, certificates).await
        };
        if let Err(error) = sealed.await {
            tracing::warn!(%error, "cannot seal the state for a successor");
        }
        pause = SEAL_INTERVAL.max(began.elapsed() * SEAL_SHARE);
    }
}

async fn put(keeper: &Client, key: &str, blob: OwnedFd) -> io::Result<()> {
    keeper
        .put(key, &[blob.as_fd()])
        .await
        .map_err(io::Error::other)
}

/// Resource by resource: all of them at once would be as large as the snapshot itself.
fn write_snapshot(snapshot: &Snapshot, to: &mut impl Write) -> io::Result<()> {
    for policy in snapshot.policies.iter() {
        record(to, POLICY, &encode_policy(policy))?;
    }
    for service in snapshot.mesh.services() {
        record(to, ADDRESS, &encode_service(service))?;
    }
    for workload in snapshot.mesh.workloads() {
        record(to, ADDRESS, &encode_workload(workload))?;
    }
    Ok(())
}

fn write_certificates(certificates: &Certificates, to: &mut impl Write) -> io::Result<()> {
    for epoch in certificates.epochs() {
        record(to, CREDENTIALS, &epoch.credentials.to_bytes())?;
    }
    Ok(())
}

fn record(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    to.write_all(&[kind])?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(body)
}

/// Kind and body of each record; ends early when the blob is damaged.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, rest) = self.0.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (body, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        self.0 = rest;
        Some((*kind, body))
    }
}

#[cfg(test)]
mod tests;
