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

    changed(&cluster, &kubectl);
    stricter(&cluster, &kubectl);
}

/// Rules about changes, and about the status.
fn changed(cluster: &Cluster, kubectl: &Kubectl) {
    let at = |number: usize| kubectl.at(&cluster.masters[number].url());
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
}

/// What was there before a rule.
fn stricter(cluster: &Cluster, kubectl: &Kubectl) {
    step("what was there before a rule is not complained about while it stays");
    let mut stricter = definition();
    stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["class"]["x-kubernetes-validations"] = json!([{"rule": "self.startsWith('class-')"}]);
    kubectl.at(&cluster.masters[0].url()).run_with(&["apply", "-f", "-"], &stricter.to_string());
    kubectl.run(&["label", "scaler", "good", "a=b"]);
    let second = kubectl.at(&cluster.masters[1].url());
    let patch = ["patch", "scaler", "good", "--type=merge", "-p", r#"{"spec": {"class": "c"}}"#];
    told(
        &complaint(&second, &patch, ""),
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

fn policy(name: &str, kind: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec["matchConstraints"].is_null() {
        spec["matchConstraints"] = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]});
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn deployment(name: &str, namespace: &str, replicas: i64) -> String {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "x"}}, "template": {
            "metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    .to_string()
}

/// Policies that say no: variables, parameters, messages, selectors, match conditions, the authorizer.
#[test]
fn validating_policies_judge_writes_on_every_master() {
    let cluster = Cluster::start(3);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    let at = |number: usize| kubectl.at(&cluster.masters[number].url());
    let create = |number: usize, object: &Value| {
        let (code, out, complaint) = at(number).tried(&["create", "-f", "-"], &object.to_string());
        assert!(code == 0 && !complaint.contains("Warning"), "{out} {complaint}");
    };
    let kind = "ValidatingAdmissionPolicy";

    step("what does not compile is refused");
    let bad =
        policy("bad", kind, json!({"validations": [{"expression": "object.spec.replicas <="}]}));
    told(
        &complaint(&kubectl, &["create", "-f", "-"], &bad.to_string()),
        &[
            "spec.validations[0].expression: Invalid value: \"object.spec.replicas <=\": compilation failed: ERROR: \
           <input>:1:24: Syntax error",
        ],
    );

    step("a policy has an effect with its binding");
    create(
        0,
        &policy(
            "replicas",
            kind,
            json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-exempt", "expression": "object.metadata.name != 'exempt'"}],
        "variables": [{"name": "max", "expression": "int(params.data.max)"}],
        "auditAnnotations": [{"key": "who", "valueExpression": "'by ' + request.userInfo.username"}],
        "validations": [{"expression": "object.spec.replicas <= variables.max", "reason": "Forbidden",
            "messageExpression": "'at most ' + string(variables.max) + ' in ' + namespaceObject.metadata.name"},
            {"expression": "authorizer.requestResource.check('delete').allowed()",
             "message": "who makes one must be able to delete it"}]}),
        ),
    );
    kubectl.run(&["create", "configmap", "limits", "--from-literal=max=3"]);
    kubectl.run_with(&["create", "-f", "-"], &deployment("free", "default", 5));
    create(
        1,
        &json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "everywhere"}, "spec": {"policyName": "replicas", "validationActions": ["Deny"],
            "paramRef": {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"},
            "matchResources": {"namespaceSelector": {"matchExpressions": [
                {"key": "free", "operator": "DoesNotExist"}]}}}}),
    );
    for number in [1, 0, 2] {
        let denied =
            complaint(&at(number), &["create", "-f", "-"], &deployment("many", "default", 4));
        told(
            &denied,
            &[
                "deployments.apps \"many\" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'everywhere' \
               denied request: at most 3 in default",
            ],
        );
    }
    kubectl.run_with(&["create", "-f", "-"], &deployment("few", "default", 3));
    kubectl.run_with(&["create", "-f", "-"], &deployment("exempt", "default", 9));
    told(
        &complaint(&kubectl, &["label", "deployment", "free", "a=b"], ""),
        &["denied request: at most 3 in default"],
    );

    selected(&kubectl);
    warned(&kubectl);
    types(&kubectl);
}

