//! The Kubernetes API: watches into stores, apply, status, leases.
