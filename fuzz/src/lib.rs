//! Arbitrary bytes for every parser of what peers send.
//!
//! A target is a plain function over bytes that panics where a promise is broken; those that need private parts of a crate live
//! there, in its `fuzz` module. They are run in three ways, all on stable Rust (docs/testing.md): bounded and seeded with the
//! other tests, without end by `cargo run -p tulle-fuzz`, and guided by coverage in `guided/`. An input that once broke something
//! stays in `regressions/`.

pub mod mutate;
mod seeds;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// One parser, or a few that belong together.
#[derive(Clone, Copy)]
pub struct Target {
    /// As the command line has it.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that the parser understands, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Inputs in a bounded run.
    pub rounds: u32,
}

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target {
        name,
        run,
        seeds,
        rounds: 4000,
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("hbone-frames", tulle_hbone::fuzz::frames, seeds::frames),
    target("hbone-hpack", tulle_hbone::fuzz::hpack, seeds::hpack),
    target("hbone-connect", tulle_hbone::fuzz::connect, seeds::connect),
    target(
        "ztunnel-authority",
        tulle_ztunnel::fuzz::authority,
        seeds::authority,
    ),
    target("http-head", tulle_http::fuzz::head, seeds::head),
    target("http-chunks", tulle_http::fuzz::chunks, seeds::chunks),
    target("http-frames", tulle_http::fuzz::frames, seeds::frames),
    target("dns-query", tulle_dns::fuzz::query, seeds::query),
    target("dns-answer", tulle_dns::fuzz::answer, seeds::answer),
    target("jwt", tulle_identity::fuzz::token, seeds::token),
    target(
        "csr",
        tulle_identity::fuzz::certificate_request,
        seeds::certificate_request,
    ),
    target(
        "certificate",
        tulle_identity::fuzz::certificate,
        seeds::certificate,
    ),
    Target {
        // Sockets, and a handshake each.
        rounds: 300,
        ..target(
            "handshake",
            tulle_identity::fuzz::handshake,
            seeds::handshake,
        )
    },
    target("address", tulle_proto::fuzz::address, seeds::address),
    target(
        "authorization",
        tulle_proto::fuzz::authorization,
        seeds::authorization,
    ),
    target("resource", resource, seeds::resource),
    target("zds", tulle_proto::fuzz::zds, seeds::zds),
    target("xds-answer", tulle_xds::fuzz::answer, seeds::xds_answer),
    target(
        "xds-requests",
        tulle_xds::fuzz::requests,
        seeds::xds_requests,
    ),
];

/// Resources of our own type URLs: what was understood can be said again, and means the same.
fn resource(data: &[u8]) {
    use tulle_proto::json::{decode, encode};
    use tulle_route::resource as r;

    fn again<T>(data: &[u8])
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let Ok(value) = decode::<T>(data) else {
            return;
        };
        match encode(&value) {
            Ok(said) => assert_eq!(decode::<T>(&said), Ok(value)),
            Err(why) => panic!("{value:?} {why}"),
        }
    }
    again::<r::Gateway>(data);
    again::<r::HttpRoute>(data);
    again::<r::StreamRoute>(data);
    again::<r::DestinationPolicy>(data);
    again::<r::RateLimit>(data);
}

/// Runs a target on one input; what it said when it panicked.
///
/// # Errors
/// When the input breaks a promise.
pub fn try_one(target: &Target, input: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|cause| {
        let what = words(&*cause);
        format!("{}: {what}\ninput: {}", target.name, hex(input))
    })
}

fn words(cause: &(dyn Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
}

fn hex(input: &[u8]) -> String {
    input.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Inputs that once broke the target.
///
/// # Errors
/// When they cannot be read.
pub fn regressions(target: &Target) -> std::io::Result<Vec<Vec<u8>>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("regressions")
        .join(target.name);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| std::fs::read(entry?.path())).collect()
}

/// Writes seeds and regressions of a target into a directory, a file each.
///
/// # Errors
/// When they cannot be read or written.
pub fn write_seeds(target: &Target, directory: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let all = (target.seeds)().into_iter().chain(regressions(target)?);
    for (number, input) in all.enumerate() {
        std::fs::write(directory.join(format!("seed-{number}")), input)?;
    }
    Ok(())
}
