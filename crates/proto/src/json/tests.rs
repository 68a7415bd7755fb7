use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    name: String,
    #[serde(default)]
    weight: u32,
}

#[test]
fn what_was_written_is_read() {
    let sample = Sample {
        name: "a".to_owned(),
        weight: 7,
    };
    let body = encode(&sample).unwrap();
    assert_eq!(decode::<Sample>(&body), Ok(sample));
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let refused = decode::<Sample>(br#"{"name":"a","newer":1}"#).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("Sample") && text.contains("newer"), "{text}");
}

#[test]
fn rubbish_and_floods_are_refused() {
    assert!(decode::<Sample>(b"\xff\xfe").is_err());
    assert!(decode::<Sample>(b"{\"name\":\"a\"} x").is_err());
    let long = vec![b' '; MAX_JSON + 1];
    let refused = decode::<Sample>(&long).unwrap_err().to_string();
    assert!(refused.contains("at most"), "{refused}");
    // Nesting is bounded by the parser: no stack overflow.
    let deep = "[".repeat(100_000);
    assert!(decode::<serde_json::Value>(deep.as_bytes()).is_err());
}

#[test]
fn what_json_cannot_hold_is_told() {
    let strange: BTreeMap<Vec<u8>, u8> = [(vec![1], 1)].into();
    assert!(encode(&strange).is_err());
}

#[test]
fn types_are_told_apart() {
    let names: std::collections::BTreeSet<_> = L7_TYPES.into_iter().collect();
    assert_eq!(names.len(), L7_TYPES.len());
    let prefix = "type.googleapis.com/tulle.mesh.v1.";
    assert!(names.iter().all(|name| name.starts_with(prefix)));
}
