//! Valid objects of the kinds beyond the first ones, for the tables of each group.

use super::*;

/// Group and kind, as in the table of kinds.
pub(super) const MORE: &[(&str, &str)] = &[
    ("", "LimitRange"),
    ("", "ResourceQuota"),
    ("", "PodTemplate"),
    ("", "ReplicationController"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("apps", "ControllerRevision"),
    ("apps", "DaemonSet"),
    ("apps", "StatefulSet"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("policy", "PodDisruptionBudget"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttributesClass"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "CSIStorageCapacity"),
    ("node.k8s.io", "RuntimeClass"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "ResourceClaim"),
    ("resource.k8s.io", "ResourceClaimTemplate"),
    ("resource.k8s.io", "ResourceSlice"),
];

/// What a valid object has beside its metadata.
pub(super) fn valid(_: &str, kind: &str) -> Value {
    let once = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]});
    let workload = json!({"spec": {"selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}});
    let matched = json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""],
        "apiVersions": ["v1"], "resources": ["pods"]}]});
    match kind {
        "ControllerRevision" => json!({"data": {"a": "b"}, "revision": 1}),
        "DaemonSet" | "StatefulSet" => workload,
        "HorizontalPodAutoscaler" => json!({"spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
        "PodDisruptionBudget" => json!({"spec": {"selector": {"matchLabels": {"app": "a"}}}}),
        "Ingress" => {
            json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}})
        }
        "IngressClass" => json!({"spec": {"controller": "example.com/c"}}),
        "NetworkPolicy" => json!({"spec": {"podSelector": {}}}),
        "ServiceCIDR" => json!({"spec": {"cidrs": ["10.0.0.0/24"]}}),
        "StorageClass" => json!({"provisioner": "example.com/p"}),
        "VolumeAttributesClass" => json!({"driverName": "d", "parameters": {"a": "b"}}),
        "VolumeAttachment" => json!({"spec": {"attacher": "a", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}}),
        "CSINode" => json!({"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}}),
        "CSIStorageCapacity" => json!({"storageClassName": "s"}),
        "RuntimeClass" => json!({"handler": "runc"}),
        "LimitRange" => json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}}),
        "ResourceQuota" => json!({"spec": {"hard": {"pods": "10", "count/jobs.batch": "3"}}}),
        "PodTemplate" => json!({"template": workload["spec"]["template"]}),
        "ReplicationController" => json!({"spec": {"template": workload["spec"]["template"]}}),
        "PersistentVolume" => {
            json!({"spec": {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/d"},
            "accessModes": ["ReadWriteOnce"]}})
        }
        "PersistentVolumeClaim" => json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        "ValidatingAdmissionPolicy" => json!({"spec": {"matchConstraints": matched,
            "validations": [{"expression": "true"}]}}),
        "MutatingAdmissionPolicy" => json!({"spec": {"matchConstraints": matched,
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {
                "expression": "[JSONPatch{op: 'test', path: '/kind', value: 'x'}]"}}]}}),
        "FlowSchema" => json!({"spec": {"priorityLevelConfiguration": {"name": "l"}}}),
        "PriorityLevelConfiguration" => json!({"spec": {"type": "Limited",
            "limited": {"limitResponse": {"type": "Reject"}}}}),
        "ResourceSlice" => json!({"spec": {"driver": "d.example.com", "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}}),
        "ResourceClaim" => json!({"spec": {}}),
        "ResourceClaimTemplate" => json!({"spec": {"spec": {}}}),
        "Job" => json!({"spec": {"template": {"spec": once}}}),
        "CronJob" => json!({"spec": {"schedule": "* * * * *",
            "jobTemplate": {"spec": {"template": {"spec": once}}}}}),
        _ => json!({}),
    }
}
