//! The kinds of `storage.k8s.io`, and runtime classes.

use super::*;

const GROUP: &str = "storage.k8s.io";

#[test]
fn classes() {
    check(
        GROUP,
        "StorageClass",
        json!({"provisioner": "", "reclaimPolicy": "Recycle", "volumeBindingMode": "Odd",
        "allowedTopologies": [{"matchLabelExpressions": [{"key": "k", "values": ["a", "a"]}, {"key": "k"}]}]}),
        &[
            "provisioner: Required value",
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            "volumeBindingMode: Unsupported value: \"Odd\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
            "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            "allowedTopologies[0].matchLabelExpressions[1].values: Required value",
            "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"k\"",
        ],
    );
    check_update(
        GROUP,
        "StorageClass",
        json!({}),
        json!({"provisioner": "q", "parameters": {"a": "b"},
        "reclaimPolicy": "Retain", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true}),
        &[
            "parameters: Forbidden: updates to parameters are forbidden.",
            "provisioner: Forbidden: updates to provisioner are forbidden.",
            "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
            "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
        ],
    );
    check(
        GROUP,
        "VolumeAttributesClass",
        json!({"driverName": null, "parameters": null}),
        &[
            "driverName: Required value",
            "parameters: Required value: must contain at least one key/value pair",
        ],
    );
}

#[test]
fn drivers_and_nodes() {
    let bad = |spec: Value, want: &[&str]| check(GROUP, "CSIDriver", json!({"spec": spec}), want);
    bad(
        json!({"fsGroupPolicy": "Odd", "volumeLifecycleModes": ["Odd"], "nodeAllocatableUpdatePeriodSeconds": 9,
        "tokenRequests": [{"audience": "a", "expirationSeconds": 1}, {"audience": "a"}]}),
        &[
            "spec.fsGroupPolicy: Unsupported value: \"Odd\": supported values: \"File\", \"None\", \
         \"ReadWriteOnceWithFSType\"",
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
            "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            "spec.volumeLifecycleModes: Unsupported value: \"Odd\": supported values: \"Persistent\", \"Ephemeral\"",
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
        ],
    );
    check_update(
        GROUP,
        "CSIDriver",
        json!({}),
        json!({"spec": {"attachRequired": false, "podInfoOnMount": true}}),
        &["spec.attachedRequired: Invalid value: false: field is immutable"],
    );
    let driver = |driver: Value| json!({"spec": {"drivers": [driver]}});
    check(
        GROUP,
        "CSINode",
        driver(json!({"name": "d", "nodeID": "", "topologyKeys": ["k", "k"],
        "allocatable": {"count": -1}})),
        &[
            "spec.drivers[0].nodeID: Required value",
            "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            "spec.drivers[0]: Duplicate value: \"k\"",
        ],
    );
    let same = driver(json!({"name": "d", "nodeID": "n", "allocatable": {"count": 3}}));
    check_update(GROUP, "CSINode", json!({}), same, &[]);
    check_update(
        GROUP,
        "CSINode",
        json!({}),
        driver(json!({"name": "d", "nodeID": "m"})),
        &["spec.drivers: Invalid value: {\"name\":\"d\",\"nodeID\":\"m\"}: field is immutable"],
    );
    check(
        GROUP,
        "CSIStorageCapacity",
        json!({"capacity": "-1"}),
        &["capacity: Invalid value: \"-1\": must be greater than or equal to 0"],
    );
    check_update(
        GROUP,
        "CSIStorageCapacity",
        json!({}),
        json!({"storageClassName": "t", "capacity": "1"}),
        &["storageClassName: Invalid value: \"t\": field is immutable"],
    );
}

#[test]
fn attachments() {
    check(
        GROUP,
        "VolumeAttachment",
        json!({"spec": {"source": {"persistentVolumeName": null}}}),
        &[
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    check_update(
        GROUP,
        "VolumeAttachment",
        json!({}),
        json!({"spec": {"nodeName": "m"}}),
        &[
            "spec: Invalid value: {\"attacher\":\"a\",\"nodeName\":\"m\",\"source\":{\"persistentVolumeName\":\"v\"}}: \
         field is immutable",
        ],
    );
}

#[test]
fn runtime_classes() {
    let bad = |patch: Value, want: &[&str]| check("node.k8s.io", "RuntimeClass", patch, want);
    bad(json!({"handler": "A"}), &[&format!("handler: Invalid value: \"A\": {LABEL}")]);
    bad(
        json!({"overhead": {"podFixed": {"pods": "1"}}, "scheduling": {"tolerations": [{"operator": "Equal"}]}}),
        &[
            "overhead.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            "scheduling.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, \
         which means \"match all values and all keys\"",
        ],
    );
    check_update(
        "node.k8s.io",
        "RuntimeClass",
        json!({}),
        json!({"handler": "b"}),
        &["handler: Invalid value: \"b\": field is immutable"],
    );
}
