//! Header edits.

use http::HeaderMap;

use crate::compiled::Edits;

impl Edits {
    /// Set, then add, then remove.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
        for name in &self.remove {
            while headers.remove(name).is_some() {}
        }
    }
}
