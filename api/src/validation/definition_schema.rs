//! Schemas of custom kinds: they must be structural (upstream's `ValidateStructural`), and their extensions must make
//! sense.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{Errors, definition_rules};
use crate::custom::{check, node::Node, shape};
use crate::field::{Error, Path};
use crate::tree;

/// Where a schema is, which decides what it must say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// How deep schemas may be; deeper ones are refused, so that nothing that walks them runs out of stack.
const DEPTH_MAX: usize = 64;
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// What no schema may have, with upstream's words.
const NEVER: [(&str, &str); 7] = [
    ("$ref", "$ref is not supported"),
    ("$schema", "schema is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("id", "id is not supported"),
    ("patternProperties", "patternProperties is not supported"),
];
/// What belongs to the structure, and has no place below a junction.
const STRUCTURE: [(&str, &str); 11] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("externalDocs", "must be undefined to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
];
const STRUCTURE_TYPES: [(&str, &str); 3] = [
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

/// Checks the schema of a version, which is at `place`.
pub(super) fn root(schema: &Value, place: &str, errors: &mut Errors) {
    let path = Path::new(place);
    let mut found = Errors::new();
    structure(schema, Level::Root, &path, 0, &mut found);
    let shallow = found.is_empty();
    if shallow {
        definition_rules::texts(schema, &path, &mut found);
    }
    found.sort_by_key(ToString::to_string);
    let sound = found.is_empty();
    errors.extend(found);
    if sound {
        let mut found = Errors::new();
        definition_rules::compile_all(schema, &path, &mut found);
        let compiled = found.is_empty();
        errors.extend(found);
        defaults(schema, compiled, &path, errors);
    }
}

fn forbidden(schema: &Value, rows: &[(&str, &str)], path: &Path<'_>, errors: &mut Errors) {
    for (name, detail) in rows {
        let said = tree::get(schema, name);
        if !tree::is_empty(said) && *said != false && *said != "" {
            errors.push(Error::forbidden(&path.child(name), *detail));
        }
    }
}

fn structure(schema: &Value, level: Level, path: &Path<'_>, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        let detail = format!("must not be nested more than {DEPTH_MAX} levels");
        errors.push(Error::forbidden(path, detail));
        return;
    }
    forbidden(schema, &NEVER, path, errors);
    let ty = tree::text(schema, "type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.push(Error::not_supported(&path.child("type"), ty, &TYPES));
    }
    if tree::flag(schema, "uniqueItems") {
        let detail =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(&path.child("uniqueItems"), detail));
    }
    let items = tree::get(schema, "items");
    if ty == "array" && items.is_null() {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    if items.is_array() {
        let detail = "items must be a schema object and not an array";
        errors.push(Error::forbidden(&path.child("items"), detail));
    } else if items.is_object() {
        structure(items, Level::Item, &path.child("items"), depth + 1, errors);
    }
    let properties = path.child("properties");
    for (name, below) in tree::entries(schema, "properties") {
        structure(below, Level::Field, &properties.key(name), depth + 1, errors);
    }
    additional(schema, level, path, depth, errors);
    let int_or_string = tree::flag(schema, "x-kubernetes-int-or-string");
    extensions(schema, int_or_string, path, errors);
    values(schema, int_or_string, path, depth, errors);
    types(schema, level, path, errors);
    metadata(schema, level, path, errors);
    lists(schema, path, errors);
}

fn additional(schema: &Value, level: Level, path: &Path<'_>, depth: usize, errors: &mut Errors) {
    let said = tree::get(schema, "additionalProperties");
    if said.is_null() {
        return;
    }
    let path = path.child("additionalProperties");
    let properties = tree::object(schema, "properties").is_some_and(|map| !map.is_empty());
    if properties && *said != true {
        let detail = "additionalProperties and properties are mutual exclusive";
        errors.push(Error::forbidden(&path, detail));
    }
    if *said == false {
        errors.push(Error::forbidden(&path, "additionalProperties cannot be set to false"));
    }
    if level == Level::Root {
        errors.push(Error::forbidden(&path, "must not be used at the root"));
    }
    if said.is_object() {
        structure(said, Level::Field, &path, depth + 1, errors);
    }
}

fn extensions(schema: &Value, int_or_string: bool, path: &Path<'_>, errors: &mut Errors) {
    let detail = "must be false if x-kubernetes-int-or-string is true";
    for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if int_or_string && tree::flag(schema, name) {
            errors.push(Error::invalid(&path.child(name), true, detail));
        }
    }
    if int_or_string && !tree::text(schema, "type").is_empty() {
        let ty = tree::text(schema, "type");
        let detail = "must be empty if x-kubernetes-int-or-string is true";
        errors.push(Error::invalid(&path.child("type"), ty, detail));
    }
}

