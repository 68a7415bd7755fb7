//! Typed manifests and profiles, rendered and applied; removal.
//!
//! [`render`] turns [`Values`] into the objects of the mesh, named and labelled as Istio's, so that dashboards, tools and
//! habits keep working. [`install`] applies them and waits until everything runs, saying why when it does not;
//! [`uninstall`] first takes every pod out of the mesh, then removes what was installed. Nothing here prints:
//! progress goes to a [`Progress`].

mod error;
mod events;
mod install;
mod limits;
mod manifests;
mod preflight;
mod progress;
mod ready;
mod status;
mod uninstall;
mod values;

pub use error::{Error, Missing};
pub use install::{InstallOptions, Installed, install};
pub use manifests::{Phase, Rendered, objects, render, to_yaml};
pub use preflight::{MINIMUM_MINOR, preflight};
pub use progress::{Event, Progress, Silent};
pub use ready::{Component, Readiness};
pub use status::{ComponentStatus, NodeStatus, Status, status};
pub use uninstall::{UninstallOptions, Uninstalled, uninstall};
pub use values::{CniValues, PilotValues, ProxyValues, Resources, SetError, Values, ZtunnelValues};
