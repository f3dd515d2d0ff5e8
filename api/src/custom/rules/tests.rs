//! Rules of schemas: what they see, what they say, when they are not asked.

use serde_json::{Value, json};

use super::*;

fn rules(schema: &Value) -> Rules {
    Rules::root(schema).unwrap()
}

fn told(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let errors = rules(schema).check(new, old);
    errors.iter().map(ToString::to_string).collect()
}

fn spec(spec: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

fn rule(rule: &str) -> Value {
    json!([{"rule": rule}])
}

/// The page of the documentation: the autoscaler, and `fieldPath`, `reason`, `messageExpression`.
#[test]
fn the_documented_rules() {
    let schema = spec(&json!({"type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.minReplicas <= self.replicas",
             "message": "replicas should be greater than or equal to minReplicas."},
            {"rule": "self.replicas <= self.maxReplicas", "reason": "FieldValueForbidden", "fieldPath": ".replicas",
             "messageExpression": "'replicas must be at most ' + string(self.maxReplicas)"},
            {"rule": "self.maxReplicas < 100"},
        ],
        "properties": {"replicas": {"type": "integer"}, "minReplicas": {"type": "integer"},
                       "maxReplicas": {"type": "integer"}}}));
    let object = |min: i64, at: i64, max: i64| json!({"spec": {"minReplicas": min, "replicas": at, "maxReplicas": max}});
    assert!(told(&schema, &object(1, 2, 3), None).is_empty());
    assert_eq!(
        told(&schema, &object(2, 1, 3), None),
        [
            r#"spec: Invalid value: "object": replicas should be greater than or equal to minReplicas."#
        ]
    );
    assert_eq!(
        told(&schema, &object(1, 200, 150), None),
        [
            "spec.replicas: Forbidden: replicas must be at most 150",
            r#"spec: Invalid value: "object": failed rule: self.maxReplicas < 100"#,
        ]
    );
    assert_eq!(
        told(&schema, &json!({"spec": {"replicas": 1, "maxReplicas": 1}}), None),
        [concat!(
            r#"spec: Invalid value: "object": no such key: minReplicas evaluating rule: "#,
            "replicas should be greater than or equal to minReplicas."
        )]
    );
}

#[test]
fn rules_are_asked_at_every_level() {
    let schema = spec(&json!({"type": "object", "properties": {
        "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": rule("self != 'bad'")}},
        "map": {"type": "object", "additionalProperties":
            {"type": "integer", "x-kubernetes-validations": rule("self < 5")}},
        "x-dash": {"type": "object", "x-kubernetes-validations": rule("self.namespace_ == ''"),
            "properties": {"namespace_": {"type": "string"}}},
        "port": {"x-kubernetes-int-or-string": true, "x-kubernetes-validations": rule("self > 3")},
        "at": {"type": "string", "format": "date-time",
            "x-kubernetes-validations": rule("self.getFullYear() > 2000")},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true,
            "x-kubernetes-validations": rule("self.kind == 'Pod' && self.metadata.name.startsWith('x')")},
    }}));
    let good = json!({"spec": {"list": ["good", null], "map": {"a": 1}, "x-dash": {"namespace_": ""}, "port": 4,
        "at": "2024-01-01T00:00:00Z", "pod": {"kind": "Pod", "metadata": {"name": "x1", "labels": {}}}}});
    assert_eq!(told(&schema, &good, None), Vec::<String>::new());
    let bad = json!({"spec": {"list": ["good", "bad"], "map": {"a": 9}, "x-dash": {"namespace_": "n"}, "port": "4",
        "at": "1999-01-01T00:00:00Z", "pod": {"kind": "Pod", "metadata": {"name": "y"}}}});
    let mut found = told(&schema, &bad, None);
    found.sort();
    assert_eq!(
        found,
        [
            r#"spec.at: Invalid value: "string": failed rule: self.getFullYear() > 2000"#,
            r#"spec.list[1]: Invalid value: "string": failed rule: self != 'bad'"#,
            r#"spec.map[a]: Invalid value: "integer": failed rule: self < 5"#,
            concat!(
                r#"spec.pod: Invalid value: "object": failed rule: "#,
                "self.kind == 'Pod' && self.metadata.name.startsWith('x')"
            ),
            concat!(
                r#"spec.port: Invalid value: "": 'no such overload': call arguments did not match a supported operator, "#,
                "function or macro signature for rule: self > 3"
            ),
            r#"spec.x-dash: Invalid value: "object": failed rule: self.namespace_ == ''"#,
        ]
    );
}

