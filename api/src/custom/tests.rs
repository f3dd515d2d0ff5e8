//! Definitions become resources, and their objects take the way of built-in ones.

use serde_json::{Value, json};

use super::*;
use crate::codec::{FieldValidation, MediaType, decode};
use crate::managed;

fn definition(schema: Value) -> Value {
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "schema": {"openAPIV3Schema": schema}},
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                 "subresources": {"status": {}}},
                {"name": "v2", "served": false, "storage": false, "schema": {"openAPIV3Schema": schema}},
            ],
        },
        "status": {
            "acceptedNames": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "conditions": [{"type": "Established", "status": "True"}],
        },
    })
}

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "default": 3},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    }})
}

fn widget() -> &'static ResourceDef {
    Definition::of(&definition(schema())).version("v1").unwrap()
}

#[test]
fn versions_are_served_in_their_order_and_kept_in_one() {
    let definition = Definition::of(&definition(schema()));
    let served: Vec<&str> = definition.served().map(ResourceDef::version).collect();
    assert_eq!(served, ["v1", "v1beta1"]);
    assert_eq!(definition.kept().unwrap().version(), "v1");
    assert_eq!(
        definition.version("v1beta1").unwrap().storage_key(),
        Some(("example.com", "widgets"))
    );
    assert!(definition.version("v2").is_none());
    assert_eq!(widget().list_kind(), "WidgetList");
}

#[test]
fn what_is_not_established_is_not_served() {
    let mut definition = definition(schema());
    definition["status"]["conditions"] = json!([]);
    assert_eq!(Definition::of(&definition).served().count(), 0);
}

#[test]
fn equal_words_are_compiled_once() {
    assert!(std::ptr::eq(widget(), widget()));
    let mut other = schema();
    other["properties"]["spec"]["properties"]["size"]["default"] = json!(4);
    let other = Definition::of(&definition(other)).version("v1").unwrap();
    assert!(!std::ptr::eq(widget(), other));
}

#[test]
fn bodies_are_read_by_the_schema() {
    let body = br#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a","what":1},
                    "spec":{"size":1,"size":2,"more":true,"any":{"x":[1]}},"extra":1}"#;
    let decoded = decode(MediaType::Json, body, widget().target()).unwrap();
    assert_eq!(
        decoded.strict,
        [
            "duplicate field \"spec.size\"",
            "unknown field \"extra\"",
            "unknown field \"metadata.what\"",
            "unknown field \"spec.more\"",
        ]
    );
    assert_eq!(decoded.value["spec"], json!({"size": 2, "any": {"x": [1]}}));
    let refused = decoded.checked(FieldValidation::Strict).unwrap_err().to_string();
    assert!(
        refused.starts_with(
            "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: "
        ),
        "{refused}"
    );
    let other = br#"{"apiVersion":"example.com/v1beta1","kind":"Widget"}"#;
    let refused = decode(MediaType::Json, other, widget().target()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the API version in the data (example.com/v1beta1) does not match the expected API version (example.com/v1)"
    );
}

#[test]
fn generations_follow_what_is_not_status() {
    let custom = widget().custom.unwrap();
    let mut object =
        json!({"metadata": {"name": "a"}, "spec": {"size": 1}, "status": {"ready": true}});
    prepare::create(custom, &mut object);
    assert_eq!(object["metadata"]["generation"], 1);
    assert!(object.get("status").is_none());
    let old = object.clone();
    let mut new = old.clone();
    new["status"] = json!({"ready": true});
    prepare::update(custom, &mut new, &old);
    assert_eq!(new, old, "the status is a subresource");
    new["spec"]["size"] = json!(2);
    prepare::update(custom, &mut new, &old);
    assert_eq!(new["metadata"]["generation"], 2);
    let mut status = old.clone();
    status["status"] = json!({"ready": true});
    status["spec"]["size"] = json!(9);
    prepare::status(&mut status, &old);
    assert_eq!((&status["spec"]["size"], &status["status"]["ready"]), (&json!(1), &json!(true)));
    assert_eq!(status["metadata"]["generation"], 1);
}

#[test]
fn old_objects_are_served_as_the_schema_is_now() {
    let def = Definition::of(&definition(schema())).version("v1beta1").unwrap();
    let kept = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {},
                      "spec": {"gone": 1}, "status": {}});
    let served = crate::convert::to_served(def, kept);
    assert_eq!(served["apiVersion"], "example.com/v1beta1");
    assert_eq!(served["spec"], json!({"size": 3}));
    assert_eq!(crate::convert::to_stored(def, served)["apiVersion"], "example.com/v1");
}

