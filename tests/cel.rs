//! Expressions (CEL) as their writers meet them: rules of custom kinds and admission policies, on several masters, with
//! the real kubectl.

#![allow(clippy::unwrap_used, clippy::large_futures, reason = "helpers of tests")]

mod common;

use common::cluster::Cluster;
use common::kubectl::Kubectl;
use common::step;
use serde_json::{Value, json};

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "scalers.rules.example.com"},
        "spec": {
            "group": "rules.example.com", "scope": "Namespaced",
            "names": {"plural": "scalers", "kind": "Scaler"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object",
                        "x-kubernetes-validations": [
                            {"rule": "self.min <= self.replicas && self.replicas <= self.max",
                             "messageExpression": "'replicas must be between ' + string(self.min) + ' and ' + string(self.max)",
                             "fieldPath": ".replicas"}],
                        "required": ["min", "max"],
                        "properties": {"replicas": {"type": "integer", "default": 3}, "min": {"type": "integer"},
                            "max": {"type": "integer"},
                            "class": {"type": "string", "x-kubernetes-validations": [
                                {"rule": "self == oldSelf", "message": "class is immutable",
                                 "reason": "FieldValueForbidden"}]},
                            "names": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10,
                                "x-kubernetes-validations": [{"rule": "!format.dns1123Label().validate(self).hasValue()",
                                    "message": "must be a label"}]}}}},
                    "status": {"type": "object", "properties": {"ready": {"type": "integer",
                        "x-kubernetes-validations": [{"rule": "self >= 0"}]}}},
                }}}}],
        },
    })
}

fn scaler(name: &str, spec: Value) -> String {
    json!({"apiVersion": "rules.example.com/v1", "kind": "Scaler",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec})
    .to_string()
}

/// What kubectl complains about.
fn complaint(kubectl: &Kubectl, arguments: &[&str], stdin: &str) -> String {
    let (code, out, complaint) = kubectl.tried(arguments, stdin);
    assert_eq!(code, 1, "{arguments:?} was accepted: {out}");
    complaint
}

fn told(complaint: &str, parts: &[&str]) {
    for part in parts {
        assert!(complaint.contains(part), "{part:?} not in {complaint}");
    }
}

#[test]
fn rules_of_custom_kinds_hold_on_every_master() {
    let cluster = Cluster::start(3);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    let at = |number: usize| kubectl.at(&cluster.masters[number].url());
    refused(&kubectl);
    let (code, _, warned) = at(0).tried(&["create", "-f", "-"], &definition().to_string());
    assert!(code == 0 && !warned.contains("Warning"), "{warned}");
    kubectl.run(&[
        "wait",
        "--for=condition=Established",
        "crd/scalers.rules.example.com",
        "--timeout=30s",
    ]);

    step("rules are asked when objects are made");
    for number in 0..3 {
        let bad = scaler("bad", json!({"min": 5, "max": 9, "names": ["ok", "Not Ok"]}));
        let complaint = complaint(&at(number), &["create", "-f", "-"], &bad);
        told(
            &complaint,
            &[
                "spec.replicas: Invalid value: \"object\": replicas must be between 5 and 9",
                "spec.names[1]: Invalid value: \"string\": must be a label",
            ],
        );
    }
    let incomplete = complaint(&kubectl, &["create", "-f", "-"], &scaler("bad", json!({"min": 5})));
    told(&incomplete, &["spec.max: Required value", "some validation rules were not checked"]);
    kubectl.run_with(
        &["create", "-f", "-"],
        &scaler("good", json!({"min": 1, "max": 9, "class": "a"})),
    );

    step("and when they change");
    let patch = |patch: &str| -> Vec<String> {
        ["patch", "scaler", "good", "--type=merge", "-p", patch].map(str::to_owned).to_vec()
    };
    let patched = |number: usize, with: &str| {
        let arguments = patch(with);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        complaint(&at(number), &arguments, "")
    };
    told(
        &patched(1, r#"{"spec": {"class": "b"}}"#),
        &["spec.class: Forbidden: class is immutable"],
    );
    told(&patched(2, r#"{"spec": {"replicas": 10}}"#), &["replicas must be between 1 and 9"]);
    at(1).run(&["patch", "scaler", "good", "--type=merge", "-p", r#"{"spec": {"replicas": 8}}"#]);
    let status = [
        "patch",
        "scaler",
        "good",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status": {"ready": -1}}"#,
    ];
    told(
        &complaint(&at(2), &status, ""),
        &["status.ready: Invalid value: \"integer\": failed rule: self >= 0"],
    );

    step("what was there before a rule is not complained about while it stays");
    let mut stricter = definition();
    stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["class"]["x-kubernetes-validations"] = json!([{"rule": "self.startsWith('class-')"}]);
    at(0).run_with(&["apply", "-f", "-"], &stricter.to_string());
    kubectl.run(&["label", "scaler", "good", "a=b"]);
    told(
        &patched(1, r#"{"spec": {"class": "c"}}"#),
        &["spec.class: Invalid value: \"string\": failed rule: self.startsWith('class-')"],
    );
    kubectl.run(&[
        "patch",
        "scaler",
        "good",
        "--type=merge",
        "-p",
        r#"{"spec": {"class": "class-c"}}"#,
    ]);
}

/// What is wrong with rules is told when they are written.
fn refused(kubectl: &Kubectl) {
    let place =
        "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: ";
    for (rule, parts) in [
        (
            "self.replicas <= self.nothing",
            vec!["compilation failed: ERROR: <input>:1:22: undefined field 'nothing'"],
        ),
        ("self.replicas <=", vec!["compilation failed: ERROR: <input>:1:17: Syntax error"]),
        ("self.names.all(a, self.names.all(b, a == b || a.contains(b) || b.contains(a)))", vec![]),
    ] {
        let mut bad = definition();
        let spec =
            &mut bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["x-kubernetes-validations"] = json!([{"rule": rule}]);
        if parts.is_empty() {
            spec["properties"]["names"] = json!({"type": "array", "items": {"type": "string"}});
        }
        let complaint = complaint(kubectl, &["create", "-f", "-"], &bad.to_string());
        told(&complaint, &[place]);
        told(&complaint, &parts);
        if parts.is_empty() {
            told(&complaint, &["estimated rule cost exceeds budget by factor of more than 100x"]);
        }
    }
}
