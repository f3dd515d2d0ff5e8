//! Custom kinds in OpenAPI: the schema of the definition, with what every object has.

use serde_json::{Map, Value, json};

use super::Custom;
use crate::resource::ResourceDef;

const META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers \
    should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer \
    this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The component of a kind: `com.example.stable.v1.CronTab`.
#[must_use]
pub fn component(def: &ResourceDef) -> String {
    named(def, def.kind())
}

/// The component of a list of a kind.
#[must_use]
pub fn list_component(def: &ResourceDef) -> String {
    named(def, &def.list_kind())
}

fn named(def: &ResourceDef, kind: &str) -> String {
    let mut group: Vec<&str> = def.group().split('.').collect();
    group.reverse();
    format!("{}.{}.{kind}", group.join("."), def.version())
}

/// The components of a kind and of its list.
#[must_use]
pub fn components(def: &ResourceDef, custom: &Custom) -> [(String, Value); 2] {
    let kind = |kind: &str| json!([{"group": def.group(), "kind": kind, "version": def.version()}]);
    let mut object = custom.schema.as_object().cloned().unwrap_or_default();
    embed(&mut object, true);
    object.insert("type".to_owned(), json!("object"));
    object.insert("x-kubernetes-group-version-kind".to_owned(), kind(def.kind()));
    let list = json!({
        "description": format!("{} is a list of {}", def.list_kind(), def.kind()),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": API_VERSION, "type": "string"},
            "kind": {"description": KIND, "type": "string"},
            "metadata": {
                "description": LIST_METADATA,
                "allOf": [{"$ref": format!("{META}.ListMeta")}],
            },
            "items": {
                "description": format!("List of {}. More info: \
                    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", def.plural),
                "type": "array",
                "items": {"$ref": format!("#/components/schemas/{}", component(def))},
            },
        },
        "x-kubernetes-group-version-kind": kind(&def.list_kind()),
    });
    [(component(def), Value::Object(object)), (list_component(def), list)]
}

/// What every object has, in a schema that is one's, and in those of objects within it.
fn embed(schema: &mut Map<String, Value>, resource: bool) {
    let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    for name in ["items", "additionalProperties"] {
        if let Some(Value::Object(below)) = schema.get_mut(name) {
            embed(below, false);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for (_, below) in properties.iter_mut() {
            if let Value::Object(below) = below {
                embed(below, false);
            }
        }
    }
    if !resource && !embedded {
        return;
    }
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        let text = |text: &str| json!({"description": text, "type": "string"});
        properties.insert("apiVersion".to_owned(), text(API_VERSION));
        properties.insert("kind".to_owned(), text(KIND));
        let reference = json!([{"$ref": format!("{META}.ObjectMeta")}]);
        properties
            .insert("metadata".to_owned(), json!({"description": METADATA, "allOf": reference}));
    }
}
