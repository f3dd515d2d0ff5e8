//! Limit ranges, quotas, replication controllers, volumes and claims.

use super::*;

#[test]
fn limit_ranges() {
    let bad = |limit: Value, want: &[&str]| {
        check("", "LimitRange", json!({"spec": {"limits": [limit]}}), want);
    };
    bad(
        json!({"type": "Odd"}),
        &[
            "spec.limits[0].type: Invalid value: \"Odd\": must be a standard limit type or fully qualified",
        ],
    );
    bad(
        json!({"type": "Pod", "default": {"cpu": "1"}, "max": {"pods": "1"}}),
        &[
            "spec.limits[0].max[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        ],
    );
    bad(
        json!({"type": "PersistentVolumeClaim"}),
        &[
            "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither \
         was provided",
        ],
    );
    bad(
        json!({"type": "Container", "min": {"cpu": "3"}, "max": {"cpu": "2"}, "default": {"cpu": "1"},
        "defaultRequest": {"cpu": "4"}, "maxLimitRequestRatio": {"cpu": "500m"}}),
        &[
            "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"4\": default request value 4 is greater than max \
         value 2",
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"4\": default request value 4 is greater than default \
         limit value 1",
            "spec.limits[0].default[cpu]: Invalid value: \"3\": min value 3 is greater than default value 1",
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
        ],
    );
    bad(
        json!({"type": "Container", "min": {"memory": "1Gi"}, "max": {"memory": "2Gi"},
        "maxLimitRequestRatio": {"memory": "3"}}),
        &[
            "spec.limits[0].maxLimitRequestRatio[memory]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
        ],
    );
    let limit = &valid("", "LimitRange")["spec"]["limits"][0];
    assert_eq!(limit["default"], json!({"cpu": "1"}));
    assert_eq!(limit["defaultRequest"], json!({"cpu": "1"}));
}

#[test]
fn quotas() {
    let bad = |spec: Value, want: &[&str]| check("", "ResourceQuota", json!({"spec": spec}), want);
    bad(
        json!({"hard": {"storage": "1", "count/x": "1", "pods": "-1", "secrets": "500m"}}),
        &[
            "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.hard[secrets]: Invalid value: \"500m\": must be an integer",
            "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
        ],
    );
    bad(
        json!({"hard": {"services": "1"}, "scopes": ["Odd", "BestEffort", "NotBestEffort"]}),
        &[
            "spec.scopes: Invalid value: [\"Odd\",\"BestEffort\",\"NotBestEffort\"]: unsupported scope",
            "spec.scopes: Invalid value: [\"Odd\",\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
            "spec.scopes: Invalid value: [\"Odd\",\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
            "spec.scopes: Invalid value: [\"Odd\",\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
        ],
    );
    let select = |scope: &str, operator: &str, values: Value| {
        json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": scope, "operator": operator, "values": values}]}})
    };
    bad(select("PriorityClass", "In", json!(["high"])), &[]);
    bad(
        select("PriorityClass", "In", json!([])),
        &[
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is \
         'In' or 'NotIn' for scope selector",
        ],
    );
    bad(
        select("PriorityClass", "Odd", json!([])),
        &[
            "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Odd\": not a valid selector operator",
        ],
    );
    bad(
        select("Terminating", "Exists", json!(["a"])),
        &[
            "spec.scopeSelector.matchExpressions.values: Invalid value: [\"a\"]: must be no value when `operator` is \
         'Exist' or 'DoesNotExist' for scope selector",
        ],
    );
    check_update(
        "",
        "ResourceQuota",
        json!({}),
        json!({"spec": {"scopes": ["Terminating"]}}),
        &["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"],
    );
}

#[test]
fn replication_controllers() {
    let bad = |spec: Value, want: &[&str]| {
        check("", "ReplicationController", json!({"spec": spec}), want)
    };
    let made = valid("", "ReplicationController");
    assert_eq!(made["spec"]["selector"], json!({"app": "a"}));
    assert_eq!(made["metadata"]["labels"], json!({"app": "a"}));
    assert_eq!(made["status"], json!({"replicas": 0}));
    bad(
        json!({"replicas": -1, "selector": {"app": "b"}}),
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    bad(
        json!({"template": null, "selector": null}),
        &["spec.selector: Required value", "spec.template: Required value"],
    );
    bad(
        json!({"template": {"spec": {"restartPolicy": "Never"}}}),
        &[
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    check(
        "",
        "PodTemplate",
        json!({"template": {"spec": {"containers": []}}}),
        &["template.spec.containers: Required value"],
    );
}

#[test]
fn volumes_persist() {
    let bad =
        |spec: Value, want: &[&str]| check("", "PersistentVolume", json!({"spec": spec}), want);
    bad(
        json!({"accessModes": ["ReadWriteOnce", "ReadWriteOncePod"], "capacity": {"cpu": "0"}, "hostPath": null}),
        &[
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            "spec.capacity: Unsupported value: {\"cpu\":\"0\",\"storage\":\"1Gi\"}: supported values: \"storage\"",
            "spec.capacity[cpu]: Invalid value: \"0\": must be greater than zero",
            "spec: Required value: must specify a volume type",
        ],
    );
    bad(
        json!({"accessModes": [], "capacity": null, "persistentVolumeReclaimPolicy": "Odd", "volumeMode": "Odd"}),
        &[
            "spec.accessModes: Required value",
            "spec.capacity: Required value",
            "spec.capacity: Unsupported value: null: supported values: \"storage\"",
            "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Odd\": supported values: \"Delete\", \"Recycle\", \
         \"Retain\"",
            "spec.volumeMode: Unsupported value: \"Odd\": supported values: \"Block\", \"Filesystem\"",
        ],
    );
    bad(
        json!({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle", "nfs": {}}),
        &[
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
            "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
        ],
    );
    bad(
        json!({"hostPath": null, "local": {"path": "/a/../b"}}),
        &[
            "spec.local.path: Invalid value: \"/a/../b\": must not contain '..'",
            "spec.nodeAffinity: Required value: Local volume requires node affinity",
        ],
    );
    bad(
        json!({"hostPath": null, "csi": {"driver": "", "nodePublishSecretRef": {"name": "s"}}}),
        &[
            "spec.csi.driver: Required value",
            &format!("spec.csi.driver: Invalid value: \"\": {SUBDOMAIN}"),
            "spec.csi.volumeHandle: Required value",
            "spec.csi.nodePublishSecretRef.namespace: Required value",
        ],
    );
    check_update(
        "",
        "PersistentVolume",
        json!({}),
        json!({"spec": {"hostPath": {"path": "/e"}}}),
        &[
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
        ],
    );
    let status = &valid("", "PersistentVolume")["status"];
    assert_eq!(
        *status,
        json!({"phase": "Pending", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"})
    );
}

#[test]
fn claims() {
    let bad = |spec: Value, want: &[&str]| {
        check("", "PersistentVolumeClaim", json!({"spec": spec}), want)
    };
    bad(
        json!({"accessModes": ["Odd"], "resources": null, "storageClassName": "A"}),
        &[
            "spec.accessModes: Unsupported value: \"Odd\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
         \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.resources[storage]: Required value",
            &format!("spec.storageClassName: Invalid value: \"A\": {SUBDOMAIN}"),
        ],
    );
    bad(
        json!({"resources": {"requests": {"storage": "0"}}, "dataSource": {"kind": "Odd"}}),
        &[
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            "spec.dataSource.name: Required value",
            "spec.dataSource: Invalid value: \"Odd\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ],
    );
    let update = |before: Value, patch: Value, want: &[&str]| {
        check_update("", "PersistentVolumeClaim", before, patch, want);
    };
    update(json!({}), json!({"spec": {"volumeName": "v"}}), &[]);
    let frozen = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                  volumeAttributesClassName for bound claims";
    let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    update(json!({}), size("2Gi"), &[frozen]);
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    update(bound.clone(), size("2Gi"), &[]);
    update(
        bound,
        size("512Mi"),
        &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
    );
    let mut claim = json!({"metadata": {"name": "c"}, "spec": {"dataSourceRef":
        {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}}});
    strategy::prepare_create("", "PersistentVolumeClaim", &mut claim);
    assert_eq!(claim["spec"]["dataSource"], claim["spec"]["dataSourceRef"]);
}
