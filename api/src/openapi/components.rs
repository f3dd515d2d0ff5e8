//! Component schemas from the schema tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::{reference, references};
use crate::resource;
use crate::schema::{self, Field, Kind, ListType, Type, TypeId};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// A kind whose texts for `apiVersion` and `kind` are every kind's.
const DESCRIBED_KIND: &str = "io.k8s.api.core.v1.Pod";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// The components that `paths` needs, those they need, and so on.
pub(super) fn reachable(
    paths: &Value,
    group_version: (&str, &str),
    descriptions: &Descriptions,
) -> Value {
    let mut wanted = BTreeSet::new();
    references(paths, &mut wanted);
    let mut schemas = Map::new();
    while let Some(name) = wanted.pop_first() {
        let schema = component(&name, group_version, descriptions);
        let mut more = BTreeSet::new();
        references(&schema, &mut more);
        schemas.insert(name, schema);
        wanted.extend(more.into_iter().filter(|name| !schemas.contains_key(name)));
    }
    Value::Object(schemas)
}

static BY_COMPONENT: LazyLock<BTreeMap<String, TypeId>> =
    LazyLock::new(|| schema::all().map(|(id, ty)| (ty.component(), id)).collect());

fn component(name: &str, group_version: (&str, &str), descriptions: &Descriptions) -> Value {
    let mut schema = match BY_COMPONENT.get(name) {
        Some(id) => structure(id.get(), group_version, descriptions),
        None => special(name),
    };
    let list_of = || {
        let kind = name.rsplit('.').next()?.strip_suffix("List")?;
        Some(format!("{kind}List is a list of {kind} objects."))
    };
    if let Some(text) = descriptions.get(name, "").or_else(list_of) {
        schema.insert("description".to_owned(), Value::from(text));
    }
    Value::Object(schema)
}

/// Types with a JSON form of their own.
fn special(name: &str) -> Map<String, Value> {
    let short = name.rsplit('.').next().unwrap_or(name);
    let value = match short {
        "Time" | "MicroTime" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string"}),
        "Quantity" => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        "IntOrString" => json!({
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        }),
        "RawExtension" | "FieldsV1" | "Patch" => json!({"type": "object"}),
        _ => json!({}),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn structure(
    ty: &Type,
    group_version: (&str, &str),
    descriptions: &Descriptions,
) -> Map<String, Value> {
    let component = ty.component();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), Value::from("object"));
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in ty.fields() {
        let text = descriptions.get(&component, field.json).or_else(|| {
            // k8s-openapi has one generic list, without texts for each kind of list.
            if field.type_meta() {
                return descriptions.get(DESCRIBED_KIND, field.json);
            }
            match (ty.name.ends_with("List"), field.json) {
                (true, "items") => Some("The objects of the list.".to_owned()),
                (true, "metadata") => Some("The list's metadata.".to_owned()),
                _ => None,
            }
        });
        properties.insert(field.json.to_owned(), property(field, text));
        if !field.optional() {
            required.push(field.json);
        }
    }
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), Value::Object(properties));
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if ty.atomic {
        schema.insert("x-kubernetes-map-type".to_owned(), Value::from("atomic"));
    }
    if let Some(union) = &ty.union {
        let mut published = Map::new();
        if !union.discriminator.is_empty() {
            published.insert("discriminator".to_owned(), Value::from(union.discriminator));
        }
        let fields: BTreeMap<_, _> = union.fields.iter().copied().collect();
        published.insert("fields-to-discriminateBy".to_owned(), json!(fields));
        schema.insert("x-kubernetes-unions".to_owned(), json!([published]));
    }
    let kinds = kinds(ty, group_version);
    if !kinds.is_empty() {
        schema.insert("x-kubernetes-group-version-kind".to_owned(), Value::from(kinds));
    }
    schema
}

/// The kinds a struct is registered as, as far as this document is concerned.
fn kinds(ty: &Type, (group, version): (&str, &str)) -> Vec<Value> {
    if ty.field("kind").is_none_or(|field| !field.type_meta()) && ty.name != "WatchEvent" {
        return Vec::new();
    }
    let kind =
        |group: &str, version: &str| json!({"group": group, "version": version, "kind": ty.name});
    if ty.package != "meta/v1" {
        let (package, version) = ty.package.split_once('/').unwrap_or((ty.package, ""));
        return vec![kind(&group_of_package(package), version)];
    }
    let mut kinds = vec![kind("", "v1")];
    if matches!(ty.name, "DeleteOptions" | "WatchEvent") && !group.is_empty() {
        kinds.push(kind(group, version));
    }
    kinds
}