#[test]
fn sets_are_applied_item_by_item() {
    let def = widget();
    let target =
        managed::Target { gvk: def.gvk, schema: def.schema, has_status: true, custom: def.custom };
    let object = |tags: Value| {
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"},
               "spec": {"tags": tags, "any": {"k": {"deep": 1}}}})
    };
    let by = |manager| managed::Writer { manager, subresource: "", now: "2026-01-01T00:00:00Z" };
    let first = managed::apply(None, &object(json!(["a"])), target, by("one"), false).unwrap();
    let both =
        managed::apply(Some(&first), &object(json!(["b"])), target, by("two"), false).unwrap();
    assert_eq!(both["spec"]["tags"], json!(["a", "b"]));
    let without = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"},
                         "spec": {"any": {"k": {"deep": 1}}}});
    let less = managed::apply(Some(&both), &without, target, by("one"), false).unwrap();
    assert_eq!(less["spec"]["tags"], json!(["b"]));
    let mut taken = object(json!(["b"]));
    taken["spec"]["any"]["k"]["deep"] = json!(2);
    let conflict = managed::apply(Some(&both), &taken, target, by("two"), false).unwrap_err();
    assert_eq!(
        conflict.to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.any.k.deep"
    );
    let mut unknown = object(json!([]));
    unknown["spec"]["nope"] = json!(1);
    let error = managed::apply(None, &unknown, target, by("one"), false).unwrap_err().to_string();
    assert!(error.ends_with(".spec.nope: field not declared in schema"), "{error}");
}

#[test]
fn documents_have_the_custom_groups_too() {
    let defs = || Definition::of(&definition(schema())).served().collect::<Vec<_>>().into_iter();
    let documents = documents::Documents::new(defs(), None);
    let group = documents.group("example.com").unwrap();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    assert!(documents.resource_list("example.com", "v1").is_some());
    assert!(documents.resource_list("example.com", "v2").is_none());
    let document = documents.openapi("apis/example.com/v1").unwrap();
    let value: Value = serde_json::from_slice(&document.body).unwrap();
    let schemas = &value["components"]["schemas"];
    assert_eq!(
        schemas["com.example.v1.Widget"]["properties"]["spec"]["properties"]["size"]["default"],
        3
    );
    assert!(schemas.get("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").is_some());
    assert!(schemas.get("io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata").is_none());
    let patch =
        &value["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    assert!(
        patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none()
    );
    let again = documents::Documents::new(defs(), Some(&documents));
    assert_eq!(again.openapi("apis/example.com/v1").unwrap().hash, document.hash);
    let index: Value = serde_json::from_slice(&documents.index().body).unwrap();
    assert!(index["paths"].get("apis/example.com/v1beta1").is_some());
    assert!(index["paths"].get("apis/apps/v1").is_some());
}

#[test]
fn definitions_are_checked() {
    let told = |definition: &Value| {
        let errors = crate::validation::create(GROUP, "v1", "CustomResourceDefinition", definition);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut good = definition(schema());
    good["spec"]["conversion"] = json!({"strategy": "None"});
    assert_eq!(told(&good), Vec::<String>::new());
    let cases: [(&str, Value, &str); 8] = [
        (
            "/spec/group",
            json!("dotless"),
            "spec.group: Invalid value: \"dotless\": should be a domain with at least one dot",
        ),
        (
            "/spec/scope",
            json!("World"),
            "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            "/spec/names/listKind",
            json!("Widget"),
            "spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same",
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/type",
            json!(""),
            "VERSION0.properties[spec].type: Required value: must not be empty for specified object fields",
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/additionalProperties",
            json!(true),
            "VERSION0.additionalProperties: Forbidden: must not be used at the root",
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/default",
            json!("x"),
            concat!(
                "VERSION0.properties[spec].properties[size].default: Invalid value: \"string\": ",
                "VERSION0.properties[spec].properties[size].default in body must be of type integer: \"string\""
            ),
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/anyOf",
            json!([{"type": "integer"}]),
            "VERSION0.properties[spec].properties[size].anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "A", "type": "text", "jsonPath": ".a"}]),
            concat!(
                "spec.versions[0].additionalPrinterColumns[0].type: Unsupported value: \"text\": ",
                "supported values: \"boolean\", \"date\", \"integer\", \"number\", \"string\""
            ),
        ),
    ];
    for (pointer, value, want) in cases {
        let mut bad = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[name] = value;
        let told = told(&bad);
        let want = want.replace("VERSION0", "spec.versions[0].schema.openAPIV3Schema");
        assert!(told.contains(&want), "{pointer}: {told:#?}");
    }
}
