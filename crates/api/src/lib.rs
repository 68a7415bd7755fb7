//! Kubernetes, Istio and Gateway API resources, and the names of the contract.
