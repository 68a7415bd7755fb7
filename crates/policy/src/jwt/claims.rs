//! What a verified token says.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::resource::JwtRule;
use crate::limits::{CLOCK_SKEW, LONGEST_PAYLOAD};

/// Claims that hold lists as texts with spaces in every token.
const SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

/// The claims of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    all: Map<String, Value>,
    /// `<iss>/<sub>`, when both are there.
    principal: Option<Arc<str>>,
    space_delimited: Vec<Arc<str>>,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Not three parts of base64url around JSON objects.
    Malformed,
    /// No rule accepts this issuer at the place where the token was found.
    UnknownIssuer,
    /// `exp` is over.
    Expired,
    /// `nbf` is not reached.
    NotYetValid,
    /// None of the accepted audiences is in `aud`.
    Audience,
    /// No key of the issuer verifies the signature.
    Signature,
    /// The issuer's keys could not be had.
    NoKeys,
    /// The issuer has no key that the token names.
    UnknownKey,
}

impl TokenError {
    /// As the client is told: the texts that Istio's clients know.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Malformed => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            Self::UnknownIssuer => "Jwt issuer is not configured",
            Self::Expired => "Jwt is expired",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Audience => "Audiences in Jwt are not allowed",
            Self::Signature => "Jwt verification fails",
            Self::NoKeys => "Jwks remote fetch is failed",
            Self::UnknownKey => "Jwks doesn't have key to match kid or alg from Jwt",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for TokenError {}

impl Claims {
    /// Of a token's payload, decoded from base64url.
    pub fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        if payload.len() > LONGEST_PAYLOAD {
            return Err(TokenError::Malformed);
        }
        let all: Map<String, Value> =
            serde_json::from_slice(payload).map_err(|_| TokenError::Malformed)?;
        let text = |name: &str| {
            all.get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let principal = match (text("iss"), text("sub")) {
            (Some(issuer), Some(subject)) => Some(format!("{issuer}/{subject}").into()),
            _ => None,
        };
        Ok(Self {
            all,
            principal,
            space_delimited: Vec::new(),
        })
    }

    /// Checks what can be checked without keys, at `now` (seconds since 1970), and notes what the rule says of claims.
    pub fn accept(mut self, rule: &JwtRule, now: u64) -> Result<Self, TokenError> {
        if self.issuer() != Some(&*rule.issuer) {
            return Err(TokenError::UnknownIssuer);
        }
        let skew = CLOCK_SKEW.as_secs();
        let seconds = |name: &str| match self.all.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(TokenError::Malformed),
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds since 1970 fit for millions of years"
        )]
        let (latest, earliest) = (
            now.saturating_sub(skew) as f64,
            now.saturating_add(skew) as f64,
        );
        if seconds("exp")?.is_some_and(|expires| expires < latest) {
            return Err(TokenError::Expired);
        }
        if seconds("nbf")?.is_some_and(|begins| begins > earliest) {
            return Err(TokenError::NotYetValid);
        }
        let accepted = |audience: &str| rule.audiences.iter().any(|a| same_audience(a, audience));
        if !rule.audiences.is_empty() && !self.any(&["aud"], &mut |audience| accepted(audience)) {
            return Err(TokenError::Audience);
        }
        self.space_delimited = rule.space_delimited.clone();
        Ok(self)
    }

    /// `iss`.
    pub fn issuer(&self) -> Option<&str> {
        self.all.get("iss")?.as_str()
    }

    /// `<iss>/<sub>`.
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// A claim by its path; a name with dots may be one step.
    pub fn get<T: AsRef<str>>(&self, path: &[T]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let mut value = self.all.get(first.as_ref())?;
        for step in rest {
            value = value.as_object()?.get(step.as_ref())?;
        }
        Some(value)
    }

    /// Whether any text of a claim fits: the claim itself, an element of its list, or a word of a list with spaces.
    pub fn any<T: AsRef<str>>(&self, path: &[T], fits: &mut dyn FnMut(&str) -> bool) -> bool {
        match self.get(path) {
            Some(Value::String(text)) => {
                fits(text)
                    || (self.is_list(path)
                        && text.split(' ').filter(|word| !word.is_empty()).any(fits))
            }
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(fits),
            _ => false,
        }
    }

    fn is_list<T: AsRef<str>>(&self, path: &[T]) -> bool {
        let [name] = path else { return false };
        let name = name.as_ref();
        SPACE_DELIMITED.contains(&name)
            || self.space_delimited.iter().any(|listed| **listed == *name)
    }

    /// A claim as a header's value: texts, numbers and truth values as they are, lists and objects as JSON in base64url
    /// (`encode`).
    pub fn header_value<T: AsRef<str>>(
        &self,
        path: &[T],
        encode: impl Fn(&[u8]) -> String,
    ) -> Option<String> {
        match self.get(path)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Number(number) => Some(number.to_string()),
            composite => Some(encode(composite.to_string().as_bytes())),
        }
    }
}

/// A scheme and a slash at the end make no difference, as in Istio.
fn same_audience(a: &str, b: &str) -> bool {
    fn bare(text: &str) -> &str {
        let text = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .unwrap_or(text);
        text.strip_suffix('/').unwrap_or(text)
    }
    bare(a) == bare(b)
}
