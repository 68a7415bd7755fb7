//! The control plane: watch, translate, publish; the certificate authority; status.
//!
//! Told top-down: [`run`] starts the parts. [`watches`] reads the API server; one thread
//! ([`mesh`]) translates and hands what changed to the discovery server; [`ca`] lets proxies in
//! and signs, by the rules of [`impersonation`]; [`authority`], [`roots`] and [`serving`] keep
//! Secret, ConfigMaps and our own certificate; [`status`] tells users what became of their
//! objects; [`deployer`] makes what Gateways need to run, [`classes`] their classes, and [`webhook`]
//! completes gateways that users deploy themselves.

mod authority;
mod ca;
mod classes;
mod convergence;
mod deployer;
mod impersonation;
mod injection;
mod limits;
mod mesh;
mod mesh_config;
mod metrics;
mod options;
mod pages;
mod pods;
mod roots;
mod run;
mod serving;
mod status;
mod tokens;
mod typed;
mod unsupported;
mod watches;
mod webhook;

pub use authority::AuthorityUnavailable;
pub use deployer::{Proxy, Template};
pub use options::{Options, OptionsError, Ports};
pub use run::{Error, run};
pub use serving::ServingError;