fn group_of_package(package: &str) -> String {
    const DOMAINS: [&str; 3] = [".k8s.io", ".authorization.k8s.io", ".apiserver.k8s.io"];
    let own = |group: &str| resource::package_group(group) == Some(package);
    match package {
        "core" => String::new(),
        "apps" | "autoscaling" | "batch" | "extensions" | "policy" => package.to_owned(),
        "apiserverinternal" => "internal.apiserver.k8s.io".to_owned(),
        "quorate" => "quorate.io".to_owned(),
        // `rbac.authorization.k8s.io` and `flowcontrol.apiserver.k8s.io` are the exceptions.
        _ => {
            let candidates = DOMAINS.iter().rev().map(|domain| format!("{package}{domain}"));
            let known =
                candidates.into_iter().find(|group| group.matches('.').count() > 2 && own(group));
            known.unwrap_or_else(|| format!("{package}.k8s.io"))
        }
    }
}

/// A field's schema with its description, default and extensions.
fn property(field: &Field, description: Option<String>) -> Value {
    let mut out = Map::new();
    if let Some(text) = description {
        out.insert("description".to_owned(), Value::from(text));
    }
    if let Some(default) = default(field) {
        out.insert("default".to_owned(), default);
    }
    match field.list_type {
        ListType::Unset => {}
        ListType::Atomic => put(&mut out, "x-kubernetes-list-type", json!("atomic")),
        ListType::Set => put(&mut out, "x-kubernetes-list-type", json!("set")),
        ListType::Map => put(&mut out, "x-kubernetes-list-type", json!("map")),
    }
    if !field.list_map_keys.is_empty() {
        put(&mut out, "x-kubernetes-list-map-keys", json!(field.list_map_keys));
    }
    if field.atomic_map() {
        put(&mut out, "x-kubernetes-map-type", json!("atomic"));
    }
    if field.granular_map() || field.granular_struct() {
        put(&mut out, "x-kubernetes-map-type", json!("granular"));
    }
    if !field.merge_key.is_empty() {
        put(&mut out, "x-kubernetes-patch-merge-key", json!(field.merge_key));
    }
    let strategies: Vec<&str> = [
        (field.patch_merge(), "merge"),
        (field.patch_retain_keys(), "retainKeys"),
        (field.patch_replace(), "replace"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect();
    if !strategies.is_empty() {
        put(&mut out, "x-kubernetes-patch-strategy", json!(strategies.join(",")));
    }
    match of_kind(field.kind) {
        // A $ref stands alone in OpenAPI 3.0: what is beside it needs allOf.
        Value::Object(map) if map.contains_key("$ref") => {
            if out.is_empty() {
                return Value::Object(map);
            }
            out.insert("allOf".to_owned(), json!([map]));
        }
        Value::Object(map) => out.extend(map),
        _ => {}
    }
    Value::Object(out)
}

fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    map.insert(key.to_owned(), value);
}

/// The published default: the marker's, else the zero value of what is always there.
fn default(field: &Field) -> Option<Value> {
    if !field.default.is_empty() {
        return serde_json::from_str(field.default).ok();
    }
    if field.pointer() {
        return None;
    }
    match field.kind {
        Kind::Ref(_) => Some(json!({})),
        Kind::String if !field.omitempty() => Some(json!("")),
        Kind::Bool if !field.omitempty() => Some(json!(false)),
        Kind::Int32 | Kind::Int64 | Kind::Float if !field.omitempty() => Some(json!(0)),
        _ => None,
    }
}

fn of_kind(kind: Kind) -> Value {
    let meta = |name: &str| reference(&format!("{META}.{name}"));
    let extension = |name: &str| reference(&format!("{EXTENSIONS}.{name}"));
    match kind {
        Kind::String => json!({"type": "string"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int32 => json!({"type": "integer", "format": "int32"}),
        Kind::Int64 => json!({"type": "integer", "format": "int64"}),
        Kind::Float => json!({"type": "number", "format": "double"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Ref(id) => reference(&id.get().component()),
        Kind::List(item) => json!({"type": "array", "items": of_kind(*item)}),
        Kind::Map(item) => json!({"type": "object", "additionalProperties": of_kind(*item)}),
        Kind::Quantity => reference("io.k8s.apimachinery.pkg.api.resource.Quantity"),
        Kind::IntOrString => reference("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
        Kind::RawExtension => reference("io.k8s.apimachinery.pkg.runtime.RawExtension"),
        Kind::Time => meta("Time"),
        Kind::MicroTime => meta("MicroTime"),
        Kind::Duration => meta("Duration"),
        Kind::FieldsV1 => meta("FieldsV1"),
        Kind::Json => extension("JSON"),
        Kind::SchemaOrBool => extension("JSONSchemaPropsOrBool"),
        Kind::SchemaOrArray => extension("JSONSchemaPropsOrArray"),
        Kind::SchemaOrStringArray => extension("JSONSchemaPropsOrStringArray"),
        Kind::Any => json!({}),
    }
}
