//! The definitions, as users of `kubectl` meet them.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::crds;

/// One line for each field: where, what, and what it may be.
fn outline(crd: &CustomResourceDefinition) -> String {
    let names = &crd.spec.names;
    let mut text = format!(
        "# {} {:?}",
        crd.metadata.name.as_deref().unwrap(),
        names.short_names.clone().unwrap_or_default()
    );
    for version in &crd.spec.versions {
        let stored = if version.storage { " (stored)" } else { "" };
        write!(text, " {}{stored}", version.name).unwrap();
    }
    text.push('\n');
    let schema = crd.spec.versions[0].schema.as_ref().unwrap();
    let root = schema.open_api_v3_schema.as_ref().unwrap();
    fields(
        &root.properties.as_ref().unwrap()["spec"],
        "spec",
        &mut text,
    );
    text
}

fn fields(schema: &JSONSchemaProps, path: &str, text: &mut String) {
    write!(text, "{path} {}", schema.type_.as_deref().unwrap_or("any")).unwrap();
    for value in schema.enum_.iter().flatten() {
        write!(text, " {}", value.0).unwrap();
    }
    if let Some(required) = schema
        .required
        .as_ref()
        .filter(|required| !required.is_empty())
    {
        write!(text, " required={}", required.join(",")).unwrap();
    }
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        text.push_str(" free");
    }
    text.push('\n');
    for (name, field) in schema.properties.iter().flatten() {
        fields(field, &format!("{path}.{name}"), text);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        fields(items, &format!("{path}[]"), text);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        fields(values, &format!("{path}{{}}"), text);
    }
}

/// Where the outlines are kept. After a change on purpose: run the test with `TULLE_BLESS=1` and read the difference.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/definitions.txt");

#[test]
fn fields_are_istios() {
    let outlines: String = crds().iter().map(outline).collect();
    if std::env::var_os("TULLE_BLESS").is_some() {
        std::fs::write(GOLDEN, &outlines).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    for (ours, expected) in outlines.lines().zip(golden.lines()) {
        assert_eq!(ours, expected);
    }
    assert_eq!(outlines.lines().count(), golden.lines().count());
}

#[test]
fn names_and_versions() {
    let all = crds();
    assert_eq!(all.len(), 16);
    for crd in &all {
        let name = crd.metadata.name.as_deref().unwrap();
        assert_eq!(
            name,
            format!("{}.{}", crd.spec.names.plural, crd.spec.group)
        );
        assert_eq!(crd.spec.scope, "Namespaced");
        assert_eq!(
            crd.spec.names.categories.as_ref().unwrap()[0],
            "istio-io",
            "{name}"
        );
        let stored = crd
            .spec
            .versions
            .iter()
            .filter(|version| version.storage)
            .count();
        assert_eq!(stored, 1, "{name}");
        for version in &crd.spec.versions {
            assert!(
                version.served && version.subresources.as_ref().unwrap().status.is_some(),
                "{name}"
            );
        }
    }
    let versions = |name: &str| -> Vec<String> {
        let crd = all
            .iter()
            .find(|crd| crd.metadata.name.as_deref() == Some(name))
            .unwrap();
        crd.spec
            .versions
            .iter()
            .map(|version| version.name.clone())
            .collect()
    };
    assert_eq!(
        versions("virtualservices.networking.istio.io"),
        ["v1", "v1alpha3", "v1beta1"]
    );
    assert_eq!(
        versions("authorizationpolicies.security.istio.io"),
        ["v1", "v1beta1"]
    );
    assert_eq!(versions("envoyfilters.networking.istio.io"), ["v1alpha3"]);
}

/// What the API server asks of a structural schema, and what keeps strict validation strict.
fn structural(schema: &JSONSchemaProps, path: &str) {
    let int_or_text = schema.x_kubernetes_int_or_string == Some(true);
    assert!(schema.type_.is_some() || int_or_text, "{path}: no type");
    assert!(
        schema.ref_path.is_none() && schema.nullable.is_none(),
        "{path}"
    );
    assert!(schema.one_of.is_none() && schema.all_of.is_none(), "{path}");
    assert!(schema.any_of.is_none() || int_or_text, "{path}: anyOf");
    assert!(
        !schema.enum_.iter().flatten().any(|value| value.0.is_null()),
        "{path}: null"
    );
    let known = ["int32", "int64", "double", "float", "date-time", "byte"];
    assert!(
        schema
            .format
            .as_deref()
            .is_none_or(|format| known.contains(&format)),
        "{path}: {:?}",
        schema.format
    );
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        let free = ["pluginConfig", "value"];
        assert!(
            free.iter().any(|name| path.ends_with(name)),
            "{path} swallows unknown fields"
        );
    } else if schema.type_.as_deref() == Some("object") {
        // A message without fields would be one that nobody can fill in.
        let filled = schema.properties.is_some() || schema.additional_properties.is_some();
        assert!(
            filled || path.ends_with("metadata"),
            "{path}: an object without fields"
        );
    }
    for (name, field) in schema.properties.iter().flatten() {
        structural(field, &format!("{path}.{name}"));
    }
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => structural(items, &format!("{path}[]")),
        Some(JSONSchemaPropsOrArray::Schemas(_)) => panic!("{path}: a list of schemas"),
        None => assert_ne!(schema.type_.as_deref(), Some("array"), "{path}: no items"),
    }
    match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => structural(values, &format!("{path}{{}}")),
        Some(JSONSchemaPropsOrBool::Bool(_)) => panic!("{path}: additionalProperties"),
        None => {}
    }
}

#[test]
fn schemas_are_structural() {
    for crd in crds() {
        for version in &crd.spec.versions {
            let schema = version
                .schema
                .as_ref()
                .unwrap()
                .open_api_v3_schema
                .as_ref()
                .unwrap();
            for (name, field) in schema.properties.iter().flatten() {
                structural(field, &format!("{}.{name}", crd.spec.names.kind));
            }
        }
    }
}
