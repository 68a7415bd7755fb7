//! Namespaces that a listener or a Gateway lets attach.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use tulle_api::gateway::FromNamespaces;

use crate::labels::Labels;

/// Namespaces that may attach.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Allowed {
    All,
    Same,
    None,
    /// Those whose labels it selects.
    Selector(LabelSelector),
}

impl Allowed {
    /// As the object says, or else `default`. What is not known allows nobody.
    pub(crate) fn of(namespaces: Option<&FromNamespaces>, default: Self) -> Self {
        let Some(namespaces) = namespaces else {
            return default;
        };
        match namespaces.from.as_deref() {
            None => default,
            Some("All") => Self::All,
            Some("Same") => Self::Same,
            Some("Selector") => match &namespaces.selector {
                Some(selector) => Self::Selector(selector.clone()),
                None => Self::None,
            },
            Some(_) => Self::None,
        }
    }

    /// Whether something of namespace `other`, with these labels, may attach to something of namespace `own`.
    pub(crate) fn allows(&self, own: &str, other: &str, labels: &Labels) -> bool {
        match self {
            Self::All => true,
            Self::Same => own == other,
            Self::None => false,
            Self::Selector(selector) => selects(selector, labels),
        }
    }

    /// Whether labels of namespaces matter.
    pub(super) fn looks_at_labels(&self) -> bool {
        matches!(self, Self::Selector(_))
    }
}

/// Kubernetes' meaning of a selector; an operator that it does not know selects nothing.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten();
    let mut equal = equal.map(|(key, value)| labels.get(key).is_some_and(|v| **v == **value));
    let expressions = selector.match_expressions.iter().flatten();
    let mut expressions = expressions.map(|requirement| {
        let value = labels.get(&requirement.key);
        let mut values = requirement.values.iter().flatten();
        let listed = value.is_some_and(|v| values.any(|r| **r == **v));
        match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal.all(|fits| fits) && expressions.all(|fits| fits)
}
