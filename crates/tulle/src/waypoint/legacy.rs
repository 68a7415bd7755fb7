//! Forms of old tutorials: they are recognised, and the modern form is shown. None of them is acted upon.

use tulle_api::contract::CLASS_WAYPOINT;
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::kube::api::DynamicObject;

use super::class;
use crate::cli::waypoint::LegacyArguments;
use crate::exit::Usage;

/// The class of the first preview.
const CLASS_MESH: &str = "istio-mesh";
/// Annotations that tied a waypoint to one account.
const FOR_ACCOUNT: [&str; 2] = ["istio.io/for-service-account", "istio.io/service-account"];

/// `--service-account`, which istioctl had until 1.21.
pub(super) fn refuse(arguments: &LegacyArguments) -> Result<(), Usage> {
    let Some(account) = &arguments.service_account else {
        return Ok(());
    };
    Err(Usage(format!(
        "--service-account is of Istio before 1.22: a waypoint is no longer tied to an account. Make a waypoint, and name it on what \
         is to use it:\n  \
         tulle waypoint apply --name {account}-waypoint --for workload\n  \
         kubectl label pod -l <the pods of {account}> istio.io/use-waypoint={account}-waypoint\n\
         or, for a Service:\n  \
         tulle waypoint apply --name {account}-waypoint\n  \
         kubectl label service <name> istio.io/use-waypoint={account}-waypoint"
    )))
}

/// What is old about a Gateway, with what to write instead.
pub(super) fn hints(gateway: &DynamicObject) -> Vec<String> {
    let name = gateway.name_any();
    let namespace = gateway.namespace().unwrap_or_default();
    let which = format!("Gateway {namespace}/{name}");
    let mut hints = Vec::new();
    if class(gateway) == CLASS_MESH {
        hints.push(format!(
            "{which} has gatewayClassName {CLASS_MESH}, a form of the first preview that nobody acts upon. Write gatewayClassName: \
             {CLASS_WAYPOINT} and a listener with port 15008 and protocol HBONE (`tulle waypoint generate -n {namespace} --name {name}` prints \
             it), and label what is to use it: kubectl label namespace {namespace} istio.io/use-waypoint={name}"
        ));
    }
    for annotation in FOR_ACCOUNT {
        let Some(account) = gateway.annotations().get(annotation) else {
            continue;
        };
        hints.push(format!(
            "{which} has the annotation {annotation}: {account}, a form of Istio before 1.22 that has no effect. Label the pods of that \
             account instead: kubectl label pod -n {namespace} -l <selector> istio.io/use-waypoint={name}, and the waypoint \
             istio.io/waypoint-for=workload. Policies that select istio.io/gateway-name are ignored by waypoints: give them \
             targetRefs [{{kind: Gateway, group: gateway.networking.k8s.io, name: {name}}}]"
        ));
    }
    hints
}

#[cfg(test)]
mod tests;
