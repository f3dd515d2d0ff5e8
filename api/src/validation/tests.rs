//! What is wrong with each kind, in upstream's words, as tables.

#![allow(clippy::too_many_lines)] // tables of cases

use super::*;
use crate::defaults::{self, tests::any_object};
use crate::strategy;
use crate::tree;
use proptest::prelude::*;
use serde_json::json;

mod autoscaler;
mod batch;
mod core_more;
mod extend;
mod more;
mod networking;
mod rare;
mod resize;
mod rules;
mod storage;
mod words;
mod workload_set;

const RBAC: &str = "rbac.authorization.k8s.io";
const KINDS: [(&str, &str); 20] = [
    ("", "Namespace"),
    ("", "Pod"),
    ("", "Node"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("", "Service"),
    ("", "Endpoints"),
    ("", "ServiceAccount"),
    ("", "Event"),
    ("events.k8s.io", "Event"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("coordination.k8s.io", "Lease"),
    ("discovery.k8s.io", "EndpointSlice"),
    (RBAC, "Role"),
    (RBAC, "ClusterRole"),
    (RBAC, "RoleBinding"),
    (RBAC, "ClusterRoleBinding"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("autoscaling", "Scale"),
];

/// All kinds with rules.
fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().chain(more::MORE).copied()
}

fn cluster_scoped(group: &str, kind: &str) -> bool {
    resource::by_kind(group, "v1", kind).is_some_and(|def| !def.namespaced)
}

/// A minimal valid object of each kind, defaulted and prepared for creation.
fn valid(group: &str, kind: &str) -> Value {
    let pod = json!({"containers": [{"name": "c", "image": "i:1"}]});
    let workload = json!({"spec": {"selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod}}});
    let role = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
    let binding = |kind: &str| {
        json!({"roleRef": {"kind": kind, "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}]})
    };
    let mut object = match (group, kind) {
        (_, "Pod") => json!({"spec": pod}),
        (_, "Service") => json!({"spec": {"ports": [{"port": 80}]}}),
        (_, "Endpoints") => json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}],
            "ports": [{"port": 80}]}]}),
        ("", "Event") => json!({"involvedObject": {"namespace": "ns", "kind": "Pod"}}),
        (_, "Event") => json!({"regarding": {"namespace": "ns"}, "type": "Normal",
            "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "r", "action": "a",
            "reportingController": "c", "reportingInstance": "i"}),
        (_, "Deployment" | "ReplicaSet") => workload,
        (_, "EndpointSlice") => json!({"addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        (_, "Role" | "ClusterRole") => role,
        (_, "RoleBinding") => binding("Role"),
        (_, "ClusterRoleBinding") => binding("ClusterRole"),
        (_, "PriorityClass") => json!({"value": 7}),
        _ => more::valid(group, kind),
    };
    let mut metadata =
        json!({"name": "x", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"});
    if !cluster_scoped(group, kind) {
        tree::set(&mut metadata, "namespace", "ns");
    }
    tree::set(&mut object, "metadata", metadata);
    defaults::apply(group, "v1", kind, &mut object);
    strategy::prepare_create(group, kind, &mut object);
    object
}

fn show(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Patches a valid object (merge patch), defaults and validates it as new.
fn check(group: &str, kind: &str, patch: Value, want: &[&str]) {
    let mut object = valid(group, kind);
    json_patch::merge(&mut object, &patch);
    defaults::apply(group, "v1", kind, &mut object);
    assert_eq!(show(&create(group, "v1", kind, &object)), want.join("\n"), "{kind} + {patch}");
}

/// Patches a valid object and validates the change; `before` is patched in first.
fn check_update(group: &str, kind: &str, before: Value, patch: Value, want: &[&str]) {
    let mut old = valid(group, kind);
    json_patch::merge(&mut old, &before);
    let mut new = old.clone();
    json_patch::merge(&mut new, &patch);
    defaults::apply(group, "v1", kind, &mut new);
    let got = show(&update(group, "v1", kind, &new, &old));
    let first_lines: Vec<&str> = got.lines().filter(|l| !l.starts_with(['-', '+'])).collect();
    assert_eq!(first_lines.join("\n"), want.join("\n"), "{kind} + {patch}");
}

/// Patches the pod spec of a valid pod.
fn pod(spec: Value, want: &[&str]) {
    check("", "Pod", json!({"spec": spec}), want);
}

/// Replaces the fields of the pod's only container.
fn container(fields: Value, want: &[&str]) {
    let mut container = json!({"name": "c", "image": "i:1"});
    json_patch::merge(&mut container, &fields);
    pod(json!({"containers": [container], "volumes": [{"name": "v"}]}), want);
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
    characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
    '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

#[test]
fn the_valid_object_of_each_kind_is_valid() {
    for (group, kind) in kinds() {
        let object = valid(group, kind);
        assert_eq!(show(&create(group, "v1", kind, &object)), "", "{kind}");
        let mut new = object.clone();
        strategy::prepare_update(group, kind, &mut new, &object);
        assert_eq!(show(&update(group, "v1", kind, &new, &object)), "", "{kind}: update");
        let mut new = object.clone();
        strategy::prepare_status_update(group, kind, &mut new, &object);
        assert_eq!(show(&status_update(group, "v1", kind, &new, &object)), "", "{kind}: status");
    }
}

#[test]
fn metadata() {
    let many = "a".repeat(256 * 1024);
    for (patch, want) in [
        (json!({"name": "A"}), vec![format!("metadata.name: Invalid value: \"A\": {SUBDOMAIN}")]),
        (
            json!({"name": null}),
            vec!["metadata.name: Required value: name or generateName is required".to_owned()],
        ),
        (json!({"namespace": null}), vec!["metadata.namespace: Required value".to_owned()]),
        (
            json!({"generation": -1}),
            vec![
                "metadata.generation: Invalid value: -1: must be greater than or equal to 0"
                    .to_owned(),
            ],
        ),
        (json!({"generateName": "web-"}), vec![]),
        (
            json!({"annotations": {"a": many}}),
            vec!["metadata.annotations: Too long: may not be more than 262144 bytes".to_owned()],
        ),
        (
            json!({"finalizers": ["x"]}),
            vec![
                "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard \
                  finalizer name nor is it fully qualified"
                    .to_owned(),
            ],
        ),
        (json!({"finalizers": ["example.com/x", "orphan"]}), vec![]),
        (
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
            vec![
                "metadata.ownerReferences.uid: Invalid value: \"\": uid must not be empty"
                    .to_owned(),
            ],
        ),
    ] {
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check("", "ConfigMap", json!({"metadata": patch}), &want);
    }
    check(
        "",
        "Node",
        json!({"metadata": {"namespace": "n"}}),
        &["metadata.namespace: Forbidden: not allowed on this type"],
    );
    for (before, patch, want) in [
        (
            json!({}),
            json!({"name": "y"}),
            "metadata.name: Invalid value: \"y\": field is immutable",
        ),
        (json!({}), json!({"uid": "y"}), "metadata.uid: Invalid value: \"y\": field is immutable"),
        (
            json!({"resourceVersion": "1"}),
            json!({"resourceVersion": null}),
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
        ),
        (
            json!({"deletionTimestamp": "t"}),
            json!({"finalizers": ["a/b"]}),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is \
             being deleted, found new finalizers []string{\"a/b\"}",
        ),
    ] {
        check_update(
            "",
            "ConfigMap",
            json!({"metadata": before}),
            json!({"metadata": patch}),
            &[want],
        );
    }
}

#[test]
fn pod_specs() {
    pod(json!({"containers": []}), &["spec.containers: Required value"]);
    pod(
        json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}),
        &["spec.containers[1].name: Duplicate value: \"a\""],
    );
    pod(
        json!({"restartPolicy": "Sometimes"}),
        &["spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
           \"OnFailure\", \"Never\""],
    );
    pod(
        json!({"activeDeadlineSeconds": 0}),
        &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, \
           inclusive"],
    );
    pod(
        json!({"hostname": "a.b"}),
        &["spec.hostname: Invalid value: \"a.b\": must not contain dots"],
    );
    pod(
        json!({"dnsPolicy": "None"}),
        &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    );
    pod(
        json!({"dnsConfig": {"nameservers": ["x"]}}),
        &["spec.dnsConfig.nameservers[0]: Invalid value: \"x\": must be a valid IP address, \
           (e.g. 10.9.8.7 or 2001:db8::ffff)"],
    );
    pod(
        json!({"tolerations": [{"operator": "Equal"}]}),
        &["spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when \
           `key` is empty, which means \"match all values and all keys\""],
    );
    pod(
        json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z",
               "whenUnsatisfiable": "DoNotSchedule"}]}),
        &["spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"],
    );
    pod(
        json!({"ephemeralContainers": [{"name": "e", "image": "i"}]}),
        &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
    );
    pod(
        json!({"initContainers": [{"name": "i", "image": "i", "lifecycle": {}}]}),
        &["spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers \
           without restartPolicy=Always"],
    );
    pod(
        json!({"initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always",
               "livenessProbe": {"exec": {"command": ["x"]}}}]}),
        &[],
    );
    pod(
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
               {"nodeSelectorTerms": []}}}}),
        &["spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.\
           nodeSelectorTerms: Required value: must have at least one node selector term"],
    );
    pod(
        json!({"schedulingGates": [{"name": "g"}], "nodeName": "n"}),
        &["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
    );
    pod(
        json!({"securityContext": {"runAsUser": -1, "sysctls": [{"name": "A"}]}}),
        &[
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, \
           inclusive",
            "spec.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253 \
           characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*\
           [a-z0-9])?$",
        ],
    );
}

