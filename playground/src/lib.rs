//! A real Kubernetes on one machine, for `make up` and for tests.
//!
//! [`Playground::up`] starts etcd, the API server, the controllers, the scheduler and cluster DNS on one *machine*,
//! and a kubelet, containerd and kube-proxy on each further one. A machine is a set of namespaces of this host (network,
//! mount, PID, UTS, IPC) with an `init` of its own: when that ends, everything on the machine ends. A playground's name
//! gives its namespaces, interfaces, control groups, subnets and directories, so that several run beside each other.
//!
//! ```no_run
//! use tulle_playground::{Options, Playground, Progress};
//! # fn main() -> anyhow::Result<()> {
//! let playground = Playground::up(&Options::named("demo"), &mut Progress::silent())?;
//! playground.kubectl().args(["get", "nodes"]).status()?;
//! // Dropped here: the playground goes down, unless `keep` was called.
//! # Ok(()) }
//! ```

mod cgroup;
mod cluster;
mod component;
mod config;
mod health;
pub mod image;
pub mod images;
pub mod interrupt;
mod limits;
mod load_balancer;
mod machine;
mod name;
mod network;
mod pki;
mod playground;
mod preflight;
mod prerequisites;
mod process;
mod programs;
mod progress;
mod start;
mod state;
mod teardown;
mod wiring;

pub use name::Name;
pub use network::{Subnets, choose_subnets};
pub use playground::{Health, Options, Playground};
pub use prerequisites::{Missing, go, install, prerequisites};
pub use programs::{Programs, cache};
pub use progress::Progress;
