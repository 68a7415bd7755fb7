//! Host probes.
/// The node's side of the probe exemption.
#[derive(Debug)]
pub struct HostProbes {}
