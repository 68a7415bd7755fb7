//! What a CONNECT tells about the client. Telemetry only: nobody may trust it.

use std::net::SocketAddr;

use tulle_model::{Service, Workload};

/// `baggage` of a workload, in Istio's order; fields without value are left out.
pub(crate) fn baggage(workload: &Workload) -> Option<String> {
    let kind = format!("k8s.{}.name", workload.kind.as_str());
    let fields = [
        ("k8s.cluster.name", &workload.cluster),
        ("k8s.namespace.name", &workload.namespace),
        (kind.as_str(), &workload.workload_name),
        ("service.name", &workload.canonical_name),
        ("service.version", &workload.canonical_revision),
        ("cloud.region", &workload.locality.region),
        ("cloud.availability_zone", &workload.locality.zone),
    ];
    let mut text = String::new();
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push('=');
        text.push_str(value);
    }
    (!text.is_empty()).then_some(text)
}

/// `for="ip:port"`, and the service that was addressed.
pub(super) fn forwarded(source: SocketAddr, service: Option<&Service>) -> String {
    match service {
        Some(service) => format!("for=\"{source}\";host={}", service.hostname),
        None => format!("for=\"{source}\""),
    }
}

/// W3C trace context, not sampled.
pub(super) fn traceparent(trace: u128, span: u64) -> String {
    // All zeros would be invalid.
    format!("00-{:032x}-{:016x}-00", trace.max(1), span.max(1))
}
