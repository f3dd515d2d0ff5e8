//! Values against their schema, in the words of upstream's OpenAPI validation.
//!
//! On updates what has not changed is not complained about again (ratcheting): `old` is the value that was there
//! before, where one corresponds to it.

use serde_json::{Map, Value, json};

use super::format;
use super::node::{Checks, Node, Type, is_type_or_metadata};
use crate::field::{Error, Kind};
use crate::schema::ListType;
use crate::text;

/// What is wrong with a value of this schema.
#[must_use]
pub fn check(value: &Value, old: Option<&Value>, node: &Node) -> Vec<Error> {
    let mut errors = Vec::new();
    visit(value, old, node, "", &mut errors);
    errors
}

/// What is wrong with a value of this schema, which is at `path`.
pub(crate) fn check_at(value: &Value, node: &Node, path: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    visit(value, None, node, path, &mut errors);
    errors
}

fn error(kind: Kind, path: &str, bad: Option<Value>, detail: impl Into<String>) -> Error {
    let field = if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() };
    Error { kind, field, bad_value: bad, detail: detail.into() }
}

fn invalid(path: &str, bad: &Value, detail: String) -> Error {
    error(Kind::Invalid, path, Some(bad.clone()), detail)
}

/// Upstream does not say where: the path is in the words.
fn composite(path: &str, words: &str) -> Error {
    error(Kind::Invalid, "", Some(json!("")), format!("{} {words}", text::quote(path)))
}

fn visit(value: &Value, old: Option<&Value>, node: &Node, path: &str, out: &mut Vec<Error>) {
    if old == Some(value) {
        return;
    }
    if value.is_null() {
        if !node.nullable
            && let Some(wanted) = wanted(node)
        {
            out.push(wrong_type(path, wanted, "null"));
        }
        return;
    }
    if let Some(wanted) = wanted(node)
        && !is_of(value, node)
    {
        out.push(wrong_type(path, wanted, found(value)));
    }
    junctions(value, old, &node.checks, path, out);
    match value {
        Value::String(text) => strings(text, value, &node.checks, path, out),
        Value::Number(_) => numbers(value, &node.checks, path, out),
        Value::Array(list) => lists(list, old, node, path, out),
        Value::Object(map) => objects(map, old, node, path, out),
        Value::Null | Value::Bool(_) => {}
    }
    let allowed = &node.checks.values;
    if !allowed.is_empty() && !allowed.iter().any(|one| same(one, value)) {
        let words: Vec<String> = allowed
            .iter()
            .map(|one| one.as_str().map_or_else(|| text::json(one), str::to_owned))
            .collect();
        let detail = format!("supported values: {}", text::quote_list(&words));
        out.push(error(Kind::NotSupported, path, Some(value.clone()), detail));
    }
}

/// Numbers are equal by value: `1` and `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && b.is_number() && a.as_f64() == b.as_f64())
}

fn wanted(node: &Node) -> Option<&'static str> {
    if node.int_or_string {
        return Some("integer,string");
    }
    Some(node.ty.name()).filter(|name| !name.is_empty())
}

