//! Expressions of Telemetry: filters of access logs, and values of metric tags. The part of CEL (Common Expression Language) that
//! they use: literals, attributes, comparisons, `&&`, `||`, `!`, `?:`, `+`, `in`, `has`, `string`, `int`, `size`, and the methods
//! `startsWith`, `endsWith`, `contains`, `matches`.
//!
//! As in Envoy, what refers to something that is not there has no value: a filter then does not hold, a tag is `unknown`.

mod evaluate;
mod parse;
mod pattern;
mod tokens;

use std::fmt;

pub use evaluate::Attributes;
pub use parse::{Expression, ExpressionError};

/// What an expression or attribute is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A whole number; times and spans are in milliseconds.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// Several.
    List(Vec<Self>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(truth) => truth.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::List(values) => {
                let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests;
