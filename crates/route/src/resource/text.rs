//! How texts and host names are compared.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TextMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// The whole text matches this RE2 expression. The control plane has compiled it once, so it does compile.
    Regex(Arc<str>),
    /// There is one at all.
    Present,
}

/// A header or query parameter and how it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedMatch {
    /// Header names are in lower case.
    pub name: Arc<str>,
    /// How the value is compared.
    pub value: TextMatch,
}

/// A host name in lower case: exact, `*.suffix`, or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostPattern(pub Arc<str>);
