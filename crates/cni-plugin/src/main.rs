//! The small static binary that the container runtime calls; asks the node agent and nothing else.
fn main() {}