#[test]
fn operating_systems() {
    pod(json!({"os": {"name": "linux"}}), &[]);
    pod(
        json!({"os": {"name": "windows"}, "hostPID": true, "securityContext": {"runAsUser": 1}}),
        &[
            "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
            "spec.hostPID: Forbidden: cannot be set for a windows pod",
        ],
    );
    pod(
        json!({"os": {"name": "plan9"}}),
        &["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
    );
}

#[test]
fn containers() {
    let name = format!("spec.containers[0].name: Invalid value: \"C_1\": {LABEL}");
    container(json!({"name": "C_1"}), &[&name]);
    container(json!({"image": null}), &["spec.containers[0].image: Required value"]);
    container(
        json!({"image": " i "}),
        &["spec.containers[0].image: Invalid value: \" i \": must not have leading or trailing \
           whitespace"],
    );
    container(
        json!({"imagePullPolicy": "Now"}),
        &["spec.containers[0].imagePullPolicy: Unsupported value: \"Now\": supported values: \
           \"Always\", \"IfNotPresent\", \"Never\""],
    );
    container(
        json!({"ports": [{"containerPort": 70000}]}),
        &["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 \
           and 65535, inclusive"],
    );
    container(
        json!({"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]}),
        &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//9\""],
    );
    container(
        json!({"volumeMounts": [{"name": "w", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]}),
        &[
            "spec.containers[0].volumeMounts[0].name: Not found: \"w\"",
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
        ],
    );
    container(
        json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
        &["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or \
           equal to cpu limit of 1"],
    );
    container(
        json!({"resources": {"requests": {"cpus": "1"}}}),
        &[
            "spec.containers[0].resources.requests[cpus]: Invalid value: \"cpus\": must be a \
           standard resource type or fully qualified",
            "spec.containers[0].resources.requests[cpus]: Invalid value: \"cpus\": must be a \
           standard resource for containers",
        ],
    );
    container(
        json!({"resources": {"limits": {"example.com/gpu": "500m"}}}),
        &[
            "spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"500m\": must \
           be an integer",
            "spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"500m\": must \
           be an integer",
        ],
    );
    container(
        json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef":
               {"fieldPath": "metadata.name"}}}]}),
        &["spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when \
           `value` is not empty"],
    );
    container(
        json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
        &["spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": \
           error converting fieldPath: field label not supported: spec.x"],
    );
    container(
        json!({"livenessProbe": {"httpGet": {"port": 0}, "successThreshold": 2}}),
        &[
            "spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 \
           and 65535, inclusive",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ],
    );
    container(
        json!({"readinessProbe": {}}),
        &["spec.containers[0].readinessProbe: Required value: must specify a handler type"],
    );
    container(
        json!({"securityContext": {"allowPrivilegeEscalation": false, "privileged": true}}),
        &["spec.containers[0].securityContext: Invalid value: \
           {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set \
           `allowPrivilegeEscalation` to false and `privileged` to true"],
    );
}