fn is_of(value: &Value, node: &Node) -> bool {
    if node.int_or_string {
        return value.is_string() || is_whole(value);
    }
    match node.ty {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Integer => is_whole(value),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong_type(path: &str, wanted: &str, found: &str) -> Error {
    let detail = format!("{path} in body must be of type {wanted}: {}", text::quote(found));
    error(Kind::TypeInvalid, path, Some(json!(found)), detail)
}

fn junctions(
    value: &Value,
    old: Option<&Value>,
    checks: &Checks,
    path: &str,
    out: &mut Vec<Error>,
) {
    let errors_of = |node: &Node| {
        let mut errors = Vec::new();
        visit(value, old, node, path, &mut errors);
        errors
    };
    if !checks.any_of.is_empty() {
        let mut tried: Vec<Vec<Error>> = checks.any_of.iter().map(errors_of).collect();
        if tried.iter().all(|errors| !errors.is_empty()) {
            out.push(composite(path, "must validate at least one schema (anyOf)"));
            tried.sort_by_key(Vec::len);
            out.extend(tried.into_iter().next().unwrap_or_default());
        }
    }
    if !checks.one_of.is_empty() {
        let mut tried: Vec<Vec<Error>> = checks.one_of.iter().map(errors_of).collect();
        let valid = tried.iter().filter(|errors| errors.is_empty()).count();
        if valid != 1 {
            let more = match valid {
                0 => "Found none valid".to_owned(),
                several => format!("Found {several} valid alternatives"),
            };
            let words = format!("must validate one and only one schema (oneOf). {more}");
            out.push(composite(path, &words));
            tried.sort_by_key(Vec::len);
            out.extend(tried.into_iter().next().unwrap_or_default());
        }
    }
    if !checks.all_of.is_empty() {
        let tried: Vec<Vec<Error>> = checks.all_of.iter().map(errors_of).collect();
        let valid = tried.iter().filter(|errors| errors.is_empty()).count();
        if valid != tried.len() {
            out.extend(tried.into_iter().flatten());
            let none = if valid == 0 { ". None validated" } else { "" };
            out.push(composite(path, &format!("must validate all the schemas (allOf){none}")));
        }
    }
    if let Some(not) = &checks.not
        && errors_of(not).is_empty()
    {
        out.push(composite(path, "must not validate the schema (not)"));
    }
}

fn strings(text: &str, value: &Value, checks: &Checks, path: &str, out: &mut Vec<Error>) {
    let length = text.chars().count() as u64;
    if let Some(max) = checks.length.max.filter(|max| length > *max) {
        let unit = if max == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max} {unit}");
        out.push(error(Kind::TooLong, path, None, detail));
    }
    if let Some(min) = checks.length.min.filter(|min| length < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        out.push(invalid(path, value, detail));
    }
    if let Some(pattern) = &checks.pattern
        && !pattern.regex.as_ref().is_some_and(|regex| regex.is_match(text))
    {
        let detail = format!("{path} in body should match '{}'", pattern.text);
        out.push(invalid(path, value, detail));
    }
    if !format::is_valid(&checks.format, text) {
        let wanted = &checks.format;
        let detail = format!("{path} in body must be of type {wanted}: {}", text::quote(text));
        out.push(error(Kind::TypeInvalid, path, Some(value.clone()), detail));
    }
}

/// As Go's `%v` writes a float: whole ones without a point.
fn shown(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e21 {
        format!("{number:.0}")
    } else {
        number.to_string()
    }
}

fn numbers(value: &Value, checks: &Checks, path: &str, out: &mut Vec<Error>) {
    let number = value.as_f64().unwrap_or_default();
    if let Some(multiple) = checks.multiple_of.filter(|multiple| *multiple > 0.0) {
        let times = number / multiple;
        if (times - times.round()).abs() > 1e-9 {
            let of = shown(multiple);
            out.push(invalid(path, value, format!("{path} in body should be a multiple of {of}")));
        }
    }
    if let Some(bound) = checks.maximum {
        let over = if bound.exclusive { number >= bound.at } else { number > bound.at };
        if over {
            let words = if bound.exclusive { "less than" } else { "less than or equal to" };
            let at = shown(bound.at);
            out.push(invalid(path, value, format!("{path} in body should be {words} {at}")));
        }
    }
    if let Some(bound) = checks.minimum {
        let under = if bound.exclusive { number <= bound.at } else { number < bound.at };
        if under {
            let words = if bound.exclusive { "greater than" } else { "greater than or equal to" };
            let at = shown(bound.at);
            out.push(invalid(path, value, format!("{path} in body should be {words} {at}")));
        }
    }
    format_of_number(value, checks, path, out);
}

fn format_of_number(value: &Value, checks: &Checks, path: &str, out: &mut Vec<Error>) {
    if checks.format == "int32" && value.as_i64().is_some_and(|n| i32::try_from(n).is_err()) {
        let detail =
            format!("{path} in body must be of type int32: {}", text::quote(&value.to_string()));
        out.push(error(Kind::TypeInvalid, path, Some(value.clone()), detail));
    }
}

fn too_many(path: &str, actual: usize, max: u64, unit: &str) -> Error {
    let unit = if unit == "item" && max != 1 { "items" } else { unit };
    error(Kind::TooMany, path, Some(json!(actual)), format!("must have at most {max} {unit}"))
}

fn lists(list: &[Value], old: Option<&Value>, node: &Node, path: &str, out: &mut Vec<Error>) {
    if let Some(items) = &node.items {
        let before = old.and_then(Value::as_array);
        for (at, item) in list.iter().enumerate() {
            let was = before.and_then(|before| counterpart(item, before, node));
            visit(item, was, items, &format!("{path}[{at}]"), out);
        }
    }
    let range = node.checks.items;
    if let Some(min) = range.min.filter(|min| (list.len() as u64) < *min) {
        let detail = format!("{path} in body should have at least {min} items");
        out.push(invalid(path, &Value::from(list.to_vec()), detail));
    }
    if let Some(max) = range.max.filter(|max| (list.len() as u64) > *max) {
        out.push(too_many(path, list.len(), max, "item"));
    }
    duplicates(list, node, path, out);
}

/// The item of the old list that this one is a version of: only lists with keys have such.
fn counterpart<'a>(item: &Value, before: &'a [Value], node: &Node) -> Option<&'a Value> {
    if node.list != Some(ListType::Map) {
        return None;
    }
    let keys = keys_of(item, node);
    before.iter().find(|one| keys_of(one, node) == keys)
}

