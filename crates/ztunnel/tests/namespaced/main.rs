//! The node proxy as real processes between real network namespaces, with real redirect rules, a control plane of our own
//! server crates, and a scripted node agent. Needs root, and the commands `ip` and `nft`.
//!
//! This test program plays the keeper and the worker process too, by an environment variable.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a panic is how a test fails"
)]

mod control;
mod mesh;
mod names;
mod scenarios;
mod waypoints;

/// Says which process of the proxy this is.
const ROLE: &str = "TULLE_TEST_ROLE";

/// Not a test: the proxy's processes come in here.
#[test]
fn role() {
    match std::env::var(ROLE).as_deref() {
        Ok("keeper") => {
            let worker = [
                format!("{ROLE}=worker"),
                mesh::this_program(),
                "--exact".to_owned(),
                "role".to_owned(),
                "--nocapture".to_owned(),
            ];
            let code = tulle_ztunnel::main_keeper("/usr/bin/env", worker.map(Into::into).to_vec());
            exit(i32::from(code.unwrap()));
        }
        Ok("worker") => {
            tulle_telemetry::init_logging("ztunnel");
            let options = tulle_ztunnel::Options::from_env().unwrap();
            if let Err(error) = tulle_ztunnel::run(options) {
                eprintln!("{error}");
                exit(1);
            }
            exit(0);
        }
        _ => {}
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the code of these processes is looked at"
)]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}