/// What a binding selects, and its parameters.
fn selected(kubectl: &Kubectl) {
    step("selectors and parameters count as they are");
    kubectl.run(&["create", "namespace", "open"]);
    kubectl.run(&["label", "namespace", "open", "free=yes"]);
    kubectl.run_with(&["create", "-f", "-"], &deployment("many", "open", 9));
    kubectl.run(&["patch", "configmap", "limits", "-p", r#"{"data": {"max": "9"}}"#]);
    kubectl.run_with(&["create", "-f", "-"], &deployment("many", "default", 9));
    kubectl.run(&["delete", "configmap", "limits"]);
    told(
        &complaint(kubectl, &["create", "-f", "-"], &deployment("other", "default", 1)),
        &[
            "denied request: failed to configure binding: no params found for policy binding with `Deny`",
        ],
    );
}

/// Bindings that warn.
fn warned(kubectl: &Kubectl) {
    step("a warning is no refusal");
    let warn = json!([{"op": "replace", "path": "/spec/validationActions", "value": ["Warn"]},
        {"op": "remove", "path": "/spec/paramRef"}]);
    let binding = "validatingadmissionpolicybinding/everywhere";
    kubectl.run(&["patch", binding, "--type=json", "-p", &warn.to_string()]);
    let (code, _, warned) =
        kubectl.tried(&["create", "-f", "-"], &deployment("warned", "default", 1));
    assert_eq!(code, 0, "{warned}");
    told(
        &warned,
        &[
            "Warning: Validation failed for ValidatingAdmissionPolicy 'replicas' with binding 'everywhere'",
        ],
    );
    kubectl.run(&["delete", binding]);
}

/// The status says what does not fit the types of what a policy is about.
fn types(kubectl: &Kubectl) {
    step("types are told of in the status");
    let typed = policy(
        "typed",
        "ValidatingAdmissionPolicy",
        json!({"validations": [
        {"expression": "object.spec.replicas > '1'"}, {"expression": "object.spec.replicas > 1"}]}),
    );
    kubectl.run_with(&["create", "-f", "-"], &typed.to_string());
    common::until("the policy is looked at", common::PATIENCE, || {
        kubectl.field("validatingadmissionpolicy/typed", "{.status.observedGeneration}") == "1"
    });
    let policy = kubectl.get(&["validatingadmissionpolicy", "typed"]);
    let warnings = policy["status"]["typeChecking"]["expressionWarnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{policy}");
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[0].expression");
    told(
        warnings[0]["warning"].as_str().unwrap(),
        &[
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'",
        ],
    );
}

/// Policies that change what is written: parts of objects and patches, in the order of their names.
#[test]
fn mutating_policies_change_writes() {
    let cluster = Cluster::start(1);
    let Some(kubectl) = Kubectl::new(&cluster.kubeconfig()) else { return };
    let kind = "MutatingAdmissionPolicy";
    let bind = |name: &str| {
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name}});
        kubectl.run_with(&["create", "-f", "-"], &binding.to_string());
    };
    let sidecar = "Object{metadata: Object.metadata{labels: {'team': request.userInfo.username}}, \
        spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: \
        [Object.spec.template.spec.containers{name: 'sidecar', image: 'proxy'}]}}}}";
    let annotate = "(has(object.metadata.annotations) ? [] : \
        [JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}]) + [JSONPatch{op: 'add', \
        path: '/metadata/annotations/' + jsonpatch.escapeKey('example.com/containers'), \
        value: string(object.spec.template.spec.containers.size())}]";
    kubectl.run_with(&["create", "-f", "-"], &policy("a-sidecar", kind, json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "matchConditions": [{"name": "only-new", "expression": "request.operation == 'CREATE'"}],
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": sidecar}}]})).to_string());
    kubectl.run_with(
        &["create", "-f", "-"],
        &policy(
            "b-annotate",
            kind,
            json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": annotate}}]}),
        )
        .to_string(),
    );
    bind("a-sidecar");
    bind("b-annotate");

    step("what is made is changed");
    kubectl.run_with(&["create", "-f", "-"], &deployment("changed", "default", 1));
    let made = kubectl.get(&["deployment", "changed"]);
    assert!(made["metadata"]["labels"]["team"].is_string(), "{made}");
    let names: Vec<&str> = made["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&"sidecar") && names.contains(&"c"), "{names:?}");
    assert_eq!(made["metadata"]["annotations"]["example.com/containers"], "2");

    step("what a mutation makes has to fit");
    let wrong = "Object{spec: Object.spec{nothing: 1}}";
    kubectl.run_with(&["create", "-f", "-"], &policy("c-wrong", kind, json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": wrong}}]})).to_string());
    bind("c-wrong");
    told(
        &complaint(&kubectl, &["create", "-f", "-"], &deployment("other", "default", 1)),
        &["policy 'c-wrong' with binding 'c-wrong' denied request: ", "nothing"],
    );
}