#[test]
fn the_root_has_a_name_and_no_more() {
    let mut schema = spec(&json!({"type": "string"}));
    schema["x-kubernetes-validations"] = rule("self.metadata.name == self.spec");
    assert!(told(&schema, &json!({"metadata": {"name": "a"}, "spec": "a"}), None).is_empty());
    assert_eq!(
        told(&schema, &json!({"metadata": {"name": "b"}, "spec": "a"}), None),
        [r#"<nil>: Invalid value: "object": failed rule: self.metadata.name == self.spec"#]
    );
}

#[test]
fn changes_are_asked_about_where_one_can_tell() {
    let schema = spec(&json!({"type": "object", "properties": {
        "fixed": {"type": "string", "x-kubernetes-validations":
            [{"rule": "self == oldSelf", "message": "fixed is immutable"}]},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "x-kubernetes-validations": rule("self.size >= oldSelf.size"),
                "properties": {"name": {"type": "string"}, "size": {"type": "integer"}}}},
        "state": {"type": "string", "x-kubernetes-validations": [{"optionalOldSelf": true,
            "rule": "oldSelf.hasValue() || self == 'new'", "message": "starts as new"}]},
    }}));
    let object = |fixed: &str, size: i64, state: &str| {
        json!({"spec": {"fixed": fixed, "state": state,
            "parts": [{"name": "b", "size": 1}, {"name": "a", "size": size}]}})
    };
    let old = json!({"spec": {"fixed": "x", "state": "new", "parts": [{"name": "a", "size": 2}]}});
    assert!(told(&schema, &object("x", 3, "other"), Some(&old)).is_empty());
    assert_eq!(
        told(&schema, &object("y", 1, "new"), Some(&old)),
        [
            r#"spec.fixed: Invalid value: "string": fixed is immutable"#,
            r#"spec.parts[1]: Invalid value: "object": failed rule: self.size >= oldSelf.size"#,
        ]
    );
    assert_eq!(
        told(&schema, &object("y", 1, "other"), None),
        [r#"spec.state: Invalid value: "string": starts as new"#]
    );
}

#[test]
fn what_has_not_changed_is_not_told_again() {
    let schema = spec(&json!({"type": "object",
        "x-kubernetes-validations": rule("self.size < 5"),
        "properties": {"size": {"type": "integer", "x-kubernetes-validations": rule("self < 4")},
            "name": {"type": "string"},
            "list": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": rule("self < 3")}}}}));
    let object = |size: i64, name: &str, list: Value| json!({"spec": {"size": size, "name": name, "list": list}});
    let old = object(9, "a", json!([7]));
    assert!(told(&schema, &old, Some(&old)).is_empty());
    // The field is as it was, its parent is not.
    assert_eq!(
        told(&schema, &object(9, "b", json!([7])), Some(&old)),
        [r#"spec: Invalid value: "object": failed rule: self.size < 5"#]
    );
    // Of items of a list without keys one cannot tell: the list counts.
    assert_eq!(told(&schema, &object(9, "b", json!([7, 1])), Some(&old)).len(), 2);
    assert_eq!(told(&schema, &object(8, "a", json!([7])), Some(&old)).len(), 2);
}

#[test]
fn rules_that_cost_too_much_are_cut_off() {
    let schema = spec(&json!({"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": rule("self.all(a, self.all(b, self.all(c, a + b + c >= 0)))")}));
    let many: Vec<i64> = (0..500).collect();
    assert_eq!(
        told(&schema, &json!({"spec": many}), None),
        [concat!(
            r#"spec: Invalid value: "array": 'operation cancelled: actual cost limit exceeded': "#,
            "no further validation rules will be run due to call cost exceeds limit for rule: ",
            "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"
        )]
    );
    // Each is within its limit; all together are not.
    let schema =
        spec(&json!({"type": "array", "items": {"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": rule("self.all(a, self.all(b, a + b >= 0))")}}));
    let rows: Vec<Vec<i64>> = (0..40).map(|_| (0..300).collect()).collect();
    let told = told(&schema, &json!({"spec": rows}), None);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("running out of cost budget, no further validation rules will be run")
    );
}