/// `anyOf` of integer and string, which says again what `x-kubernetes-int-or-string` says.
fn is_int_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

fn values(schema: &Value, int_or_string: bool, path: &Path<'_>, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        return;
    }
    let skips = int_or_string && is_int_or_string(tree::get(schema, "anyOf"));
    for name in ["allOf", "anyOf", "oneOf"] {
        if name == "anyOf" && skips {
            continue;
        }
        let path = path.child(name);
        for (at, below) in tree::list(schema, name).iter().enumerate() {
            let first = int_or_string && name == "allOf" && at == 0;
            nested(below, first, &path.index(at), depth + 1, errors);
        }
    }
    let not = tree::get(schema, "not");
    if not.is_object() {
        nested(not, false, &path.child("not"), depth + 1, errors);
    }
    let pattern = tree::text(schema, "pattern");
    if let Err(why) = Regex::new(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(Error::invalid(&path.child("pattern"), pattern, detail));
    }
}

fn nested(schema: &Value, int_or_string: bool, path: &Path<'_>, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        return;
    }
    values(schema, int_or_string, path, depth, errors);
    let items = tree::get(schema, "items");
    if items.is_object() {
        nested(items, false, &path.child("items"), depth + 1, errors);
    }
    let properties = path.child("properties");
    for (name, below) in tree::entries(schema, "properties") {
        nested(below, false, &properties.key(name), depth + 1, errors);
        if name == "metadata" {
            let detail = "must not be specified in a nested context";
            errors.push(Error::forbidden(&properties.key(name), detail));
        }
    }
    forbidden(schema, &STRUCTURE, path, errors);
    forbidden(schema, &STRUCTURE_TYPES, path, errors);
}

fn types(schema: &Value, level: Level, path: &Path<'_>, errors: &mut Errors) {
    let ty = tree::text(schema, "type");
    let flag = |name: &str| tree::flag(schema, name);
    let embedded = flag("x-kubernetes-embedded-resource");
    let preserves = flag("x-kubernetes-preserve-unknown-fields");
    let at = path.child("type");
    if embedded && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match ty {
            "" => Error::required(&at, detail),
            other => Error::invalid(&at, other, detail),
        });
    } else if ty.is_empty() && !flag("x-kubernetes-int-or-string") && !preserves {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Error::required(&at, detail));
    }
    if embedded && tree::has(schema, "additionalProperties") {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Error::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(Error::invalid(&at, ty, "must be object at the root"));
    }
    let named = tree::object(schema, "properties").is_some_and(|map| !map.is_empty());
    if embedded && !preserves && !named {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&path.child("properties"), detail));
    }
}

/// The metadata of objects is what it is: schemas may say of it what names look like, and no more.
fn metadata(schema: &Value, level: Level, path: &Path<'_>, errors: &mut Errors) {
    if level != Level::Root && !tree::flag(schema, "x-kubernetes-embedded-resource") {
        return;
    }
    let properties = tree::get(schema, "properties");
    let path = path.child("properties");
    for name in ["kind", "apiVersion"] {
        let below = tree::get(properties, name);
        if below.is_object() && tree::text(below, "type") != "string" {
            let path = path.key(name);
            let ty = tree::text(below, "type");
            errors.push(Error::invalid(&path.child("type"), ty, "must be string"));
        }
    }
    let Some(metadata) = tree::object(properties, "metadata") else { return };
    let path = path.key("metadata");
    if metadata.get("type").is_none_or(|ty| ty != "object") {
        let ty = metadata.get("type").cloned().unwrap_or_else(|| json!(""));
        errors.push(Error::invalid(&path.child("type"), ty, "must be object"));
    }
    let only_names = |map: &Map<String, Value>| {
        map.keys().all(|name| matches!(name.as_str(), "name" | "generateName"))
    };
    let sound = metadata.iter().all(|(name, said)| match name.as_str() {
        "type" | "description" => true,
        "properties" => said.as_object().is_some_and(only_names),
        _ => tree::is_empty(said),
    });
    if level == Level::Root && !sound {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(Error::forbidden(&path, detail));
    }
}

