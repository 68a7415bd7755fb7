//! The waypoint as a real process between real network namespaces: HBONE in, HBONE out, with a control plane of our own server
//! crates. Needs root, and the command `ip`.
//!
//! This test program plays the proxy too, by an environment variable.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a panic is how a test fails"
)]

mod application;
mod client;
mod control;
mod destinations;
mod egress;
mod gateway;
mod hostile;
mod issuers;
mod mesh;
mod policies;
mod replicas;
mod routing;

/// Says that this process is the proxy.
const ROLE: &str = "TULLE_TEST_ROLE";

/// Not a test: the proxy comes in here.
#[test]
fn role() {
    if std::env::var(ROLE).as_deref() == Ok("waypoint") {
        tulle_telemetry::init_logging("waypoint");
        let options = tulle_waypoint::Options::from_env().unwrap();
        if let Err(error) = tulle_waypoint::run(options) {
            eprintln!("{error}");
            exit(1);
        }
        exit(0);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the code of this process is looked at"
)]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}
