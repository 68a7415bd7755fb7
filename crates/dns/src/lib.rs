//! In-mesh names, forwarding of all others, and resolving on demand.
