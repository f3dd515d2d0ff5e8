//! Daemon sets, stateful sets and revisions.

use super::*;

#[test]
fn daemon_sets() {
    let bad = |spec: Value, want: &[&str]| check("apps", "DaemonSet", json!({"spec": spec}), want);
    bad(
        json!({"selector": {"matchLabels": {"app": "b"}}}),
        &[
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    bad(
        json!({"selector": {"matchLabels": null}}),
        &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
    );
    bad(
        json!({"template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 1}}}),
        &[
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
        ],
    );
    bad(
        json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "101%", "maxSurge": 1}}}),
        &[
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ],
    );
    bad(
        json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}),
        &[
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
        ],
    );
    bad(
        json!({"updateStrategy": {"type": "Odd", "rollingUpdate": null}}),
        &[
            "spec.updateStrategy: Unsupported value: {\"type\":\"Odd\"}: supported values: \"RollingUpdate\", \"OnDelete\"",
        ],
    );
    check_update(
        "apps",
        "DaemonSet",
        json!({}),
        json!({"spec": {"selector": {"matchLabels": {"b": "c"}},
            "template": {"metadata": {"labels": {"b": "c"}}}}}),
        &[
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\",\"b\":\"c\"}}: field is immutable",
        ],
    );
}

#[test]
fn templates_of_daemon_sets_are_counted() {
    let old = valid("apps", "DaemonSet");
    let count = |object: &Value| {
        object["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone()
    };
    assert_eq!(count(&old), "1");
    let mut new = old.clone();
    new["metadata"]["annotations"] = Value::Null;
    new["spec"]["template"]["metadata"]["labels"]["b"] = json!("c");
    strategy::prepare_update("apps", "DaemonSet", &mut new, &old);
    assert_eq!((count(&new), &new["metadata"]["generation"]), (json!("2"), &json!(2)));
    let mut next = new.clone();
    next["spec"]["minReadySeconds"] = json!(3);
    strategy::prepare_update("apps", "DaemonSet", &mut next, &new);
    assert_eq!((count(&next), &next["metadata"]["generation"]), (json!("2"), &json!(3)));
    let zeros = json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0,
        "numberReady": 0});
    assert_eq!(old["status"], zeros);
    assert_eq!(
        valid("apps", "StatefulSet")["status"],
        json!({"availableReplicas": 0, "replicas": 0})
    );
}

#[test]
fn stateful_sets() {
    let bad =
        |spec: Value, want: &[&str]| check("apps", "StatefulSet", json!({"spec": spec}), want);
    bad(
        json!({"podManagementPolicy": "Odd", "updateStrategy": {"type": "OnDelete"}, "replicas": -1}),
        &[
            "spec.podManagementPolicy: Invalid value: \"Odd\": must be 'OrderedReady' or 'Parallel'",
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"maxUnavailable\":1,\"partition\":0}: only allowed for \
         updateStrategy 'RollingUpdate'",
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    bad(
        json!({"updateStrategy": {"rollingUpdate": {"partition": -1, "maxUnavailable": 0}}}),
        &[
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ],
    );
    bad(
        json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Odd"}, "ordinals": {"start": -1}}),
        &[
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Odd\": supported values: \
         \"Retain\", \"Delete\"",
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    let mounted = json!({"containers": [{"name": "c", "image": "i:1",
        "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]});
    bad(
        json!({"template": {"spec": mounted}}),
        &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
    );
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    bad(json!({"template": {"spec": mounted}, "volumeClaimTemplates": [claim]}), &[]);
    check(
        "apps",
        "StatefulSet",
        json!({"metadata": {"name": "a.b"}}),
        &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
    );
    check_update(
        "apps",
        "StatefulSet",
        json!({}),
        json!({"spec": {"replicas": 3, "revisionHistoryLimit": 1}}),
        &[],
    );
    check_update(
        "apps",
        "StatefulSet",
        json!({}),
        json!({"spec": {"serviceName": "other"}}),
        &[
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
         'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
         forbidden",
        ],
    );
}

#[test]
fn revisions() {
    check(
        "apps",
        "ControllerRevision",
        json!({"data": null, "revision": -1}),
        &[
            "data: Required value: data is mandatory",
            "revision: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    check_update(
        "apps",
        "ControllerRevision",
        json!({}),
        json!({"revision": 3, "data": {"a": "c"}}),
        &["data: Invalid value: {\"a\":\"c\"}: field is immutable"],
    );
}
