//! The one OpenAPI v2 document, made from those of v3.
//!
//! kubectl asks for it where v3 has no answer: before it sends a `List`, a kind that is not served,
//! or explains with `--output=plaintext-openapiv2`. Without it these commands fail. It wants protobuf
//! only (`binary`); generators of clients take the JSON.

use serde_json::{Map, Value, json};

use super::{DOCUMENTS, PREFIX};
use crate::document::Document;

const DEFINITIONS: &str = "#/definitions/";
const METHODS: [&str; 7] = ["delete", "get", "head", "options", "patch", "post", "put"];
const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
pub(super) const KINDS: &str = "x-kubernetes-group-version-kind";

/// All documents of v3 in one of v2.
pub(super) fn build<'a>(more: impl Iterator<Item = &'a Document>) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for document in DOCUMENTS.values().chain(more) {
        let mut document: Value = serde_json::from_slice(&document.body).unwrap_or_default();
        for (path, item) in taken(&mut document, "/paths") {
            paths.insert(path, path_item(item));
        }
        for (name, one) in taken(&mut document, "/components/schemas") {
            let one = definition(&name, one);
            match definitions.get_mut(&name) {
                Some(known) => merge_kinds(known, &one),
                None => {
                    definitions.insert(name, one);
                }
            }
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {
            "description": "Bearer Token authentication",
            "in": "header",
            "name": "authorization",
            "type": "apiKey",
        }},
        "security": [{"BearerToken": []}],
    })
}

