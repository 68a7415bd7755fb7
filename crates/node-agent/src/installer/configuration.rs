//! A CNI configuration file as a value.

use serde_json::{Map, Value, json};

/// A list of plugins. A file with a single plugin is read as a list of one.
pub(super) struct Conflist(Map<String, Value>);

impl Conflist {
    /// Reads either form; says what is wrong otherwise.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Value::Object(mut object) = value else {
            return Err("it is not a JSON object".into());
        };
        if let Some(plugins) = object.get("plugins") {
            let plugins = plugins.as_array().ok_or("its \"plugins\" is not a list")?;
            if plugins.is_empty() {
                return Err("its list of plugins is empty".into());
            }
            return Ok(Self(object));
        }
        if object.get("type").and_then(Value::as_str).is_none() {
            return Err("it has neither \"plugins\" nor \"type\"".into());
        }
        let mut list = Map::new();
        for key in ["cniVersion", "name"] {
            if let Some(value) = object.remove(key) {
                list.insert(key.into(), value);
            }
        }
        list.insert("plugins".into(), json!([object]));
        Ok(Self(list))
    }

    /// Makes `entry` the one of its type and the last of all; true when that changed anything.
    pub(super) fn ensure_last(&mut self, entry: &Value) -> bool {
        let Some(plugins) = self.plugins() else {
            return false;
        };
        let before = plugins.clone();
        plugins.retain(|plugin| plugin.get("type") != entry.get("type"));
        plugins.push(entry.clone());
        *plugins != before
    }

    /// Takes the plugin of this type out; true when it was there.
    pub(super) fn remove(&mut self, kind: &str) -> bool {
        let Some(plugins) = self.plugins() else {
            return false;
        };
        let before = plugins.len();
        plugins.retain(|plugin| plugin.get("type").and_then(Value::as_str) != Some(kind));
        plugins.len() != before
    }

    /// The file's text.
    pub(super) fn render(&self) -> Vec<u8> {
        let mut text = format!("{:#}", Value::Object(self.0.clone())).into_bytes();
        text.push(b'\n');
        text
    }

    fn plugins(&mut self) -> Option<&mut Vec<Value>> {
        self.0.get_mut("plugins").and_then(Value::as_array_mut)
    }
}
