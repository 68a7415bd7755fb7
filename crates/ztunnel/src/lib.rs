//! The node proxy: inbound, outbound and passthrough.
