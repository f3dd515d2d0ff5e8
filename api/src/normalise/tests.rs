//! What Go's typed round trip leaves, case by case.

use serde_json::json;

use super::*;
use crate::schema::ids;

fn check(ty: TypeId, input: Value, expected: Value) {
    let mut value = input.clone();
    normalise(&mut value, ty);
    assert_eq!(value, expected, "{input}");
    let parsed = crate::codec::json::parse(input.to_string().as_bytes(), ty).unwrap().value;
    assert_eq!(parsed, expected, "the decoder makes the same of {input}");
    normalise(&mut value, ty);
    assert_eq!(value, expected, "idempotent: {input}");
}

#[test]
fn structs_by_value_are_written_and_zero_values_are_not() {
    check(
        ids::APPS_V1_DEPLOYMENT,
        json!({"metadata": {"creationTimestamp": null, "name": "", "labels": {}},
            "spec": {"replicas": 0, "paused": false, "selector": {"matchLabels": {}},
                "template": {"spec": {"containers": [{"name": "a", "stdin": false, "args": []}]}}}}),
        json!({"metadata": {}, "status": {},
            "spec": {"replicas": 0, "strategy": {}, "selector": {},
                "template": {"metadata": {}, "spec": {"containers": [{"name": "a", "resources": {}}]}}}}),
    );
    check(
        ids::APPS_V1_DEPLOYMENT,
        json!({}),
        json!({"metadata": {}, "status": {}, "spec": {"selector": null, "strategy": {},
            "template": {"metadata": {}, "spec": {"containers": null}}}}),
    );
}

#[test]
fn pointers_keep_their_zero_values() {
    check(
        ids::CORE_V1_PODSPEC,
        json!({"containers": [], "automountServiceAccountToken": false, "hostNetwork": false,
            "securityContext": {}, "terminationGracePeriodSeconds": 0, "nodeName": ""}),
        json!({"containers": null, "automountServiceAccountToken": false, "securityContext": {},
            "terminationGracePeriodSeconds": 0}),
    );
}

#[test]
fn nulls_are_zero_values() {
    check(
        ids::CORE_V1_CONFIGMAP,
        json!({"data": {"a": null}, "immutable": null, "metadata": {"finalizers": [null]}}),
        json!({"data": {"a": ""}, "metadata": {"finalizers": [""]}}),
    );
    check(ids::RBAC_V1_CLUSTERROLE, json!({"rules": []}), json!({"metadata": {}, "rules": null}));
}

#[test]
fn times_have_one_spelling() {
    check(
        ids::META_V1_CONDITION,
        json!({"type": "a", "status": "True", "reason": "b", "message": "",
            "lastTransitionTime": "2024-02-29T23:30:00.123-01:30"}),
        json!({"type": "a", "status": "True", "reason": "b", "message": "",
            "lastTransitionTime": "2024-03-01T01:00:00Z"}),
    );
    check(
        ids::COORDINATION_V1_LEASESPEC,
        json!({"renewTime": "2024-01-01T00:00:00.1234567Z"}),
        json!({"renewTime": "2024-01-01T00:00:00.123456Z"}),
    );
    check(
        ids::CORE_V1_PODCONDITION,
        json!({"type": "Ready", "status": "True"}),
        json!({"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}),
    );
}

#[test]
fn secrets_are_base64_in_one_spelling() {
    check(
        ids::CORE_V1_SECRET,
        json!({"data": {"a": "YWJj\nZA==", "b": "", "c": null}}),
        json!({"metadata": {}, "data": {"a": "YWJjZA==", "b": "", "c": ""}}),
    );
}

#[test]
fn int_or_string_and_numbers_keep_their_type() {
    check(
        ids::CORE_V1_SERVICESPEC,
        json!({"ports": [{"port": 80, "targetPort": "http"}, {"port": 81}]}),
        json!({"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 0}]}),
    );
}
