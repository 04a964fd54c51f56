//! fastjson's `{"$ref":"path"}`: the same value as at an earlier place of the text.

use serde_json::{Map, Value};

use super::{JsonError, MAX_DEPTH};

/// References add at most this many values. Real bodies have a handful of references, each to a small object.
const MAX_ADDED: usize = 1 << 20;

/// Puts a copy of its target in the place of each reference whose path begins at the root (`$.a.b[0]`) and leads outside
/// of what contains the reference. A member with any other reference is left out, an element becomes `null`.
pub(super) fn resolve(mut root: Value) -> Result<Value, JsonError> {
    let mut references = Vec::new();
    find(&root, &mut Vec::new(), &mut references);
    let mut added = 0;
    // In the order of names, which is the order of the text, in which a target comes first: what it refers to itself is in place by now.
    for (place, path) in references {
        let target = parse_path(&path).filter(|target| !place.starts_with(target));
        let mut copy = None;
        if let Some(value) = target.and_then(|target| lookup(&mut root, &target)) {
            let size = measure(value);
            added += size.values;
            if added > MAX_ADDED || place.len() + size.depth > MAX_DEPTH {
                return Err(JsonError::References { values: MAX_ADDED, depth: MAX_DEPTH });
            }
            copy = (!size.has_references).then(|| value.clone());
        }
        put(&mut root, &place, copy);
    }
    Ok(root)
}

#[derive(Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Element(usize),
}

fn find(value: &Value, place: &mut Vec<Step>, found: &mut Vec<(Vec<Step>, String)>) {
    match value {
        Value::Object(members) => {
            if let Some(path) = reference(members) {
                found.push((place.clone(), path.to_owned()));
                return;
            }
            for (name, member) in members {
                place.push(Step::Member(name.clone()));
                find(member, place, found);
                place.pop();
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                place.push(Step::Element(index));
                find(element, place, found);
                place.pop();
            }
        }
        _ => {}
    }
}

/// The path, if this object is nothing but a reference.
fn reference(members: &Map<String, Value>) -> Option<&str> {
    if members.len() == 1 { members.get("$ref")?.as_str() } else { None }
}

/// `$` followed by `.name` and `[index]`.
fn parse_path(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(index) = rest.strip_prefix('[') {
            let (index, after) = index.split_once(']')?;
            steps.push(Step::Element(index.parse().ok()?));
            rest = after;
        } else {
            let name = rest.strip_prefix('.')?;
            let (name, after) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
            steps.push(Step::Member(name.to_owned()));
            rest = after;
        }
    }
    Some(steps)
}

fn lookup<'v>(root: &'v mut Value, path: &[Step]) -> Option<&'v mut Value> {
    path.iter().try_fold(root, |value, step| match (step, value) {
        (Step::Member(name), Value::Object(members)) => members.get_mut(name),
        (Step::Element(index), Value::Array(elements)) => elements.get_mut(*index),
        _ => None,
    })
}

fn put(root: &mut Value, place: &[Step], copy: Option<Value>) {
    let parent = place.split_last().and_then(|(last, parent)| Some((last, lookup(root, parent)?)));
    match (parent, copy) {
        (Some((Step::Member(name), Value::Object(members))), None) => drop(members.remove(name)),
        (_, copy) => {
            if let Some(value) = lookup(root, place) {
                *value = copy.unwrap_or_default();
            }
        }
    }
}

#[derive(Default)]
struct Size {
    values: usize,
    depth: usize,
    has_references: bool,
}

fn measure(value: &Value) -> Size {
    let around = |mut size: Size, inner: &Value| {
        let inner = measure(inner);
        size.values += inner.values;
        size.depth = size.depth.max(inner.depth + 1);
        size.has_references |= inner.has_references;
        size
    };
    let size = Size { values: 1, ..Size::default() };
    match value {
        Value::Object(members) => {
            let size = Size { has_references: reference(members).is_some(), ..size };
            members.values().fold(size, around)
        }
        Value::Array(elements) => elements.iter().fold(size, around),
        _ => size,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_from_the_root_is_followed_through_members_and_elements() {
        let value = json!({"a": {"b": [{"x": 1}, 2]}, "c": {"$ref": "$.a.b[0]"}, "d": [{"$ref": "$.c.x"}]});
        let resolved = resolve(value).unwrap();
        assert_eq!(resolved["c"], json!({"x": 1}));
        assert_eq!(resolved["d"], json!([1]));
    }

    #[test]
    fn what_leads_nowhere_or_upwards_is_left_out() {
        for path in ["..", "@", "$", "$.a", "$.a.b.c", "$.x", "$[0]", "$.a[", "$a", ""] {
            assert_eq!(resolve(json!({"a": {"b": {"$ref": path}}})).unwrap(), json!({"a": {}}), "{path}");
        }
        assert_eq!(resolve(json!({"$ref": "$"})).unwrap(), json!(null));
        assert_eq!(
            resolve(json!({"a": {"r": {"$ref": "$.b"}}, "b": {"r": {"$ref": "$.a"}}})).unwrap(),
            json!({"a": {}, "b": {"r": {}}})
        );
    }

    #[test]
    fn references_to_references_do_not_multiply_without_end() {
        let mut members = Map::from_iter([("a00".to_owned(), json!([0, 0, 0, 0, 0, 0, 0, 0]))]);
        for level in 1..40 {
            let reference = json!({"$ref": format!("$.a{:02}", level - 1)});
            members.insert(format!("a{level:02}"), json!([reference, reference, reference]));
        }
        assert!(matches!(resolve(Value::Object(members)), Err(JsonError::References { .. })));
    }

    #[test]
    fn references_do_not_nest_without_end() {
        let mut members = Map::from_iter([("a00".to_owned(), json!([]))]);
        for level in 1..90 {
            members.insert(format!("a{level:02}"), json!([{"$ref": format!("$.a{:02}", level - 1)}]));
        }
        assert!(matches!(resolve(Value::Object(members)), Err(JsonError::References { .. })));
    }
}
