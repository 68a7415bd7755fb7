//! Typed manifests and profiles, rendered and applied; removal.
