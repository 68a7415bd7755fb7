//! Any answer of a server.

use std::sync::Arc;

use prost::Message as _;

use super::{Known, Rejection, complaint};
use crate::wire::Answer;

pub(crate) fn answer(data: &[u8]) {
    let Ok(answer) = Answer::decode(data) else {
        return;
    };
    let seen: Vec<(Arc<str>, String)> = answer
        .resources
        .into_iter()
        .map(|resource| (resource.name.into(), resource.version))
        .collect();
    let rejected: Vec<Rejection> = seen
        .iter()
        .step_by(2)
        .map(|(name, version)| Rejection {
            name: name.to_string(),
            error: version.clone(),
        })
        .collect();
    let mut known = Known::default();
    known.note(
        &answer.type_url,
        &seen,
        &answer.removed_resources,
        &rejected,
    );
    let versions = known.versions(&answer.type_url);
    for (name, _) in &seen {
        assert!(versions.contains_key(&**name), "forgotten: {name}");
    }
    for (name, version) in seen.iter().rev() {
        let last = seen.iter().rfind(|(other, _)| other == name);
        let refused = rejected.iter().any(|r| *r.name == **name);
        if last.is_some_and(|(_, last)| last == version) && !refused {
            assert_eq!(versions.get(&**name), Some(version));
        }
    }
    complaint(&rejected);
}
