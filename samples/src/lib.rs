//! Istio's samples, served by one small program.