fn lists(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (ty, list) = (tree::text(schema, "type"), tree::text(schema, "x-kubernetes-list-type"));
    let at = path.child("x-kubernetes-list-type");
    if !list.is_empty() && !["atomic", "map", "set"].contains(&list) {
        errors.push(Error::not_supported(&at, list, &["atomic", "map", "set"]));
    }
    if !list.is_empty() && ty != "array" {
        let detail = "must be array if x-kubernetes-list-type is specified";
        errors.push(Error::invalid(&path.child("type"), ty, detail));
    }
    let map = tree::text(schema, "x-kubernetes-map-type");
    if !map.is_empty() && !["atomic", "granular"].contains(&map) {
        let at = path.child("x-kubernetes-map-type");
        errors.push(Error::not_supported(&at, map, &["atomic", "granular"]));
    }
    if !map.is_empty() && ty != "object" {
        let detail = "must be object if x-kubernetes-map-type is specified";
        errors.push(Error::invalid(&path.child("type"), ty, detail));
    }
    let keys = tree::list(schema, "x-kubernetes-list-map-keys");
    if !keys.is_empty() && list != "map" {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list {
            "" => Error::required(&at, detail),
            other => Error::invalid(&at, other, detail),
        });
    }
    if list == "map" {
        list_map(schema, path, errors);
    }
}

fn list_map(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("x-kubernetes-list-map-keys");
    let items = tree::get(schema, "items");
    let items_path = path.child("items");
    if tree::list(schema, "x-kubernetes-list-map-keys").is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        errors.push(Error::required(&at, detail));
    }
    if !items.is_object() {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        errors.push(Error::required(&items_path, detail));
        return;
    }
    if tree::text(items, "type") != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        let ty = tree::text(items, "type");
        errors.push(Error::invalid(&items_path.child("type"), ty, detail));
    }
    let mut seen: Vec<&str> = Vec::new();
    let properties = items_path.child("properties");
    for (i, key) in tree::texts(schema, "x-kubernetes-list-map-keys").enumerate() {
        if seen.contains(&key) {
            errors.push(Error::duplicate(&at.index(i), key));
        }
        seen.push(key);
        let place = properties.key(key);
        let Some(property) = tree::get(items, "properties").get(key) else {
            let detail = "entries must all be names of item properties";
            errors.push(Error::invalid(&at.index(i), key, detail));
            continue;
        };
        let ty = tree::text(property, "type");
        if matches!(ty, "array" | "object") {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(Error::invalid(&place.child("type"), ty, detail));
        }
        let required = tree::texts(items, "required").any(|name| name == key);
        if !required && !tree::has(property, "default") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                          property";
            errors.push(Error::required(&place.child("default"), detail));
        }
    }
}

/// Defaults must be values of their schema, and break none of its rules.
fn defaults(schema: &Value, ruled: bool, path: &Path<'_>, errors: &mut Errors) {
    if let Some(default) = schema.get("default").filter(|value| !value.is_null()) {
        let node = Node::of(schema);
        let path = path.child("default");
        let mut pruned = default.clone();
        let mut unknown = Vec::new();
        shape::prune(&mut pruned, &node, &mut unknown);
        if !unknown.is_empty() {
            let detail = "must not have unknown fields";
            errors.push(Error::invalid(&path, default.clone(), detail));
        }
        shape::fill(&mut pruned, &node);
        let wrong = check::check_at(&pruned, &node, &path.to_string());
        if ruled && wrong.is_empty() {
            definition_rules::default(schema, &pruned, &path, errors);
        }
        errors.extend(wrong);
    }
    let items = tree::get(schema, "items");
    if items.is_object() {
        defaults(items, ruled, &path.child("items"), errors);
    }
    let additional = tree::get(schema, "additionalProperties");
    if additional.is_object() {
        defaults(additional, ruled, &path.child("additionalProperties"), errors);
    }
    let properties = path.child("properties");
    for (name, below) in tree::entries(schema, "properties") {
        defaults(below, ruled, &properties.key(name), errors);
    }
}
