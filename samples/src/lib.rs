//! Istio's samples, served by one small program.
//!
//! The `sample` binary plays every part of Bookinfo, httpbin and helloworld, and an echo for gateways; which part is chosen by its
//! first argument. [`IMAGES`] says under which image names a cluster must know the program, so that Istio's own
//! manifests apply unmodified; [`MANIFESTS`] are ours, with the same names.

pub mod app;
mod bookinfo;
mod echo;
mod extauthz;
mod grpc;
mod helloworld;
mod httpbin;
mod images;
mod issuer;
mod limits;
mod manifests;
mod role;
mod server;
mod upstream;
mod websocket;

pub use echo::tls as echo_tls;
pub use images::{Content, IMAGES, Image, PROGRAM_PATH, image_of};
pub use manifests::{MANIFESTS, Manifest};
pub use role::Role;
pub use server::{Server, listen};
