//! Rules of custom kinds, when definitions are written.

use super::*;
use crate::validation::definition_schema;

/// What is wrong with the schema of a spec.
fn told(spec: &Value) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let mut errors = Errors::new();
    definition_schema::root(&schema, "schema", &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn with(rule: &Value) -> Value {
    json!({"type": "object", "x-kubernetes-validations": [rule],
        "properties": {"a": {"type": "integer"}, "s": {"type": "string"},
            "l": {"type": "array", "items": {"type": "string"}}}})
}

#[test]
fn rules_must_compile() {
    let place = "schema.properties[spec].x-kubernetes-validations[0]";
    let shown = |rule: &str, message: &str| {
        json!({"Rule": rule, "Message": "", "MessageExpression": message, "Reason": null, "FieldPath": "",
            "OptionalOldSelf": null})
    };
    for (rule, want) in [
        (
            "self.nothing == 1",
            "compilation failed: ERROR: <input>:1:5: undefined field 'nothing'\n | self.nothing == 1\n | ....^",
        ),
        ("self.a", "cel expression must evaluate to a bool"),
        (
            "self.a == 'x'",
            "compilation failed: ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(int, string)'\n \
             | self.a == 'x'\n | .......^",
        ),
        (
            "object.a == 1",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'object' (in container '')\n \
             | object.a == 1\n | ^",
        ),
    ] {
        let shown = crate::text::json(&shown(rule, ""));
        let want = format!("{place}.rule: Invalid value: {shown}: {want}");
        assert_eq!(told(&with(&json!({"rule": rule}))), [want]);
    }
    let bad = told(&with(&json!({"rule": "self.a +"})));
    assert_eq!(bad.len(), 1);
    assert!(bad[0].contains("compilation failed: ERROR: <input>:1:9: Syntax error:"), "{bad:?}");
    let bad = told(&with(&json!({"rule": "self.a > 1", "messageExpression": "self.a"})));
    let shown = crate::text::json(&shown("self.a > 1", "self.a"));
    let want = format!(
        "{place}.messageExpression: Invalid value: {shown}: messageExpression must evaluate to a string"
    );
    assert_eq!(bad, [want]);
    assert!(
        told(&with(
            &json!({"rule": "self.a > 1", "messageExpression": "'a is ' + string(self.a)"})
        ))
        .is_empty()
    );
}

#[test]
fn rules_must_be_complete() {
    let place = "schema.properties[spec].x-kubernetes-validations[0]";
    for (rule, want) in [
        (json!({"rule": " "}), "rule: Required value: rule is not specified"),
        (
            json!({"rule": "true", "message": " "}),
            "message: Invalid value: \" \": message must be non-empty if specified",
        ),
        (
            json!({"rule": "true", "message": "a\nb"}),
            "message: Invalid value: \"a\\nb\": message must not contain line breaks",
        ),
        (
            json!({"rule": "true &&\ntrue"}),
            "message: Required value: message must be specified if rule contains line breaks",
        ),
        (
            json!({"rule": "true", "messageExpression": " "}),
            "messageExpression: Required value: messageExpression must be non-empty if specified",
        ),
        (
            json!({"rule": "true", "reason": "Why"}),
            "reason: Unsupported value: \"Why\": supported values: \"FieldValueDuplicate\", \
             \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
        ),
        (
            json!({"rule": "true", "fieldPath": ".x"}),
            "fieldPath: Invalid value: \".x\": fieldPath must be a valid path: does not refer to a valid field",
        ),
        (
            json!({"rule": "self.a > 1", "optionalOldSelf": true}),
            "optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
    ] {
        assert_eq!(told(&with(&rule)), [format!("{place}.{want}")]);
    }
}

#[test]
fn rules_must_not_cost_too_much() {
    let told = |spec: Value| told(&spec);
    let nested = |max: Option<u64>| {
        let mut list = json!({"type": "array", "items": {"type": "array", "items": {"type": "string", "maxLength": 500},
            "x-kubernetes-validations": [{"rule": "self.all(s, s == \"constant\")"}]}});
        if let Some(max) = max {
            list["maxItems"] = json!(max);
            list["items"]["maxItems"] = json!(max);
        }
        list
    };
    assert_eq!(told(nested(Some(10))), Vec::<String>::new());
    let dear = told(nested(None));
    assert!(
        dear[0].starts_with(
            "schema.properties[spec].items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds \
             budget by factor of more than 100x (try simplifying"
        ),
        "{dear:?}"
    );
    assert!(dear.iter().any(|one| one.starts_with(
        "schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds"
    )));
}

#[test]
fn changes_are_asked_about_only_where_one_can_tell() {
    let list = |kind: &str| {
        let mut list = json!({"type": "array", "maxItems": 5, "items": {"type": "object", "required": ["k"],
            "x-kubernetes-validations": [{"rule": "self == oldSelf"}],
            "properties": {"k": {"type": "string", "maxLength": 5}}}});
        list["x-kubernetes-list-type"] = json!(kind);
        if kind == "map" {
            list["x-kubernetes-list-map-keys"] = json!(["k"]);
        }
        list
    };
    assert_eq!(told(&list("map")), Vec::<String>::new());
    assert_eq!(
        told(&list("atomic")),
        [concat!(
            "schema.properties[spec].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": ",
            "oldSelf cannot be used on the uncorrelatable portion of the schema within schema.properties[spec]"
        )]
    );
}

#[test]
fn defaults_must_not_break_rules() {
    let spec = json!({"type": "object", "properties": {"a": {"type": "integer", "default": 1,
        "x-kubernetes-validations": [{"rule": "self > 1"}]}}});
    assert_eq!(
        told(&spec),
        [
            "schema.properties[spec].properties[a].default: Invalid value: \"integer\": failed rule: self > 1"
        ]
    );
}