fn keys_of(item: &Value, node: &Node) -> Map<String, Value> {
    let default = |name: &str| node.items.as_ref()?.properties.get(name)?.default.clone();
    let found = node.keys.iter().filter_map(|name| {
        let value = item.get(name).cloned().or_else(|| default(name))?;
        Some((name.clone(), value))
    });
    found.collect()
}

fn duplicates(list: &[Value], node: &Node, path: &str, out: &mut Vec<Error>) {
    let identity = |item: &Value| match node.list {
        Some(ListType::Map) => Some(Value::Object(keys_of(item, node))),
        Some(ListType::Set) => Some(item.clone()),
        Some(ListType::Atomic | ListType::Unset) | None => None,
    };
    let mut seen: Vec<Value> = Vec::new();
    for (at, item) in list.iter().enumerate() {
        let Some(identity) = identity(item) else { return };
        if seen.contains(&identity) {
            out.push(error(Kind::Duplicate, &format!("{path}[{at}]"), Some(identity.clone()), ""));
        }
        seen.push(identity);
    }
}

fn objects(
    map: &Map<String, Value>,
    old: Option<&Value>,
    node: &Node,
    path: &str,
    out: &mut Vec<Error>,
) {
    let join = |name: &str| {
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    };
    let range = node.checks.properties;
    if let Some(min) = range.min.filter(|min| (map.len() as u64) < *min) {
        let detail = format!("{path} in body should have at least {min} properties");
        out.push(invalid(path, &Value::Object(map.clone()), detail));
    }
    if let Some(max) = range.max.filter(|max| (map.len() as u64) > *max) {
        out.push(too_many(path, map.len(), max, "items"));
    }
    for name in &node.checks.required {
        if !map.contains_key(name) {
            out.push(error(Kind::Required, &join(name), None, ""));
        }
    }
    for (name, child) in map {
        // Metadata is checked as every object's; what the schema says of it are its names.
        if node.resource && is_type_or_metadata(name) && name != "metadata" {
            continue;
        }
        if let Some(below) = node.child(name) {
            visit(child, old.and_then(|old| old.get(name)), below, &join(name), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(schema: Value, value: Value) -> Vec<String> {
        let node = Node::root(&json!({"type": "object", "properties": {"spec": schema}}));
        let errors = check(&json!({"spec": value}), None, &node);
        errors.iter().map(ToString::to_string).collect()
    }

    fn all_told(cases: &[(Value, Value, &str)]) {
        for (schema, value, want) in cases {
            assert_eq!(told(schema.clone(), value.clone()), [*want], "{schema} {value}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let cases = [
            (
                json!({"type": "integer"}),
                json!("three"),
                r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#,
            ),
            (
                json!({"type": "string"}),
                Value::Null,
                r#"spec: Invalid value: "null": spec in body must be of type string: "null""#,
            ),
            (
                json!({"type": "string", "pattern": "^a+$"}),
                json!("b"),
                r#"spec: Invalid value: "b": spec in body should match '^a+$'"#,
            ),
            (
                json!({"type": "integer", "minimum": 1}),
                json!(0),
                "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
            ),
            (
                json!({"type": "integer", "maximum": 10, "exclusiveMaximum": true}),
                json!(10),
                "spec: Invalid value: 10: spec in body should be less than 10",
            ),
            (
                json!({"type": "number", "multipleOf": 0.5}),
                json!(0.7),
                "spec: Invalid value: 0.7: spec in body should be a multiple of 0.5",
            ),
        ];
        all_told(&cases);
    }

    #[test]
    fn lengths_lists_and_formats_are_told_in_upstreams_words() {
        let cases = [
            (
                json!({"type": "string", "minLength": 2}),
                json!("a"),
                r#"spec: Invalid value: "a": spec in body should be at least 2 chars long"#,
            ),
            (
                json!({"type": "string", "maxLength": 1}),
                json!("ab"),
                "spec: Too long: may not be more than 1 byte",
            ),
            (
                json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
                json!(["a", "b"]),
                "spec: Too many: 2: must have at most 1 item",
            ),
            (
                json!({"type": "string", "enum": ["a", "b"]}),
                json!("c"),
                r#"spec: Unsupported value: "c": supported values: "a", "b""#,
            ),
            (json!({"type": "object", "required": ["a"]}), json!({}), "spec.a: Required value"),
            (
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
                json!(["a", "a"]),
                r#"spec[1]: Duplicate value: "a""#,
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
                json!([{"k": "a"}, {"k": "a"}]),
                r#"spec[1]: Duplicate value: {"k":"a"}"#,
            ),
            (
                json!({"type": "string", "format": "date-time"}),
                json!("soon"),
                r#"spec: Invalid value: "soon": spec in body must be of type date-time: "soon""#,
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                r#"spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean""#,
            ),
            (
                json!({"type": "integer", "not": {"enum": [3]}}),
                json!(3),
                r#"<nil>: Invalid value: "": "spec" must not validate the schema (not)"#,
            ),
        ];
        all_told(&cases);
    }

    #[test]
    fn one_of_and_any_of_say_how_many_fit() {
        let one = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                         "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        let both = told(one.clone(), json!({"a": "x", "b": "y"}));
        assert_eq!(
            both,
            [concat!(
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). "#,
                "Found 2 valid alternatives"
            )]
        );
        let none = told(one, json!({}));
        assert!(none[0].ends_with("Found none valid"), "{none:?}");
        assert_eq!(none[1], "spec.a: Required value");
    }

    #[test]
    fn what_has_not_changed_is_not_told_again() {
        let node = Node::root(&json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"a": {"type": "integer", "minimum": 5}, "b": {"type": "string"}}}}}));
        let old = json!({"spec": {"a": 1, "b": "x"}});
        let new = json!({"spec": {"a": 1, "b": "y"}});
        assert!(check(&new, Some(&old), &node).is_empty());
        assert_eq!(check(&new, None, &node).len(), 1);
        let worse = json!({"spec": {"a": 2, "b": "x"}});
        assert_eq!(check(&worse, Some(&old), &node).len(), 1);
    }
}
