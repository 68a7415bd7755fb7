//! CustomResourceDefinitions of all Istio kinds, as Istio names and serves them, and of our own.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::extensions::{TrafficExtension, WasmPlugin};
use crate::networking::{
    DestinationRule, EnvoyFilter, Gateway, ProxyConfig, ServiceEntry, Sidecar, VirtualService,
    WorkloadEntry, WorkloadGroup,
};
use crate::rate_limit::RateLimitPolicy;
use crate::security::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use crate::telemetry::Telemetry;

/// Whether an object may leave its `spec` out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// Then it is empty.
    Optional,
    /// It has fields that must be there.
    Required,
}

/// All definitions, in order of name. Further served versions share the schema of the stored one.
pub fn crds() -> Vec<CustomResourceDefinition> {
    use Spec::{Optional, Required};
    let networking = &["v1alpha3", "v1beta1"];
    let mut all = vec![
        definition(TrafficExtension::crd(), &[], Required),
        definition(WasmPlugin::crd(), &[], Required),
        definition(DestinationRule::crd(), networking, Required),
        definition(EnvoyFilter::crd(), &[], Optional),
        definition(Gateway::crd(), networking, Optional),
        definition(ProxyConfig::crd(), &[], Optional),
        definition(ServiceEntry::crd(), networking, Required),
        definition(Sidecar::crd(), networking, Optional),
        definition(VirtualService::crd(), networking, Optional),
        definition(WorkloadEntry::crd(), networking, Required),
        definition(WorkloadGroup::crd(), networking, Required),
        definition(AuthorizationPolicy::crd(), &["v1beta1"], Optional),
        definition(PeerAuthentication::crd(), &["v1beta1"], Optional),
        definition(RequestAuthentication::crd(), &["v1beta1"], Optional),
        definition(Telemetry::crd(), &["v1alpha1"], Optional),
        definition(RateLimitPolicy::crd(), &[], Required),
    ];
    all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    all
}

fn definition(
    mut crd: CustomResourceDefinition,
    also: &[&str],
    spec: Spec,
) -> CustomResourceDefinition {
    let labels = [("app", "istio-pilot"), ("istio", "crd")];
    let labels = labels
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    crd.metadata.labels = Some(labels.collect());
    for version in &mut crd.spec.versions {
        let schema = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            tighten(schema);
            if spec == Spec::Optional {
                default_spec(schema);
            }
        }
    }
    let stored: Vec<_> = crd.spec.versions.clone();
    for version in stored {
        for name in also {
            let mut served = version.clone();
            served.name = (*name).to_owned();
            served.storage = false;
            crd.spec.versions.push(served);
        }
    }
    crd
}

/// An object without `spec` gets an empty one, so that readers always find one.
fn default_spec(schema: &mut JSONSchemaProps) {
    if let Some(required) = &mut schema.required {
        required.retain(|name| name != "spec");
    }
    let spec = schema
        .properties
        .as_mut()
        .and_then(|properties| properties.get_mut("spec"));
    if let Some(spec) = spec {
        spec.default = Some(JSON(serde_json::json!({})));
    }
}

/// Makes a generated schema what Kubernetes and Istio mean by it: formats that the API server knows, and no nulls, so
/// that a field is either there or not.
fn tighten(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    let unsigned = schema
        .format
        .as_deref()
        .is_some_and(|format| format.starts_with("uint"));
    if unsigned {
        if schema.format.as_deref() == Some("uint32") && schema.maximum.is_none() {
            schema.maximum = Some(f64::from(u32::MAX));
        }
        schema.format = None;
    }
    let properties = schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut());
    properties.for_each(tighten);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tighten(items),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter_mut().for_each(tighten),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tighten(values);
    }
}