#[test]
fn volumes() {
    for (volume, want) in [
        (
            json!({"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}),
            vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/a/../b"}}),
            vec![
                "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            ],
        ),
        (
            json!({"name": "v", "secret": {}}),
            vec!["spec.volumes[0].secret.secretName: Required value"],
        ),
        (
            json!({"name": "v", "configMap": {"name": "c", "defaultMode": 512}}),
            vec![
                "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number \
               between 0 and 0777 (octal), both inclusive",
            ],
        ),
        (
            json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "/p"}]}}),
            vec![
                "spec.volumes[0].configMap.items[0].path: Invalid value: \"/p\": must be a \
               relative path",
            ],
        ),
        (
            json!({"name": "v", "persistentVolumeClaim": {}}),
            vec!["spec.volumes[0].persistentVolumeClaim.claimName: Required value"],
        ),
        (
            json!({"name": "v", "downwardAPI": {"items": [{"path": "p",
                "fieldRef": {"fieldPath": "metadata.labels['a']"}}]}}),
            vec![],
        ),
        (
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken":
                {"path": "t", "expirationSeconds": 1}}]}}),
            vec![
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: \
               Invalid value: 1: may not specify a duration less than 10 minutes",
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be \
               specified when serviceAccountName is not set",
            ],
        ),
    ] {
        pod(json!({"volumes": [volume]}), &want);
    }
}

