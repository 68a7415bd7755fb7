//! Runs `nft` in a network namespace, under a deadline and with bounded output.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::NetNs;
use crate::limits::{NFT_DEADLINE, NFT_OUTPUT};

/// Why `nft` did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The network namespace cannot be entered.
    #[error(
        "cannot enter the network namespace: {0} (the node agent needs CAP_SYS_ADMIN; is its container privileged?)"
    )]
    Enter(#[source] io::Error),
    /// The program is missing or cannot be started.
    #[error("cannot run nft: {0} (is the package nftables part of the image, and on the PATH?)")]
    Start(#[source] io::Error),
    /// Reading or writing its pipes failed.
    #[error("lost the connection to nft: {0}")]
    Pipe(#[source] io::Error),
    /// It was killed after the deadline.
    #[error("nft did not finish within {} s and was killed", NFT_DEADLINE.as_secs())]
    Deadline,
    /// The kernel or nft refused.
    #[error(
        "nft refused: {0} (kernel modules nf_tables, nft_ct, nft_nat, nft_redir and nft_reject_inet are needed)"
    )]
    Refused(String),
}

/// Applies `script` as one transaction: all of it or nothing.
pub(crate) fn apply(ns: &NetNs, script: &str) -> Result<(), NftError> {
    run(ns, &["-f", "-"], script).map(drop)
}

/// Runs `nft` with `arguments` and returns what it printed.
pub(crate) fn run(ns: &NetNs, arguments: &[&str], input: &str) -> Result<String, NftError> {
    let mut child = ns
        .enter(|| {
            Command::new("nft")
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        })
        .map_err(NftError::Enter)?
        .map_err(NftError::Start)?;
    let outcome = converse(&mut child, input);
    if outcome.is_err() {
        // Best effort: it may have ended by itself.
        let _already_gone = child.kill();
    }
    let status = child.wait().map_err(NftError::Pipe)?;
    let (printed, complaints) = outcome?;
    if status.success() {
        Ok(printed)
    } else {
        Err(NftError::Refused(one_line(&complaints)))
    }
}

/// Feeds the child and reads it to the end. The input is at most a few KiB and fits the pipe, and so do complaints.
fn converse(child: &mut Child, input: &str) -> Result<(String, String), NftError> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It ended early; its complaint says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            outcome => outcome.map_err(NftError::Pipe)?,
        }
    }
    let (mut printed, mut complaints) = (String::new(), String::new());
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    std::thread::scope(|threads| {
        let reader = threads.spawn(|| drain(stdout, &mut printed));
        let second = threads.spawn(|| drain(stderr, &mut complaints));
        let ended = wait_until_deadline(child);
        if !matches!(ended, Ok(true)) {
            let _already_gone = child.kill();
        }
        let read = reader
            .join()
            .unwrap_or(Ok(()))
            .and(second.join().unwrap_or(Ok(())));
        match ended {
            Ok(true) => read.map_err(NftError::Pipe),
            Ok(false) => Err(NftError::Deadline),
            Err(error) => Err(NftError::Pipe(error)),
        }
    })?;
    Ok((printed, complaints))
}

fn drain(from: Option<impl Read>, into: &mut String) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    from.take(NFT_OUTPUT).read_to_string(into).map(drop)
}

/// True when the child ended in time.
fn wait_until_deadline(child: &Child) -> io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let end = Instant::now() + NFT_DEADLINE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// nft repeats the offending line with carets; the first lines hold the message.
fn one_line(complaints: &str) -> String {
    let first: Vec<_> = complaints.lines().take(2).map(str::trim).collect();
    if first.is_empty() {
        "no reason given".into()
    } else {
        first.join(" | ")
    }
}
