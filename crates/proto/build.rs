//! Compiles the wire messages without protoc.

use std::path::Path;

const FILES: [&str; 5] = [
    "workload.proto",
    "authorization.proto",
    "zds.proto",
    "ca.proto",
    "discovery.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, [root])?;
    tonic_prost_build::configure()
        .bytes(".envoy.service.discovery.v3")
        // Ordered, so that equal workloads give equal bytes and so equal versions.
        .btree_map(".istio.workload")
        .compile_fds(descriptors)?;
    Ok(())
}
