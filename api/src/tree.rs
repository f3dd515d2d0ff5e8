//! Short ways to read JSON trees. Absent, null and wrongly typed values read as "not set", so that
//! code built on them is total: it never panics, whatever a client sends.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;
static NO_ITEMS: Vec<Value> = Vec::new();

/// The value of a field; null if it is not there.
pub(crate) fn get<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&NULL)
}

/// The value at a path of fields; null if it is not there.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, name| get(value, name))
}

/// The text of a field; empty if it is not there.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    get(value, name).as_str().unwrap_or_default()
}

/// The text of a field if it is set (pointer semantics: set and empty differ from unset).
pub(crate) fn text_opt<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    get(value, name).as_str()
}

/// The integer of a field; 0 if it is not there.
pub(crate) fn int(value: &Value, name: &str) -> i64 {
    int_opt(value, name).unwrap_or(0)
}

/// The integer of a field if it is set.
pub(crate) fn int_opt(value: &Value, name: &str) -> Option<i64> {
    get(value, name).as_i64()
}

/// The boolean of a field; false if it is not there.
pub(crate) fn flag(value: &Value, name: &str) -> bool {
    get(value, name).as_bool().unwrap_or(false)
}

/// The boolean of a field if it is set.
pub(crate) fn flag_opt(value: &Value, name: &str) -> Option<bool> {
    get(value, name).as_bool()
}

/// The items of a list field; none if it is not there.
pub(crate) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    get(value, name).as_array().unwrap_or(&NO_ITEMS)
}

/// The strings of a list field.
pub(crate) fn texts<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    list(value, name).iter().map(|item| item.as_str().unwrap_or_default())
}

/// The object in a field, if there is one.
pub(crate) fn object<'a>(value: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    get(value, name).as_object()
}

/// The entries of a map field; none if it is not there.
pub(crate) fn entries<'a>(
    value: &'a Value,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object(value, name).into_iter().flatten()
}

/// Whether a field is set to something other than null.
pub(crate) fn has(value: &Value, name: &str) -> bool {
    !get(value, name).is_null()
}

/// The object in a field, made if it is not there. Gives `None` if `value` is no object.
pub(crate) fn child_mut<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let map = value.as_object_mut()?;
    let child = map.entry(name).or_insert(Value::Null);
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    child.is_object().then_some(child)
}

/// The object in a field, if it is there.
pub(crate) fn existing_mut<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    value.get_mut(name).filter(|v| v.is_object())
}

/// The items of a list field, to be changed.
pub(crate) fn items_mut<'a>(
    value: &'a mut Value,
    name: &str,
) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Sets a field of an object.
pub(crate) fn set(value: &mut Value, name: &str, to: impl Into<Value>) {
    if let Some(map) = value.as_object_mut() {
        map.insert(name.to_owned(), to.into());
    }
}

/// Removes a field of an object.
pub(crate) fn remove(value: &mut Value, name: &str) {
    if let Some(map) = value.as_object_mut() {
        map.remove(name);
    }
}

/// Sets a field if it is not set (absent or null).
pub(crate) fn default(value: &mut Value, name: &str, to: impl Into<Value>) {
    if value.is_object() && !has(value, name) {
        set(value, name, to);
    }
}

/// Sets a text field if it is absent, null or empty.
pub(crate) fn default_text(value: &mut Value, name: &str, to: &str) {
    if value.is_object() && (!has(value, name) || get(value, name) == "") {
        set(value, name, to);
    }
}

/// Sets a number field if it is absent, null or zero.
pub(crate) fn default_int(value: &mut Value, name: &str, to: i64) {
    if value.is_object() && (!has(value, name) || get(value, name) == 0) {
        set(value, name, to);
    }
}

/// Makes `name` in `to` what it is in `from`, absence included.
pub(crate) fn copy(from: &Value, to: &mut Value, name: &str) {
    match from.get(name) {
        Some(value) => set(to, name, value.clone()),
        None => remove(to, name),
    }
}

/// Whether a value counts as empty to Go's `DeepEqual` of API objects: null, empty list or map.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Equality as `apiequality.Semantic` has it: null, absent, empty list and empty map are one.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(k, v)| same(v, b.get(k).unwrap_or(&NULL)))
                && b.iter().all(|(k, v)| a.contains_key(k) || is_empty(v))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b || (is_empty(a) && is_empty(b)),
    }
}
