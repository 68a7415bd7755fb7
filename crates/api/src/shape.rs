//! How most of Istio's types are written down: all fields optional, enums closed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Time spans are texts such as `1.5s`.
pub type Duration = String;

/// A part that Istio leaves free (a protobuf `Struct`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FreeForm(pub serde_json::Value);

impl JsonSchema for FreeForm {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FreeForm".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}

/// Whether a field can be left out.
pub(crate) fn absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A struct whose fields may be left out, except those marked with `=`.
macro_rules! shape {
    ($(#[$meta:meta])* $name:ident {
        $(= $(#[$required_meta:meta])* $required:ident: $required_type:ty,)*
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
    }) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        #[expect(missing_docs, reason = "the fields are Istio's, explained in its reference")]
        $(#[$meta])*
        pub struct $name {
            $($(#[$required_meta])* pub $required: $required_type,)*
            $(
                $(#[$field_meta])*
                #[serde(default, skip_serializing_if = "crate::shape::absent")]
                pub $field: $type,
            )*
        }
    };
}

/// An enum of texts. What a newer Istio adds reads as `Unknown`; the schema does not list it.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[expect(missing_docs, reason = "the values are Istio's, explained in its reference")]
        pub enum $name {
            $(#[serde(rename = $text)] $variant,)*
            #[serde(other)]
            #[schemars(skip)]
            Unknown,
        }
    };
}

pub(crate) use {choice, shape};
