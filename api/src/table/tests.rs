//! What `kubectl get` shows, object by object.

#![allow(clippy::too_many_lines)] // tables of cases

use super::*;
use crate::defaults::tests::any_object;
use proptest::prelude::*;

const CREATED: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

/// Checks the cells of one object; numbers and texts are compared as text, joined by ` | `.
fn check(group: &str, kind: &str, mut object: Value, want: &str) {
    json_patch::merge(
        &mut object,
        &json!({"metadata": {"name": "x", "creationTimestamp": CREATED}}),
    );
    let cells = row(group, kind, &object, now());
    assert_eq!(cells.len(), columns(group, kind).len(), "{kind}");
    let show = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    let got: Vec<String> = cells.iter().map(show).collect();
    assert_eq!(got.join(" | "), want, "{kind}: {object}");
}

fn pod(want: &str, object: Value) {
    let mut base = json!({"spec": {"nodeName": "n1", "containers": [{"name": "a"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"}});
    json_patch::merge(&mut base, &object);
    json_patch::merge(&mut base, &json!({"metadata": {"name": "x", "creationTimestamp": CREATED}}));
    let cells = row("", "Pod", &base, now());
    let got: Vec<&str> = cells[1..4].iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(got.join(" | "), want, "{base}");
}

#[test]
fn what_a_pod_is_doing() {
    let running = |n: i64| {
        json!({"name": "a", "ready": true, "restartCount": n,
        "state": {"running": {}}})
    };
    let waiting = |why: &str| {
        json!({"name": "a", "restartCount": 3,
        "state": {"waiting": {"reason": why}}})
    };
    let ended = |code: i64, reason: &str| {
        json!({"name": "a", "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "reason": reason}}})
    };
    let statuses = |list: Value| json!({"status": {"containerStatuses": list}});
    pod("0/1 | Pending | 0", json!({"status": {"phase": "Pending"}}));
    pod("1/1 | Running | 0", statuses(json!([running(0)])));
    pod("1/1 | Running | 7", statuses(json!([running(7)])));
    pod("0/1 | CrashLoopBackOff | 3", statuses(json!([waiting("CrashLoopBackOff")])));
    pod("0/1 | ImagePullBackOff | 3", statuses(json!([waiting("ImagePullBackOff")])));
    pod("0/1 | Error | 0", statuses(json!([ended(1, "Error")])));
    pod("0/1 | ExitCode:5 | 0", statuses(json!([ended(5, "")])));
    pod("1/1 | NotReady | 0", statuses(json!([ended(0, "Completed"), running(0)])));
    pod("0/1 | Evicted | 0", json!({"status": {"phase": "Failed", "reason": "Evicted"}}));
    pod(
        "1/1 | Terminating | 0",
        json!({"metadata": {"deletionTimestamp": CREATED},
               "status": {"containerStatuses": [running(0)]}}),
    );
    pod(
        "0/1 | SchedulingGated | 0",
        json!({"status": {"phase": "Pending",
            "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}}),
    );
    pod(
        "0/1 | CrashLoopBackOff | 3 (5m ago)",
        statuses(json!([{"name": "a", "restartCount": 3,
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:05:00Z"}},
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}])),
    );
}

#[test]
fn pods_that_initialise() {
    let with = |inits: Value, statuses: Value| {
        json!({"spec": {"initContainers": inits}, "status": {"phase": "Pending",
            "initContainerStatuses": statuses}})
    };
    let two = json!([{"name": "i1"}, {"name": "i2"}]);
    let done = json!({"name": "i1", "state": {"terminated": {"exitCode": 0}}});
    pod("0/1 | Init:0/2 | 0", with(two.clone(), json!([{"name": "i1", "state": {"running": {}}}])));
    pod(
        "0/1 | Init:1/2 | 0",
        with(
            two.clone(),
            json!([done, {"name": "i2",
            "state": {"waiting": {"reason": "PodInitializing"}}}]),
        ),
    );
    pod(
        "0/1 | Init:CrashLoopBackOff | 2",
        with(
            two.clone(),
            json!([{"name": "i1", "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]),
        ),
    );
    pod(
        "0/1 | Init:Error | 0",
        with(
            two,
            json!([{"name": "i1",
            "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]),
        ),
    );
    let sidecar = json!([{"name": "s", "restartPolicy": "Always"}]);
    pod(
        "2/2 | Running | 1",
        json!({"spec": {"initContainers": sidecar}, "status": {
            "initContainerStatuses": [{"name": "s", "started": true, "ready": true,
                "restartCount": 1, "state": {"running": {}}}],
            "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]}}),
    );
}

#[test]
fn wide_pods_and_their_conditions() {
    check(
        "",
        "Pod",
        json!({"spec": {"nodeName": "n1", "readinessGates": [{"conditionType": "g"}]},
               "status": {"phase": "Succeeded", "podIPs": [{"ip": "10.0.0.9"}],
                          "conditions": [{"type": "g", "status": "True"}]}}),
        "x | 0/0 | Succeeded | 0 | 10m | 10.0.0.9 | n1 | <none> | 1/1",
    );
    let done = json!({"status": {"phase": "Succeeded"}});
    assert_eq!(conditions("", "Pod", &done).unwrap()[0]["type"], "Completed");
    assert!(conditions("", "Pod", &json!({})).is_none());
}

#[test]
fn every_other_kind() {
    for (group, kind, object, want) in [
        (
            "",
            "Node",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "",
                                           "kubernetes.io/role": "gpu"}},
                   "spec": {"unschedulable": true},
                   "status": {"conditions": [{"type": "Ready", "status": "True"}],
                              "nodeInfo": {"kubeletVersion": "v1.36.0"},
                              "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}]}}),
            "x | Ready,SchedulingDisabled | gpu,worker | 10m | v1.36.0 | 10.1.1.1 | <none> | \
             <unknown> | <unknown> | <unknown>",
        ),
        (
            "",
            "Node",
            json!({}),
            "x | Unknown | <none> | 10m |  | <none> | <none> | <unknown> | <unknown> | <unknown>",
        ),
        ("", "Namespace", json!({"status": {"phase": "Active"}}), "x | Active | 10m"),
        ("", "ConfigMap", json!({"data": {"a": ""}, "binaryData": {"b": ""}}), "x | 2 | 10m"),
        ("", "Secret", json!({"type": "Opaque", "data": {"a": ""}}), "x | Opaque | 1 | 10m"),
        ("", "ServiceAccount", json!({}), "x | 10m"),
        (
            "",
            "Service",
            json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1",
                   "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"a": "b"}}}),
            "x | ClusterIP | 10.0.0.1 | <none> | 80/TCP | 10m | a=b",
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "LoadBalancer",
                   "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}]}}),
            "x | LoadBalancer | <none> | <pending> | 80:30000/TCP | 10m | <none>",
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "ExternalName", "externalName": "example.com"}}),
            "x | ExternalName | <none> | example.com | <none> | 10m | <none>",
        ),
        (
            "",
            "Endpoints",
            json!({"subsets": [{"ports": [{"port": 80}], "addresses": [
                {"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}, {"ip": "::1"}, {"ip": "1.1.1.4"}]}]}),
            "x | 1.1.1.1:80,1.1.1.2:80,[::1]:80 + 1 more... | 10m",
        ),
        ("", "Endpoints", json!({}), "x | <none> | 10m"),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "ports": [{"port": 80}, {}],
                   "endpoints": [{"addresses": ["1.1.1.1"]}]}),
            "x | IPv4 | 80,* | 1.1.1.1 | 10m",
        ),
        ("discovery.k8s.io", "EndpointSlice", json!({}), "x |  | <unset> | <unset> | 10m"),
        (
            "apps",
            "Deployment",
            json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                   "template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}},
                   "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
            "x | 2/3 | 3 | 1 | 10m | a | i | app=web",
        ),
        (
            "apps",
            "ReplicaSet",
            json!({"spec": {"replicas": 3}, "status": {"replicas": 2, "readyReplicas": 1}}),
            "x | 3 | 2 | 1 | 10m |  |  | <none>",
        ),
        ("coordination.k8s.io", "Lease", json!({"spec": {"holderIdentity": "me"}}), "x | me | 10m"),
        (
            "quorate.io",
            "Master",
            json!({"spec": {"nodeID": 9, "apiAddress": "h:6443", "peerAddress": "h:6444"},
                "status": {"role": "Follower", "version": "0.1.0", "alarms": ["NOSPACE", "SLOWDISK"],
                    "conditions": [{"type": "Ready", "status": "True"}]}}),
            "x | Follower | True | NOSPACE,SLOWDISK | 0.1.0 | 10m | 9 | h:6443 | h:6444",
        ),
        ("rbac.authorization.k8s.io", "Role", json!({}), "x | 2026-01-01T00:00:00Z"),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"},
                {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
            "x | Role/r | 10m | u | g | n/s",
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            json!({"value": 7, "preemptionPolicy": "Never"}),
            "x | 7 | false | 10m | Never",
        ),
        (
            "",
            "Event",
            json!({"type": "Normal", "reason": "Started", "message": " hi \n", "count": 4,
                   "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
                   "source": {"component": "kubelet", "host": "n1"},
                   "firstTimestamp": CREATED, "lastTimestamp": "2026-01-01T00:09:00Z"}),
            "60s | Normal | Started | pod/p | spec | kubelet, n1 | hi | 10m | 4 | x",
        ),
        (
            "events.k8s.io",
            "Event",
            json!({"type": "Warning", "reason": "R", "note": "n", "eventTime": CREATED,
                   "regarding": {"kind": "Node"}, "reportingController": "c",
                   "series": {"count": 9, "lastObservedTime": "2026-01-01T00:09:30Z"}}),
            "30s | Warning | R | node |  | c | n | 10m | 9 | x",
        ),
        ("example.com", "Widget", json!({}), "x | 2026-01-01T00:00:00Z"),
    ] {
        check(group, kind, object, want);
    }
}

/// The columns of every kind that is kept are upstream's: `columns.tsv` is written from its printers (and from the
/// generic one, for kinds that have none).
#[test]
fn columns_are_upstreams() {
    let facts = include_str!("columns.tsv");
    for def in crate::resource::all().iter().filter(|def| def.storage_key().is_some()) {
        let (group, kind) = match (def.group(), def.kind()) {
            (crate::resource::OWN_GROUP, _) => continue,
            ("events.k8s.io" | "", kind) => ("core", kind),
            (group, kind) => (group, kind),
        };
        let of = format!("{group}\t{kind}\t");
        let want: Vec<&str> = facts.lines().filter(|line| line.starts_with(&of)).collect();
        assert!(!want.is_empty(), "{of}");
        let show = |c: &Column| format!("{of}{}\t{}\t{}\t{}", c.name, c.kind, c.format, c.priority);
        let got: Vec<String> = columns(def.group(), def.kind()).iter().map(show).collect();
        assert_eq!(got, want);
    }
}

/// The table of facts is what upstream publishes, where that is at hand.
#[test]
fn the_table_of_columns_is_upstreams() {
    let Some(folder) = crate::upstream::folder("discovery") else { return };
    let theirs = std::fs::read_to_string(folder.join("../columns.tsv")).unwrap();
    let of_group = |package: &str| match package {
        "api" => "core".to_owned(),
        "nodeapi" => "node.k8s.io".to_owned(),
        "rbac" => "rbac.authorization.k8s.io".to_owned(),
        "flowcontrol" => "flowcontrol.apiserver.k8s.io".to_owned(),
        "apps" | "autoscaling" | "batch" | "policy" => package.to_owned(),
        other => format!("{other}.k8s.io"),
    };
    let published: Vec<String> = theirs
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('.'))
        .map(|(package, rest)| {
            let (kind, rest) = rest.split_once('\t').unwrap();
            format!("{}\t{kind}\t{rest}", of_group(package))
        })
        .collect();
    // These are put together by code that the published table was not made from.
    let elsewhere = [
        "CSIDriver",
        "APIService",
        "Role",
        "ClusterRole",
        "LimitRange",
        "CustomResourceDefinition",
    ];
    for line in include_str!("columns.tsv").lines().skip(1) {
        let kind = line.split('\t').nth(1).unwrap();
        let known = elsewhere.contains(&kind) || published.iter().any(|other| other == line);
        assert!(known, "{line}");
    }
}

#[test]
fn jobs() {
    let job = |status: Value| {
        json!({"spec": {"completions": 3, "selector": {"matchLabels": {"a": "b"}},
            "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}, "status": status})
    };
    let check_job = |status: Value, want: &str| {
        check("batch", "Job", job(status), &format!("x | {want} | 10m | c | i | a=b"));
    };
    check_job(json!({}), "Running | 0/3 | ");
    check_job(json!({"startTime": CREATED, "succeeded": 1}), "Running | 1/3 | 10m");
    check_job(
        json!({"startTime": CREATED, "completionTime": "2026-01-01T00:01:05Z", "succeeded": 3,
            "conditions": [{"type": "Complete", "status": "True"}]}),
        "Complete | 3/3 | 65s",
    );
    check_job(
        json!({"conditions": [{"type": "Suspended", "status": "True"}]}),
        "Suspended | 0/3 | ",
    );
    check(
        "batch",
        "Job",
        json!({"spec": {"parallelism": 2}, "status": {"succeeded": 1}}),
        "x | Running | 1/1 of 2 |  | 10m |  |  | <none>",
    );
    check(
        "batch",
        "CronJob",
        json!({"spec": {"schedule": "@hourly", "suspend": true}, "status": {"active": [{}],
            "lastScheduleTime": "2026-01-01T00:05:00Z"}}),
        "x | @hourly | <none> | True | 1 | 5m | 10m |  |  | <none>",
    );
}

#[test]
fn sets_and_revisions() {
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
        "template": {"spec": {"nodeSelector": {"k": "v"}, "containers": [{"name": "c", "image": "i"}]}}});
    check(
        "apps",
        "DaemonSet",
        json!({"spec": spec, "status": {"desiredNumberScheduled": 5, "currentNumberScheduled": 4,
            "numberReady": 3, "updatedNumberScheduled": 2, "numberAvailable": 1}}),
        "x | 5 | 4 | 3 | 2 | 1 | k=v | 10m | c | i | a=b",
    );
    check(
        "apps",
        "StatefulSet",
        json!({"spec": spec, "status": {"readyReplicas": 2}}),
        "x | 2/3 | 10m | c | i",
    );
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true});
    check(
        "apps",
        "ControllerRevision",
        json!({"revision": 7, "metadata": {"ownerReferences": [owner]}}),
        "x | daemonset.apps/d | 7 | 10m",
    );
    check("apps", "ControllerRevision", json!({"revision": 7}), "x | <none> | 7 | 10m");
}

#[test]
fn quotas_volumes_and_controllers() {
    check(
        "",
        "ResourceQuota",
        json!({"status": {"hard": {"limits.cpu": "2", "pods": "10", "requests.cpu": "1"}, "used": {"pods": "3"}}}),
        "x | pods: 3/10, requests.cpu: 0/1 | limits.cpu: 0/2 | 10m",
    );
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    check("", "PodTemplate", json!({"template": template}), "x | c | i | a=b");
    check(
        "",
        "ReplicationController",
        json!({"spec": {"replicas": 3, "selector": {"a": "b"}, "template": template},
            "status": {"replicas": 2, "readyReplicas": 1}}),
        "x | 3 | 2 | 1 | 10m | c | i | a=b",
    );
    check(
        "",
        "PersistentVolume",
        json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "n", "name": "c"},
            "storageClassName": "s", "volumeMode": "Block"}, "status": {"phase": "Bound"}}),
        "x | 1Gi | RWO,RWX | Retain | Bound | n/c | s | <unset> |  | 10m | Block",
    );
    let claim = |spec: Value| {
        json!({"spec": spec, "status": {"phase": "Pending", "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOncePod"]}})
    };
    check(
        "",
        "PersistentVolumeClaim",
        claim(json!({"volumeMode": "Filesystem"})),
        "x | Pending |  |  |  |  | <unset> | 10m | Filesystem",
    );
    check(
        "",
        "PersistentVolumeClaim",
        claim(json!({"volumeName": "v", "storageClassName": "s"})),
        "x | Pending | v | 1Gi | RWOP | s | <unset> | 10m | <unset>",
    );
}

#[test]
fn autoscalers_and_budgets() {
    let spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 3,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
            {"type": "Pods", "pods": {"target": {"averageValue": "5"}}},
            {"type": "Object", "object": {"target": {"value": "5"}}}]});
    let status = json!({"currentReplicas": 2, "currentMetrics":
        [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 30}}}]});
    let kind = "HorizontalPodAutoscaler";
    check(
        "autoscaling",
        kind,
        json!({"spec": spec, "status": status}),
        "x | Deployment/d | cpu: 30%/80%, <unknown>/5 + 1 more... | 1 | 3 | 2 | 10m",
    );
    let old = json!({"apiVersion": "autoscaling/v1", "spec": {"scaleTargetRef": {"kind": "K", "name": "d"},
        "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
    check("autoscaling", kind, old, "x | K/d | cpu: <unknown>/50% | <unset> | 3 | 0 | 10m");
    check(
        "policy",
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": 2}, "status": {"disruptionsAllowed": 1}}),
        "x | 2 | N/A | 1 | 10m",
    );
}

#[test]
fn kinds_of_networking() {
    let group = "networking.k8s.io";
    let rule = |host: &str| json!({"host": host});
    check(
        group,
        "Ingress",
        json!({"spec": {"ingressClassName": "c", "tls": [{}],
            "rules": [rule("a"), rule("b"), rule("c"), rule("d"), rule("e")]},
            "status": {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "1.example"}]}}}),
        "x | c | a,b,c + 2 more... | 1.example,2.2.2.2 | 80, 443 | 10m",
    );
    check(group, "Ingress", json!({}), "x | <none> | * |  | 80 | 10m");
    let parameters = json!({"apiGroup": "g", "kind": "K", "name": "n"});
    check(
        group,
        "IngressClass",
        json!({"spec": {"controller": "e.com/c", "parameters": parameters}}),
        "x | e.com/c | K.g/n | 10m",
    );
    check(group, "NetworkPolicy", json!({"spec": {"podSelector": {}}}), "x | <none> | 10m");
    check(
        group,
        "IPAddress",
        json!({"spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}}),
        "x | services/n/s",
    );
    check(group, "ServiceCIDR", json!({"spec": {"cidrs": ["a", "b"]}}), "x | a,b | 10m");
}

#[test]
fn kinds_of_storage() {
    let group = "storage.k8s.io";
    let default = json!({"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}});
    check(
        group,
        "StorageClass",
        json!({"metadata": default, "provisioner": "p", "volumeBindingMode": "Immediate"}),
        "x (default) | p | Delete | Immediate | false | 10m",
    );
    check(group, "VolumeAttributesClass", json!({"driverName": "d"}), "x | d | 10m");
    check(
        group,
        "VolumeAttachment",
        json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
        "x | a | v | n | false | 10m",
    );
    check(
        group,
        "CSIDriver",
        json!({"spec": {"volumeLifecycleModes": ["Persistent", "Ephemeral"]}}),
        "x | true | false | false | <unset> | false | Persistent,Ephemeral | 10m",
    );
    check(group, "CSINode", json!({"spec": {"drivers": [{}]}}), "x | 1 | 10m");
    check(group, "CSIStorageCapacity", json!({"storageClassName": "s"}), "x | s | <unset>");
    check("node.k8s.io", "RuntimeClass", json!({"handler": "h"}), "x | h | 10m");
}

#[test]
fn admission_and_flow() {
    let group = "admissionregistration.k8s.io";
    check(group, "ValidatingWebhookConfiguration", json!({"webhooks": [{}, {}]}), "x | 2 | 10m");
    check(group, "MutatingWebhookConfiguration", json!({}), "x | 0 | 10m");
    let kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    check(
        group,
        "ValidatingAdmissionPolicy",
        json!({"spec": {"validations": [{}], "paramKind": kind}}),
        "x | 1 | v1/ConfigMap | 10m",
    );
    check(group, "MutatingAdmissionPolicy", json!({"spec": {}}), "x | 0 | <unset> | 10m");
    for (reference, want) in [
        (Value::Null, "<unset>"),
        (json!({"name": "p"}), "*/p"),
        (json!({"name": "p", "namespace": "n"}), "n/p"),
    ] {
        check(
            group,
            "ValidatingAdmissionPolicyBinding",
            json!({"spec": {"policyName": "q", "paramRef": reference}}),
            &format!("x | q | {want} | 10m"),
        );
    }
    let group = "flowcontrol.apiserver.k8s.io";
    let conditions = json!([{"type": "Dangling", "status": "False"}]);
    check(
        group,
        "FlowSchema",
        json!({"spec": {"matchingPrecedence": 7, "priorityLevelConfiguration": {"name": "l"},
            "distinguisherMethod": {"type": "ByUser"}}, "status": {"conditions": conditions}}),
        "x | l | 7 | ByUser | 10m | False",
    );
    check(group, "FlowSchema", json!({}), "x |  | 0 | <none> | 10m | ?");
    let queuing = json!({"queues": 1, "handSize": 2, "queueLengthLimit": 3});
    check(
        group,
        "PriorityLevelConfiguration",
        json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5,
            "limitResponse": {"queuing": queuing}}}}),
        "x | Limited | 5 | 1 | 2 | 3 | 10m",
    );
    check(
        group,
        "PriorityLevelConfiguration",
        json!({"spec": {"type": "Exempt"}}),
        "x | Exempt | <none> | <none> | <none> | <none> | 10m",
    );
}

#[test]
fn services_migrations_and_devices() {
    let group = "apiregistration.k8s.io";
    let available =
        json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local"}]});
    check(group, "APIService", json!({"status": available}), "x | Local | True | 10m");
    let failed = json!({"conditions": [{"type": "Available", "status": "False", "reason": "R"}]});
    check(
        group,
        "APIService",
        json!({"spec": {"service": {"namespace": "n", "name": "s"}}, "status": failed}),
        "x | n/s | False (R) | 10m",
    );
    let running = json!({"conditions": [{"type": "Running", "status": "True"}]});
    check(
        "storagemigration.k8s.io",
        "StorageVersionMigration",
        json!({"spec": {"resource": {"group": "apps", "resource": "deployments"}}, "status": running}),
        "x | deployments.apps | Running",
    );
    let healthy = json!([{"type": "Healthy", "status": "True", "message": "ok"}]);
    check("", "ComponentStatus", json!({"conditions": healthy}), "x | Healthy | ok | ");
    let group = "resource.k8s.io";
    check(group, "DeviceClass", json!({}), "x | 10m");
    check(group, "ResourceClaim", json!({}), "x | pending | 10m");
    check(
        group,
        "ResourceClaim",
        json!({"status": {"allocation": {}, "reservedFor": [{}]}}),
        "x | allocated,reserved | 10m",
    );
    check(
        group,
        "ResourceSlice",
        json!({"spec": {"nodeName": "n", "driver": "d", "pool": {"name": "p"}}}),
        "x | n | d | p | 10m",
    );
}

proptest! {
    #[test]
    fn any_object_has_a_row(object in any_object()) {
        for printer in PRINTERS {
            let cells = row(printer.group, printer.kind, &object, now());
            prop_assert_eq!(cells.len(), printer.columns.len());
        }
    }
}
