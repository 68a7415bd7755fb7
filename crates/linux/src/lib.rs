//! The kernel mechanisms that the mesh stands on: network namespaces, sockets inside them, redirect rules, probe
//! rules, passing file descriptors, sealed memory, and finding pods among processes.
//!
//! All unsafe code of the workspace is here. Everything is synchronous except [`seqpacket`]; nothing here knows of
//! Kubernetes beyond the pod UID that a cgroup path carries.

mod limits;
pub mod memory;
mod netlink;
pub mod netns;
mod nft;
pub mod pods;
pub mod probes;
pub mod process;
pub mod redirect;
pub mod seqpacket;
pub mod socket;

pub use netns::{NetNs, NetNsId};
pub use probes::HostProbes;
pub use redirect::{Redirect, RedirectError};
pub use seqpacket::{SeqListener, SeqStream};