fn taken(document: &mut Value, pointer: &str) -> Map<String, Value> {
    match document.pointer_mut(pointer).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// A struct that several documents have says in each of which kind it is there.
fn merge_kinds(known: &mut Value, other: &Value) {
    let Some(own) = known.get_mut(KINDS).and_then(Value::as_array_mut) else { return };
    for kind in other.get(KINDS).and_then(Value::as_array).into_iter().flatten() {
        if !own.contains(kind) {
            own.push(kind.clone());
        }
    }
}

/// A schema of its own: the two that may be of several types are texts in v2, and a custom kind that keeps what its
/// schema does not name is any object (apiextensions' `buildKubeNative`).
fn definition(name: &str, value: Value) -> Value {
    if value[PRESERVES] == true {
        return json!({"type": "object", KINDS: value[KINDS]});
    }
    let is_of_several_types = value.get("properties").is_none() && value.get("oneOf").is_some();
    let mut value = schema(value);
    if let Some(map) = value.as_object_mut().filter(|_| is_of_several_types) {
        map.insert("type".to_owned(), json!("string"));
        if name.ends_with(".IntOrString") {
            map.insert("format".to_owned(), json!("int-or-string"));
        }
    }
    value
}

/// A schema anywhere: references lead elsewhere and need no `allOf`; v2 publishes no defaults. What it has no words for
/// is left out so that less is demanded, never more (apiextensions' `ToStructuralOpenAPIV2`).
fn schema(value: Value) -> Value {
    let Value::Object(mut map) = value else { return value };
    let is =
        |map: &Map<String, Value>, word: &str| map.get(word).is_some_and(|value| value == true);
    let any = is(&map, "nullable");
    if any || is(&map, PRESERVES) {
        map.remove("items");
        map.remove("properties");
    }
    if any || (map.get("type").is_some_and(|name| name == "array") && !map.contains_key("items")) {
        map.remove("type");
    }
    let none = Map::new();
    let properties = map.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let may_be_null = |name: &Value| {
        name.as_str()
            .and_then(|name| properties.get(name))
            .is_some_and(|one| one["nullable"] == true)
    };
    let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
    let required: Vec<Value> = required.filter(|name| !may_be_null(name)).cloned().collect();
    let values_may_be_null =
        map.get("additionalProperties").is_some_and(|values| values["nullable"] == true);
    if required.is_empty() || values_may_be_null {
        map.remove("required");
    } else {
        map.insert("required".to_owned(), required.into());
    }
    let mut out = Map::new();
    for (key, value) in map {
        match key.as_str() {
            "default" | "anyOf" | "oneOf" | "not" | "nullable" | "x-kubernetes-validations" => {}
            "$ref" => {
                let name = value.as_str().unwrap_or_default();
                let name = name.strip_prefix(PREFIX).unwrap_or(name);
                out.insert(key, json!(format!("{DEFINITIONS}{name}")));
            }
            "allOf" => {
                // With others, or without a reference, it is a demand.
                let only =
                    value.as_array().filter(|all| all.len() == 1).and_then(|all| all.first());
                let only = only.filter(|one| one.get("$ref").is_some()).cloned();
                if let Some(Value::Object(only)) = only.map(schema) {
                    out.extend(only);
                }
            }
            "items" | "additionalProperties" => {
                out.insert(key, schema(value));
            }
            "properties" => {
                let properties = value.as_object().cloned().unwrap_or_default();
                let properties: Map<String, Value> =
                    properties.into_iter().map(|(name, one)| (name, schema(one))).collect();
                out.insert(key, Value::Object(properties));
            }
            _ => {
                out.insert(key, value);
            }
        }
    }
    Value::Object(out)
}

fn path_item(item: Value) -> Value {
    let Value::Object(map) = item else { return item };
    let one = |(key, value): (String, Value)| {
        let value = match key.as_str() {
            "parameters" => parameters(&value).into(),
            key if METHODS.contains(&key) => operation(value),
            _ => value,
        };
        (key, value)
    };
    Value::Object(map.into_iter().map(one).collect())
}

/// In v2 the type of a parameter is not in a schema.
fn parameters(list: &Value) -> Vec<Value> {
    let flat = |parameter: &Value| {
        let mut parameter = parameter.as_object().cloned().unwrap_or_default();
        if let Some(Value::Object(schema)) = parameter.remove("schema") {
            parameter.extend(schema);
        }
        Value::Object(parameter)
    };
    list.as_array().into_iter().flatten().map(flat).collect()
}

/// In v2 the body is a parameter, and what is taken and given is said once.
fn operation(value: Value) -> Value {
    let Value::Object(mut map) = value else { return value };
    let mut all = parameters(&map.remove("parameters").unwrap_or_default());
    let mut consumes = vec![json!("*/*")];
    if let Some(body) = map.remove("requestBody") {
        let content = body.get("content").and_then(Value::as_object).cloned().unwrap_or_default();
        let required = body.get("required").and_then(Value::as_bool).unwrap_or(false);
        let mut parameter = json!({"in": "body", "name": "body", "schema": of_content(&content)});
        if let Some(map) = parameter.as_object_mut().filter(|_| required) {
            map.insert("required".to_owned(), json!(true));
        }
        all.insert(0, parameter);
        consumes = content.keys().map(|media| json!(media)).collect();
    }
    let mut produces = Vec::new();
    let mut responses = Map::new();
    if let Some(Value::Object(all)) = map.remove("responses") {
        for (code, response) in all {
            let mut out = json!({"description": response.get("description")});
            let content = response.get("content").and_then(Value::as_object);
            if let (Some(content), Some(out)) = (content, out.as_object_mut()) {
                out.insert("schema".to_owned(), of_content(content));
                if produces.is_empty() {
                    produces = content.keys().map(|media| json!(media)).collect();
                }
            }
            responses.insert(code, out);
        }
    }
    if !all.is_empty() {
        map.insert("parameters".to_owned(), all.into());
    }
    map.insert("consumes".to_owned(), consumes.into());
    map.insert("produces".to_owned(), produces.into());
    map.insert("responses".to_owned(), Value::Object(responses));
    map.insert("schemes".to_owned(), json!(["https"]));
    Value::Object(map)
}

/// All media types have the same schema.
fn of_content(content: &Map<String, Value>) -> Value {
    let first = content.values().next().and_then(|one| one.get("schema"));
    schema(first.cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kubectl refuses what v2 says is wrong: it must not say more than the schema means.
    #[test]
    fn custom_kinds_demand_less() {
        let kinds = json!([{"group": "g", "version": "v1", "kind": "K"}]);
        let any = json!({"type": "object", "properties": {"spec": {"type": "string"}}, PRESERVES: true, KINDS: kinds});
        assert_eq!(definition("k", any), json!({"type": "object", KINDS: kinds}));
        let one = definition(
            "k",
            json!({
                "type": "object",
                "required": ["null", "list", "map"],
                "allOf": [{"minProperties": 1}, {"maxProperties": 2}],
                "properties": {
                    "metadata": {"allOf": [{"$ref": format!("{PREFIX}ObjectMeta")}], "description": "d"},
                    "null": {"type": "object", "nullable": true, "properties": {"a": {}}},
                    "free": {"type": "object", "properties": {"a": {}}, PRESERVES: true},
                    "list": {"type": "array", "items": {"type": "integer", "oneOf": [{"minimum": 1}]}},
                    "loose": {"type": "array", PRESERVES: true, "items": {}},
                    "map": {"type": "object", "additionalProperties": {"type": "string", "nullable": true},
                        "required": ["x"]},
                },
            }),
        );
        let expected = json!({
            "type": "object",
            "required": ["list", "map"],
            "properties": {
                "metadata": {"$ref": format!("{DEFINITIONS}ObjectMeta"), "description": "d"},
                "null": {},
                "free": {"type": "object", PRESERVES: true},
                "list": {"type": "array", "items": {"type": "integer"}},
                "loose": {PRESERVES: true},
                "map": {"type": "object", "additionalProperties": {}},
            },
        });
        assert_eq!(one, expected);
    }
}
