//! Why a resource from the wire is refused.

use crate::limits::SHOWN;

/// A resource that cannot be understood; the sender erred. It is NACKed, and what was known before stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no such message.
    #[error(
        "not a valid {message}: {why}; check that control plane and proxy speak the same version"
    )]
    Malformed {
        /// Name of the message.
        message: &'static str,
        /// What the decoder says.
        why: String,
    },
    /// A field has a value that has no meaning here.
    #[error("{object}: field {field}: {value:?} {why}")]
    Field {
        /// Which resource, as far as it says.
        object: String,
        /// Path of the field.
        field: &'static str,
        /// Its value, shortened.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl DecodeError {
    pub(crate) fn field(
        object: &str,
        field: &'static str,
        value: impl ToString,
        why: &'static str,
    ) -> Self {
        Self::Field {
            object: object.chars().take(SHOWN).collect(),
            field,
            value: value.to_string().chars().take(SHOWN).collect(),
            why,
        }
    }
}
