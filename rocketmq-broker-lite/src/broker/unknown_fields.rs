//! [`UnknownFields`]: what a configuration file says beyond what this broker knows, so that it is still there when the file is written.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The fields of a JSON object that were read and not understood.
#[derive(Debug, Default, PartialEq)]
pub(super) struct UnknownFields(BTreeMap<String, Unknown>);

#[derive(Debug, PartialEq)]
enum Unknown {
    /// All of it.
    Field(Value),
    /// Only something within it. Goes when the field goes, as with the settings of a topic that is deleted.
    Within(UnknownFields),
}

impl UnknownFields {
    /// What `read` has and `known`, the same as this broker would write it, has not.
    pub(super) fn of(read: Value, known: &Value) -> Self {
        let (Value::Object(read), Value::Object(known)) = (read, known) else { return Self::default() };
        let unknown = read.into_iter().filter_map(|(name, value)| {
            let unknown = match known.get(&name) {
                None => Unknown::Field(value),
                Some(known) => Unknown::Within(Self::of(value, known)),
            };
            let nothing = matches!(&unknown, Unknown::Within(within) if within.is_empty());
            (!nothing).then_some((name, unknown))
        });
        Self(unknown.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets a field that is no use to anybody.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Adds the fields to what is about to be written.
    pub(super) fn put_back(&self, object: &mut Map<String, Value>) {
        for (name, unknown) in &self.0 {
            match (unknown, object.get_mut(name)) {
                (Unknown::Field(value), None) => {
                    object.insert(name.clone(), value.clone());
                }
                (Unknown::Within(within), Some(Value::Object(object))) => within.put_back(object),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_understood_comes_back_where_it_was() {
        let read = json!({"version": 1, "new": [1], "topics": {"a": {"queues": 4, "color": "red"}, "b": {"queues": 1, "x": 0}}});
        let known = json!({"version": 1, "topics": {"a": {"queues": 4}, "b": {"queues": 1}}});
        let unknown = UnknownFields::of(read, &known);
        let mut written = json!({"version": 2, "topics": {"a": {"queues": 8}, "c": {"queues": 2}}});
        unknown.put_back(written.as_object_mut().unwrap());
        let expected = json!({"version": 2, "new": [1], "topics": {"a": {"queues": 8, "color": "red"}, "c": {"queues": 2}}});
        assert_eq!(written, expected, "b is deleted and stays so");
    }

    #[test]
    fn what_was_understood_whole_leaves_nothing() {
        let value = json!({"version": 1, "topics": {"a": {}}});
        assert!(UnknownFields::of(value.clone(), &value).is_empty());
        assert!(UnknownFields::of(json!([1]), &json!({})).is_empty());
    }
}
