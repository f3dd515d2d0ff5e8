//! Admission, flow control, API services, migrations, devices.

use super::*;

const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const DEVICES: &str = "resource.k8s.io";

fn hook(patch: Value) -> Value {
    let mut hook = json!({"name": "a.example.com", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://h/p"}, "rules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
    json_patch::merge(&mut hook, &patch);
    json!({"webhooks": [hook]})
}

#[test]
fn configurations_of_webhooks() {
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        check(ADMISSION, kind, json!({}), &[]);
        check(ADMISSION, kind, hook(json!({})), &[]);
        check_update(ADMISSION, kind, json!({}), hook(json!({})), &[]);
        let conditional = hook(json!({"matchConditions": [{"name": "a", "expression": "true"}]}));
        check(ADMISSION, kind, conditional, &[]);
    }
    let kind = "ValidatingWebhookConfiguration";
    for (patch, want) in [
        (json!({"name": null}), vec!["webhooks[0].name: Required value"]),
        (
            json!({"name": "a.b"}),
            vec![
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three \
                 segments separated by dots",
            ],
        ),
        (
            json!({"sideEffects": null}),
            vec!["webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun"],
        ),
        (
            json!({"sideEffects": "Some"}),
            vec![
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \
                 \"NoneOnDryRun\"",
            ],
        ),
        (
            json!({"timeoutSeconds": 31, "failurePolicy": "x", "matchPolicy": "y"}),
            vec![
                "webhooks[0].failurePolicy: Unsupported value: \"x\": supported values: \"Fail\", \
                 \"Ignore\"",
                "webhooks[0].matchPolicy: Unsupported value: \"y\": supported values: \
                 \"Equivalent\", \"Exact\"",
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 \
                 and 30 seconds",
            ],
        ),
        (
            json!({"admissionReviewVersions": []}),
            vec![
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ],
        ),
        (
            json!({"admissionReviewVersions": ["v2", "v2"]}),
            vec![
                "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include \
                 at least one of v1, v1beta1",
            ],
        ),
        (
            json!({"clientConfig": {"url": null}}),
            vec![
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ],
        ),
        (
            json!({"clientConfig": {"url": "http://u@/p?q#f"}}),
            vec![
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed \
                 URL scheme; desired format: https://host[/path]",
                "webhooks[0].clientConfig.url: Invalid value: \"\": host must be provided; desired \
                 format: https://host[/path]",
                "webhooks[0].clientConfig.url: Invalid value: \"u\": user information is not \
                 permitted in the URL",
                "webhooks[0].clientConfig.url: Invalid value: \"f\": fragments are not permitted in \
                 the URL",
                "webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not \
                 permitted in the URL",
            ],
        ),
        (
            json!({"clientConfig": {"url": null, "service": {"name": "s", "path": "a//b", "port": 0}}}),
            vec![
                "webhooks[0].clientConfig.service.namespace: Required value: service namespace is \
                 required",
                "webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be \
                 between 1 and 65535, inclusive",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": must start with a '/'",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[0] may not \
                 be empty",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[1] may not \
                 be empty",
            ],
        ),
        (
            json!({"matchConditions": [{"name": "a"}, {"name": "a", "expression": "true"}]}),
            vec![
                "webhooks[0].matchConditions[0].expression: Required value",
                "webhooks[0].matchConditions[1].name: Duplicate value: \"a\"",
            ],
        ),
        (
            json!({"rules": [{"operations": ["*", "X"], "apiGroups": ["*", "a"], "apiVersions": [""],
                "resources": ["pods/*", "pods/log", "*/*", "a", "*"], "scope": "s"}]}),
            vec![
                "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"X\"]: if '*' is present, \
                 must not specify other operations",
                "webhooks[0].rules[0].operations[1]: Unsupported value: \"X\": supported values: \
                 \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
                "webhooks[0].rules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, \
                 must not specify other API groups",
                "webhooks[0].rules[0].apiVersions[0]: Required value",
                "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is \
                 present, must not specify pods/log",
                "webhooks[0].rules[0].resources: Invalid value: \
                 [\"pods/*\",\"pods/log\",\"*/*\",\"a\",\"*\"]: if '*/*' is present, must not \
                 specify other resources",
                "webhooks[0].rules[0].scope: Unsupported value: \"s\": supported values: \"*\", \
                 \"Cluster\", \"Namespaced\"",
            ],
        ),
    ] {
        check(ADMISSION, kind, hook(patch), &want);
    }
    check(
        ADMISSION,
        "MutatingWebhookConfiguration",
        hook(json!({"reinvocationPolicy": "x"})),
        &[
            "webhooks[0].reinvocationPolicy: Unsupported value: \"x\": supported values: \"IfNeeded\", \
           \"Never\"",
        ],
    );
}

#[test]
fn admission_policies() {
    let kind = "ValidatingAdmissionPolicy";
    let message =
        json!({"validations": [{"expression": "true", "message": "a\nb", "reason": "x"}]});
    for (patch, want) in [
        (json!({"matchConstraints": null}), vec!["spec.matchConstraints: Required value"]),
        (
            json!({"matchConstraints": {"resourceRules": null}}),
            vec!["spec.matchConstraints.resourceRules: Required value"],
        ),
        (
            json!({"validations": null}),
            vec![
                "spec.validations: Required value: validations or auditAnnotations must contain at \
                 least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain \
                 at least one item",
            ],
        ),
        (
            json!({"validations": [{}]}),
            vec!["spec.validations[0].expression: Required value: expression is not specified"],
        ),
        (
            message,
            vec![
                "spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
                "spec.validations[0].reason: Unsupported value: \"x\": supported values: \
                 \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
            ],
        ),
        (
            json!({"paramKind": {"apiVersion": "a/b/c", "kind": "K_"}}),
            vec![
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion \
                 string: a/b/c",
                "spec.paramKind.kind: Invalid value: \"K_\": may have mixed case, but should \
                 otherwise match: a DNS-1035 label must consist of lower case alphanumeric \
                 characters or '-', start with an alphabetic character, and end with an \
                 alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
                 is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (
            json!({"variables": [{"name": "for", "expression": "1"}, {"expression": " "}]}),
            vec![
                "spec.variables[0].name: Invalid value: \"for\": must be a valid CEL identifier",
                "spec.variables[1].name: Required value: name is not specified",
                "spec.variables[1].expression: Required value: expression is not specified",
            ],
        ),
        (
            json!({"auditAnnotations": [{"key": "k"}]}),
            vec![
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not \
                 specified",
            ],
        ),
        (
            json!({"validations": [{"expression": "object.x", "messageExpression": "1"}],
                "variables": [{"name": "v", "expression": "nothing"}],
                "matchConditions": [{"name": "c", "expression": "params.x == 1"}]}),
            vec![
                "spec.matchConditions[0].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: \
                 <input>:1:1: undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^",
                "spec.variables[0].expression: Invalid value: \"nothing\": compilation failed: ERROR: <input>:1:1: \
                 undeclared reference to 'nothing' (in container '')\n | nothing\n | ^",
                "spec.validations[0].expression: Invalid value: \"object.x\": must evaluate to bool",
                "spec.validations[0].messageExpression: Invalid value: \"1\": must evaluate to string",
            ],
        ),
    ] {
        check(ADMISSION, kind, json!({"spec": patch}), &want);
    }
    let kind = "MutatingAdmissionPolicy";
    for (patch, want) in [
        (
            json!({"mutations": null}),
            vec!["spec.mutations: Required value: mutations must contain at least one item"],
        ),
        (
            json!({"mutations": [{"patchType": "JSONPatch", "applyConfiguration": {}}]}),
            vec![
                "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is \
                 JSONPatch",
                "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must \
                 not be specified when patchType is JSONPatch",
            ],
        ),
        (
            json!({"mutations": [{"patchType": "x"}], "reinvocationPolicy": "y"}),
            vec![
                "spec.mutations[0].patchType: Unsupported value: \"x\": supported values: \
                 \"ApplyConfiguration\", \"JSONPatch\"",
                "spec.reinvocationPolicy: Unsupported value: \"y\": supported values: \"IfNeeded\", \
                 \"Never\"",
            ],
        ),
    ] {
        check(ADMISSION, kind, json!({"spec": patch}), &want);
    }
}

#[test]
fn bindings_are_checked() {
    let spec = |patch: Value| {
        let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
        json_patch::merge(&mut spec, &patch);
        json!({"metadata": {"name": "x"}, "spec": spec})
    };
    let kind = "ValidatingAdmissionPolicyBinding";
    for (patch, want) in [
        (json!({}), vec![]),
        (json!({"policyName": null}), vec!["spec.policyName: Required value"]),
        (
            json!({"validationActions": ["Deny", "Warn", "Deny"]}),
            vec![
                "spec.validationActions[2]: Duplicate value: \"Deny\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\"]: must not contain \
                 both Deny and Warn (repeating the same validation failure information in the API \
                 response and headers serves no purpose)",
            ],
        ),
        (
            json!({"validationActions": null}),
            vec![
                "spec.validationActions: Required value: at least one validation action is required",
            ],
        ),
        (
            json!({"paramRef": {"parameterNotFoundAction": "x"}}),
            vec![
                "spec.paramRef: Required value: one of name or selector must be specified",
                "spec.paramRef.parameterNotFoundAction: Unsupported value: \"x\": supported values: \
                 \"Deny\", \"Allow\"",
            ],
        ),
    ] {
        let mut object = spec(patch.clone());
        defaults::apply(ADMISSION, "v1", kind, &mut object);
        assert_eq!(show(&create(ADMISSION, "v1", kind, &object)), want.join("\n"), "{patch}");
    }
    let object = json!({"metadata": {"name": "x"}, "spec": {"policyName": "p"}});
    let kind = "MutatingAdmissionPolicyBinding";
    assert_eq!(show(&create(ADMISSION, "v1", kind, &object)), "");
}

#[test]
fn flow_schemas() {
    let rule = |patch: Value| {
        let mut rule = json!({"subjects": [{"kind": "User", "user": {"name": "u"}}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/a/*"]}]});
        json_patch::merge(&mut rule, &patch);
        json!({"rules": [rule]})
    };
    for (patch, want) in [
        (rule(json!({})), vec![]),
        (
            json!({"matchingPrecedence": 1}),
            vec![
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have \
                 matchingPrecedence 1",
            ],
        ),
        (
            json!({"matchingPrecedence": 10001, "priorityLevelConfiguration": null,
                "distinguisherMethod": {"type": "x"}}),
            vec![
                "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
                "spec.distinguisherMethod.type: Unsupported value: {\"type\":\"x\"}: supported \
                 values: \"ByNamespace\", \"ByUser\"",
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            ],
        ),
        (
            rule(json!({"subjects": [{"kind": "Group", "user": {"name": "u"}}, {"kind": "x"}],
                "nonResourceRules": null})),
            vec![
                "spec.rules[0].subjects[0].group: Required value: group is required when subject kind \
                 is 'Group'",
                "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is \
                 not 'User'",
                "spec.rules[0].subjects[1].kind: Unsupported value: \"x\": supported values: \
                 \"Group\", \"ServiceAccount\", \"User\"",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has \
                 to be non-empty",
            ],
        ),
        (
            rule(
                json!({"resourceRules": [{"verbs": ["x"], "apiGroups": ["*", "a"], "resources": []}],
                "nonResourceRules": [{"verbs": ["*", "get"], "nonResourceURLs": ["a", "/a*"]}]}),
            ),
            vec![
                "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"x\"]: supported values: \
                 \"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \
                 \"proxy\", \"update\", \"watch\"",
                "spec.rules[0].resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is \
                 present, must not specify other api groups",
                "spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply \
                 at least one resource",
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are \
                 not cluster scoped must supply at least one namespace",
                "spec.rules[0].nonResourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is \
                 present, must not specify other verbs",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must \
                 start with slash",
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"/a*\": \
                 wildcard can only do suffix matching",
            ],
        ),
    ] {
        check(FLOW, "FlowSchema", json!({"spec": patch}), &want);
    }
    let mut object =
        json!({"metadata": {"name": "exempt"}, "spec": flow::mandatory_schema("exempt")});
    assert_eq!(create(FLOW, "v1", "FlowSchema", &object), []);
    object["spec"]["matchingPrecedence"] = json!(2);
    let got = show(&create(FLOW, "v1", "FlowSchema", &object));
    assert!(got.ends_with("spec of 'exempt' must equal the fixed value"), "{got}");
}

#[test]
fn priority_levels() {
    let queue = |patch: Value| {
        let mut queuing = json!({"queues": 64, "handSize": 6, "queueLengthLimit": 50});
        json_patch::merge(&mut queuing, &patch);
        json!({"limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}})
    };
    for (patch, want) in [
        (queue(json!({})), vec![]),
        (
            json!({"type": "Exempt", "limited": null}),
            vec![
                "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is \
                 'exempt'",
            ],
        ),
        (
            json!({"limited": null}),
            vec!["spec.limited: Required value: must not be empty when type is Limited"],
        ),
        (
            json!({"limited": {"lendablePercent": 101, "borrowingLimitPercent": -1,
                "nominalConcurrencyShares": -1, "limitResponse": {"type": "x"}}}),
            vec![
                "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative \
                 integer",
                "spec.limited.limitResponse.type: Unsupported value: \"x\": supported values: \
                 \"Queue\", \"Reject\"",
                "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, \
                 inclusive",
                "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a \
                 non-negative integer",
            ],
        ),
        (
            queue(json!({"queueLengthLimit": -1, "queues": 10, "handSize": 11})),
            vec![
                "spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be \
                 positive",
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 11: should not be greater \
                 than queues (10)",
            ],
        ),
        (
            queue(json!({"queues": 1024, "handSize": 7})),
            vec![
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits \
                 of deckSize 1024 and handSize 7 should not be greater than 60",
            ],
        ),
    ] {
        check(FLOW, "PriorityLevelConfiguration", json!({"spec": patch}), &want);
    }
    let mut object =
        json!({"metadata": {"name": "exempt"}, "spec": flow::mandatory_level("exempt")});
    object["spec"]["exempt"]["nominalConcurrencyShares"] = json!(9);
    assert_eq!(create(FLOW, "v1", "PriorityLevelConfiguration", &object), []);
}

#[test]
fn api_services() {
    let group = "apiregistration.k8s.io";
    let check = |spec: Value, name: &str, want: &[&str]| {
        let mut object = json!({"metadata": {"name": name}, "spec": {"group": "a.b", "version": "v1",
            "groupPriorityMinimum": 100, "versionPriority": 15}});
        json_patch::merge(&mut object["spec"], &spec);
        defaults::apply(group, "v1", "APIService", &mut object);
        assert_eq!(show(&create(group, "v1", "APIService", &object)), want.join("\n"), "{spec}");
    };
    check(json!({}), "v1.a.b", &[]);
    check(
        json!({"groupPriorityMinimum": 20001, "versionPriority": 0}),
        "x",
        &[
            "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\"",
            "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
        ],
    );
    check(
        json!({"group": null, "version": "v2"}),
        "v2.",
        &[
            "spec.group: Required value: only v1 may have an empty group and it better be legacy kube",
        ],
    );
    check(
        json!({"caBundle": "YWI=", "insecureSkipTLSVerify": true}),
        "v1.a.b",
        &[
            "spec.caBundle: Invalid value: \"2 bytes\": local APIServices may not have a caBundle",
            "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have \
             insecureSkipTLSVerify",
        ],
    );
    check(
        json!({"service": {"name": "s"}, "caBundle": "YWI=", "insecureSkipTLSVerify": true}),
        "v1.a.b",
        &[
            "spec.service.namespace: Required value",
            "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
        ],
    );
    check(
        json!({"service": {"name": "s", "namespace": "n"}}),
        "v1.a.b",
        &[
            "spec.service: Forbidden: requests are not forwarded to extension servers by this server yet: \
           an API service with a service would never answer, so that it is refused",
        ],
    );
}

#[test]
fn migrations() {
    let (group, version, kind) = ("storagemigration.k8s.io", "v1beta1", "StorageVersionMigration");
    let object =
        json!({"metadata": {"name": "x"}, "spec": {"resource": {"resource": "deployments"}}});
    assert_eq!(create(group, version, kind, &object), []);
    let mut new = object.clone();
    new["spec"]["resource"]["resource"] = json!("pods");
    let got = show(&update(group, version, kind, &new, &object));
    assert_eq!(got, "resource: Invalid value: \"pods\": field is immutable");
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "R",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let mut new = object.clone();
    new["status"] = json!({"resourceVersion": "07",
        "conditions": [condition("Succeeded"), condition("Running"), {"type": "a b"}]});
    let got = show(&status_update(group, version, kind, &new, &object));
    let first: Vec<&str> = got.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        first,
        [
            "status.resourceVersion",
            "status.conditions[2].type",
            "status.conditions[2].status",
            "status.conditions[2].lastTransitionTime",
            "status.conditions[2].reason",
            "status.conditions",
        ]
    );
    assert!(got.contains("\"07\": resource version is not well formed: 07"), "{got}");
    assert!(
        got.ends_with("Running condition cannot be true when success condition is true"),
        "{got}"
    );
}

#[test]
fn claims_of_devices() {
    let request = |patch: Value| {
        let mut request = json!({"name": "r", "exactly": {"deviceClassName": "c"}});
        json_patch::merge(&mut request, &patch);
        json!({"devices": {"requests": [request]}})
    };
    for (patch, want) in [
        (request(json!({})), vec![]),
        (
            request(json!({"exactly": null})),
            vec![
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or \
                 `firstAvailable` is required",
            ],
        ),
        (
            request(
                json!({"exactly": {"allocationMode": "All", "count": 2, "deviceClassName": null}}),
            ),
            vec![
                "spec.devices.requests[0].exactly.deviceClassName: Required value",
                "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when \
                 allocationMode is 'All'",
            ],
        ),
        (
            request(json!({"exactly": {"allocationMode": "x"}})),
            vec![
                "spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"x\": supported \
                 values: \"All\", \"ExactCount\"",
            ],
        ),
        (
            json!({"devices": {"requests": [], "constraints": [{"requests": ["x"],
                "matchAttribute": "a"}], "config": [{}]}}),
            vec![
                "spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a \
                 request in the claim or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"a\": a fully qualified \
                 name must be a domain and a name separated by a slash",
                "spec.devices.config[0].opaque: Required value",
            ],
        ),
    ] {
        check(DEVICES, "ResourceClaim", json!({"spec": patch}), &want);
    }
    check(
        DEVICES,
        "DeviceClass",
        json!({"spec": {"selectors": [{}], "extendedResourceName": "cpu"}}),
        &[
            "spec.selectors[0].cel: Required value",
            "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
        ],
    );
}

#[test]
fn slices_of_devices() {
    for (patch, want) in [
        (
            json!({"allNodes": true}),
            vec![
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, \
                 `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields \
                 are set",
            ],
        ),
        (
            json!({"nodeName": null}),
            vec![
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, \
                 `perDeviceNodeSelection` is required",
            ],
        ),
        (
            json!({"pool": {"resourceSliceCount": 0, "generation": -1}}),
            vec![
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
            ],
        ),
        (
            json!({"devices": [{"name": "d", "attributes": {"a": {}, "v": {"version": "1.02.3"}},
                "taints": [{"key": "k"}]}, {"name": "d"}]}),
            vec![
                "spec.devices[0].attributes[a]: Invalid value: \"\": exactly one value must be \
                 specified",
                "spec.devices[0].attributes[v].version: Invalid value: \"1.02.3\": must be a string \
                 compatible with semver.org spec 2.0.0",
                "spec.devices[0].taints[0].effect: Required value",
                "spec.devices[1]: Duplicate value: \"d\"",
            ],
        ),
    ] {
        check(DEVICES, "ResourceSlice", json!({"spec": patch}), &want);
    }
}
