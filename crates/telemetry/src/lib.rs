//! Metrics and the access log, in Istio's names and order.