#[test]
fn pods_hardly_change() {
    let fixed = "spec: Forbidden: pod updates may not change fields other than \
        `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
        `spec.tolerations` (only additions to existing tolerations),\
        `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously \
        negative)";
    let image = json!({"spec": {"containers": [{"name": "c", "image": "i:2",
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent", "resources": {}}]}});
    check_update("", "Pod", json!({}), image, &[]);
    check_update("", "Pod", json!({}), json!({"spec": {"nodeName": "n"}}), &[fixed]);
    check_update("", "Pod", json!({}), json!({"spec": {"hostNetwork": true}}), &[fixed]);
    check_update("", "Pod", json!({}), json!({"spec": {"activeDeadlineSeconds": 5}}), &[]);
    check_update(
        "",
        "Pod",
        json!({"spec": {"activeDeadlineSeconds": 5}}),
        json!({"spec": {"activeDeadlineSeconds": 6}}),
        &["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous \
           value"],
    );
    let toleration = json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}});
    check_update("", "Pod", json!({}), toleration.clone(), &[]);
    check_update(
        "",
        "Pod",
        toleration,
        json!({"spec": {"tolerations": []}}),
        &["spec.tolerations: Forbidden: existing toleration can not be modified except its \
           tolerationSeconds"],
    );
    let two =
        json!({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}});
    check_update(
        "",
        "Pod",
        json!({}),
        two,
        &["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
    check_update(
        "",
        "Pod",
        json!({}),
        json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
        &["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new \
           scheduling gate 'g'"],
    );
    check_update(
        "",
        "Pod",
        json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
        json!({"spec": {"schedulingGates": [], "nodeSelector": {"a": "b"}}}),
        &[],
    );
}

#[test]
fn ended_containers_stay_ended() {
    let mut old = valid("", "Pod");
    old["spec"]["restartPolicy"] = json!("Never");
    old["status"]["containerStatuses"] =
        json!([{"name": "c", "state": {"terminated": {"exitCode": 0}}}]);
    let mut new = old.clone();
    new["status"]["containerStatuses"] = json!([{"name": "c", "state": {"running": {}}}]);
    assert_eq!(
        show(&status_update("", "v1", "Pod", &new, &old)),
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to \
         non-terminated state"
    );
}

#[test]
fn workloads() {
    let apps = |kind: &str, spec: Value, want: &[&str]| {
        check("apps", kind, json!({"spec": spec}), want);
    };
    for kind in ["Deployment", "ReplicaSet"] {
        apps(
            kind,
            json!({"replicas": -1}),
            &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        );
        apps(kind, json!({"selector": null}), &["spec.selector: Required value"]);
        apps(
            kind,
            json!({"selector": {"matchLabels": {"app": "b"}}}),
            &["spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does \
               not match template `labels`"],
        );
        apps(
            kind,
            json!({"template": {"spec": {"restartPolicy": "Never"}}}),
            &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \
               \"Always\""],
        );
        check_update(
            "apps",
            kind,
            json!({}),
            json!({"spec": {"selector": {"matchLabels": {"b": "c"}},
                   "template": {"metadata": {"labels": {"b": "c"}}}}}),
            &[
                "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\",\"b\":\"c\"}}: field \
               is immutable",
            ],
        );
    }
    apps(
        "Deployment",
        json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is \
           'Recreate'"],
    );
    apps(
        "Deployment",
        json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
        &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when \
           `maxSurge` is 0"],
    );
    apps(
        "Deployment",
        json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5}),
        &["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
    );
}

#[test]
fn services() {
    let service = |spec: Value, want: &[&str]| check("", "Service", json!({"spec": spec}), want);
    service(json!({"ports": []}), &["spec.ports: Required value"]);
    service(json!({"ports": [], "clusterIP": "None", "clusterIPs": ["None"]}), &[]);
    service(
        json!({"ports": [{"port": 1}, {"port": 2}]}),
        &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    );
    service(
        json!({"type": "Magic", "internalTrafficPolicy": null}),
        &["spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \
           \"ExternalName\", \"LoadBalancer\", \"NodePort\""],
    );
    service(
        json!({"externalIPs": ["127.0.0.1"], "externalTrafficPolicy": "Cluster"}),
        &["spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range \
           (127.0.0.0/8, ::1/128)"],
    );
    service(
        json!({"ports": [{"port": 1, "nodePort": 30000}]}),
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    check_update(
        "",
        "Service",
        json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}}),
        json!({"spec": {"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}}),
        &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
    );
}

#[test]
fn small_kinds() {
    for (group, kind, patch, want) in [
        (
            "",
            "ConfigMap",
            json!({"data": {"a b": "x", "k": ""}, "binaryData": {"k": ""}}),
            vec![
                "data[a b]: Invalid value: \"a b\": a valid config key must consist of \
                 alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or \
                 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                "data[k]: Invalid value: \"k\": duplicate of key present in binaryData",
            ],
        ),
        (
            "",
            "Secret",
            json!({"type": "kubernetes.io/tls"}),
            vec!["data[tls.crt]: Required value", "data[tls.key]: Required value"],
        ),
        (
            "",
            "Node",
            json!({"spec": {"taints": [{"key": "a", "effect": "Maybe"}]}}),
            vec![
                "metadata.taints[0].effect: Unsupported value: \"Maybe\": supported values: \
                  \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ],
        ),
        (
            "",
            "Endpoints",
            json!({"subsets": [{}]}),
            vec!["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
        ),
        (
            "",
            "Event",
            json!({"involvedObject": {"namespace": "other"}}),
            vec![
                "involvedObject.namespace: Invalid value: \"other\": does not match \
                  event.namespace",
            ],
        ),
        ("events.k8s.io", "Event", json!({"eventTime": null}), vec!["eventTime: Required value"]),
        (
            "coordination.k8s.io",
            "Lease",
            json!({"spec": {"leaseDurationSeconds": 0}}),
            vec!["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"endpoints": [{"addresses": []}]}),
            vec!["endpoints[0].addresses: Required value: must contain at least 1 address"],
        ),
        (RBAC, "Role", json!({"metadata": {"name": "a:b"}}), vec![]),
        (
            RBAC,
            "Role",
            json!({"rules": [{"nonResourceURLs": ["/"]}]}),
            vec![
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].nonResourceURLs: Invalid value: [\"/\"]: namespaced rules cannot apply \
                 to non-resource URLs",
            ],
        ),
        (
            RBAC,
            "ClusterRoleBinding",
            json!({"subjects": [{"kind": "ServiceAccount", "name": "s"}]}),
            vec!["subjects[0].namespace: Required value"],
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            json!({"value": 1_000_000_001}),
            vec![
                "value: Forbidden: maximum allowed value of a user defined priority is \
                  1000000000",
            ],
        ),
        (
            "autoscaling",
            "Scale",
            json!({"spec": {"replicas": -2}}),
            vec!["spec.replicas: Invalid value: -2: must be greater than or equal to 0"],
        ),
    ] {
        check(group, kind, patch, &want);
    }
    check_update(
        RBAC,
        "RoleBinding",
        json!({}),
        json!({"roleRef": {"name": "other"}}),
        &["roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\
           \"name\":\"other\"}: cannot change roleRef"],
    );
    check_update(
        "",
        "Secret",
        json!({"immutable": true}),
        json!({"data": {"a": "Yg=="}}),
        &["data: Forbidden: field is immutable when `immutable` is set"],
    );
    check_update(
        "",
        "Secret",
        json!({}),
        json!({"type": "x"}),
        &["type: Invalid value: \"x\": field is immutable"],
    );
}

/// Upstream's fully populated objects: nonsense values everywhere, nothing may panic, and every
/// error names a field of the object.
#[test]
fn populated_objects_are_judged() {
    let Some(folder) = crate::upstream::folder("roundtrip") else { return };
    for (group, kind) in kinds() {
        let package = if group.is_empty() { "core" } else { group };
        let path = folder.join(format!("{package}.v1.{kind}.json"));
        let bytes = std::fs::read(&path).expect("a fully populated object of each kind");
        let object: Value = serde_json::from_slice(&bytes).unwrap();
        let mut defaulted = object.clone();
        defaults::apply(group, "v1", kind, &mut defaulted);
        let errors = create(group, "v1", kind, &defaulted);
        assert!(errors.iter().all(|e| !e.field.is_empty()), "{kind}: {}", show(&errors));
        assert_eq!(
            show(&update(group, "v1", kind, &object, &object)).matches("immutable").count(),
            0
        );
        let _ = crate::table::row(group, kind, &object, jiff::Timestamp::UNIX_EPOCH);
    }
}

#[test]
fn other_kinds_have_their_metadata_checked() {
    let object = json!({"metadata": {"name": "B", "namespace": "n"}});
    let name = format!("metadata.name: Invalid value: \"B\": {SUBDOMAIN}");
    assert_eq!(show(&super::metadata(&object, true)), name);
    let scope = "metadata.namespace: Forbidden: not allowed on this type";
    assert_eq!(show(&super::metadata(&object, false)), format!("{name}\n{scope}"));
    let changed = json!({"metadata": {"name": "C", "namespace": "n"}});
    assert_eq!(
        show(&update("example.com", "v1", "Widget", &changed, &object)),
        "metadata.name: Invalid value: \"C\": field is immutable"
    );
    assert!(create("authorization.k8s.io", "v1", "SelfSubjectAccessReview", &json!({})).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn validation_is_total(object in any_object(), other in any_object()) {
        for (group, kind) in kinds() {
            let mut base = valid(group, kind);
            json_patch::merge(&mut base, &object);
            for new in [&object, &base] {
                let _ = create(group, "v1", kind, new);
                let _ = update(group, "v1", kind, new, &other);
                let _ = status_update(group, "v1", kind, new, &other);
            }
        }
        let _ = ephemeral_containers_update(&object, &other);
        let _ = pod_binding(&object);
    }
}
