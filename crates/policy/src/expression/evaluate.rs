//! A tree to a value.

use super::Value;
use super::parse::{Comparison, Expression, Function, Node};

/// What is known when an expression is evaluated.
pub trait Attributes {
    /// The value of an attribute by its path, for example `["request", "headers", "x-id"]`.
    fn get(&self, path: &[&str]) -> Option<Value>;
}

impl Expression {
    /// Its value; `None` when it refers to something that is not there, or makes no sense of types.
    pub fn value(&self, attributes: &dyn Attributes) -> Option<Value> {
        self.0.value(attributes)
    }

    /// Whether it holds, as a filter.
    pub fn holds(&self, attributes: &dyn Attributes) -> bool {
        self.value(attributes) == Some(Value::Bool(true))
    }
}

impl Node {
    fn value(&self, attributes: &dyn Attributes) -> Option<Value> {
        let value = |node: &Self| node.value(attributes);
        Some(match self {
            Self::Value(value) => value.clone(),
            Self::Path(path) => attribute(path, attributes)?,
            Self::List(items) => Value::List(items.iter().map(value).collect::<Option<_>>()?),
            Self::Not(node) => Value::Bool(!truth(value(node))?),
            // One side that decides is enough.
            Self::Both(sides) => match (truth(value(&sides.0)), truth(value(&sides.1))) {
                (Some(false), _) | (_, Some(false)) => Value::Bool(false),
                (Some(true), Some(true)) => Value::Bool(true),
                _ => return None,
            },
            Self::Either(sides) => match (truth(value(&sides.0)), truth(value(&sides.1))) {
                (Some(true), _) | (_, Some(true)) => Value::Bool(true),
                (Some(false), Some(false)) => Value::Bool(false),
                _ => return None,
            },
            Self::Compare(comparison, sides) => {
                Value::Bool(compare(*comparison, &value(&sides.0)?, &value(&sides.1)?)?)
            }
            Self::Plus(sides) => plus(value(&sides.0)?, value(&sides.1)?)?,
            Self::In(sides) => match value(&sides.1)? {
                Value::List(items) => {
                    let wanted = value(&sides.0)?;
                    Value::Bool(
                        items
                            .iter()
                            .any(|item| compare(Comparison::Equal, item, &wanted) == Some(true)),
                    )
                }
                _ => return None,
            },
            Self::Choose(parts) => {
                if truth(value(&parts.0))? {
                    value(&parts.1)?
                } else {
                    value(&parts.2)?
                }
            }
            Self::Has(path) => Value::Bool(attribute(path, attributes).is_some()),
            Self::Call(function, parts) => {
                let argument = match &parts.1 {
                    Some(argument) => Some(value(argument)?),
                    None => None,
                };
                call(*function, value(&parts.0)?, argument)?
            }
            Self::Matches(node, pattern) => match value(node)? {
                Value::Text(text) => Value::Bool(pattern.is_found_in(&text)),
                _ => return None,
            },
        })
    }
}

fn attribute(path: &[String], attributes: &dyn Attributes) -> Option<Value> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    attributes.get(&path)
}

fn truth(value: Option<Value>) -> Option<bool> {
    match value {
        Some(Value::Bool(truth)) => Some(truth),
        _ => None,
    }
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> Option<bool> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => a.partial_cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.partial_cmp(b),
        (Value::List(_), Value::List(_)) => {
            let equal = left == right;
            return match comparison {
                Comparison::Equal => Some(equal),
                Comparison::Different => Some(!equal),
                _ => None,
            };
        }
        (a, b) => match (number(a), number(b)) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            // Of different kinds: never equal, and without an order.
            _ => {
                return match comparison {
                    Comparison::Equal => Some(false),
                    Comparison::Different => Some(true),
                    _ => None,
                };
            }
        },
    }?;
    Some(match comparison {
        Comparison::Equal => order == Equal,
        Comparison::Different => order != Equal,
        Comparison::Less => order == Less,
        Comparison::LessOrEqual => order != Greater,
        Comparison::Greater => order == Greater,
        Comparison::GreaterOrEqual => order != Less,
    })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "sizes and counts are far below 2^53"
        )]
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

fn plus(left: Value, right: Value) -> Option<Value> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(b).map(Value::Int),
        (Value::Text(a), Value::Text(b)) => Some(Value::Text(a + &b)),
        (a, b) => Some(Value::Float(number(&a)? + number(&b)?)),
    }
}

fn call(function: Function, value: Value, argument: Option<Value>) -> Option<Value> {
    match (function, value, argument) {
        (Function::String, value, None) => Some(Value::Text(value.to_string())),
        (Function::Int, Value::Text(text), None) => text.parse().ok().map(Value::Int),
        (Function::Int, value @ Value::Int(_), None) => Some(value),
        (Function::Size, Value::Text(text), None) => {
            i64::try_from(text.chars().count()).ok().map(Value::Int)
        }
        (Function::Size, Value::List(items), None) => {
            i64::try_from(items.len()).ok().map(Value::Int)
        }
        (Function::StartsWith, Value::Text(text), Some(Value::Text(part))) => {
            Some(Value::Bool(text.starts_with(&part)))
        }
        (Function::EndsWith, Value::Text(text), Some(Value::Text(part))) => {
            Some(Value::Bool(text.ends_with(&part)))
        }
        (Function::Contains, Value::Text(text), Some(Value::Text(part))) => {
            Some(Value::Bool(text.contains(&part)))
        }
        _ => None,
    }
}
