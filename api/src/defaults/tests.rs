//! What each kind looks like after defaulting.

#![allow(clippy::too_many_lines)] // tables of cases

use super::apply;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Checks that defaulting adds exactly `added` (a JSON merge patch) and is idempotent.
fn check(group: &str, kind: &str, object: Value, added: Value) {
    let mut got = object.clone();
    apply(group, "v1", kind, &mut got);
    let mut want = object;
    json_patch::merge(&mut want, &added);
    assert_eq!(got, want, "{kind}");
    let once = got.clone();
    apply(group, "v1", kind, &mut got);
    assert_eq!(got, once, "{kind}: defaulting twice");
}

#[test]
fn a_bare_pod() {
    let mut object = json!({"spec": {"containers": [{"name": "c", "image": "busybox"}]}});
    apply("", "v1", "Pod", &mut object);
    assert_eq!(
        object,
        json!({"spec": {
            "containers": [{
                "name": "c", "image": "busybox", "imagePullPolicy": "Always", "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        }})
    );
}

#[test]
fn pull_policies_follow_the_tag() {
    for (image, want) in [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1.36", "IfNotPresent"),
        ("registry:5000/busybox", "Always"),
        ("registry:5000/busybox:1", "IfNotPresent"),
        ("a/b@sha256:0000", "IfNotPresent"),
        ("", "IfNotPresent"),
        ("UPPER", "IfNotPresent"),
    ] {
        assert_eq!(super::pod::pull_policy(image), want, "{image}");
    }
}

#[test]
fn parts_of_a_pod() {
    let mut object = json!({"spec": {
        "hostNetwork": true, "serviceAccount": "sa",
        "containers": [{
            "name": "c", "image": "i:1",
            "ports": [{"containerPort": 80}],
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
            "resources": {"limits": {"cpu": "1", "memory": "100u"}, "requests": {"cpu": "1m"}},
            "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 3},
            "livenessProbe": {"grpc": {"port": 80}},
            "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
        }],
        "volumes": [
            {"name": "a"}, {"name": "b", "secret": {"secretName": "s"}},
            {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {"name": "d", "hostPath": {"path": "/"}},
        ],
    }});
    apply("", "v1", "Pod", &mut object);
    let spec = &object["spec"];
    let c = &spec["containers"][0];
    for (got, want) in [
        (&spec["serviceAccountName"], json!("sa")),
        (&c["ports"], json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}])),
        (&c["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], json!("v1")),
        (&c["env"][1]["valueFrom"]["resourceFieldRef"]["divisor"], json!("0")),
        (&c["resources"]["requests"], json!({"cpu": "1m", "memory": "1m"})),
        (
            &c["readinessProbe"],
            json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 3,
                   "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}),
        ),
        (&c["livenessProbe"]["grpc"]["service"], json!("")),
        (&c["lifecycle"]["preStop"]["httpGet"]["scheme"], json!("HTTP")),
        (&spec["volumes"][0], json!({"name": "a", "emptyDir": {}})),
        (&spec["volumes"][1]["secret"]["defaultMode"], json!(420)),
        (
            &spec["volumes"][2]["projected"]["sources"][0]["serviceAccountToken"],
            json!({"path": "t", "expirationSeconds": 3600}),
        ),
        (&spec["volumes"][3]["hostPath"], json!({"path": "/", "type": ""})),
    ] {
        assert_eq!(*got, want);
    }
}

#[test]
fn small_kinds() {
    check(
        "",
        "Namespace",
        json!({"metadata": {"name": "n"}}),
        json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "n"}},
               "status": {"phase": "Active"}}),
    );
    check(
        "",
        "Secret",
        json!({"stringData": {"a": "b"}, "data": {"c": "ZA=="}}),
        json!({"type": "Opaque", "stringData": null, "data": {"a": "Yg=="}}),
    );
    check(
        "",
        "Service",
        json!({"spec": {"ports": [{"port": 80}]}}),
        json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
               "type": "ClusterIP", "sessionAffinity": "None",
               "internalTrafficPolicy": "Cluster"}}),
    );
    check(
        "",
        "Service",
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}}),
        json!({"spec": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
               "allocateLoadBalancerNodePorts": true, "internalTrafficPolicy": "Cluster",
               "externalTrafficPolicy": "Cluster"}}),
    );
    check(
        "",
        "Node",
        json!({"status": {"capacity": {"cpu": "2"}}}),
        json!({"status": {"allocatable": {"cpu": "2"}}}),
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"ports": [{"port": 1}]}),
        json!({
        "ports": [{"port": 1, "name": "", "protocol": "TCP"}]}),
    );
    check(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User"}]}),
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io"},
               "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io"}]}),
    );
    check(
        "scheduling.k8s.io",
        "PriorityClass",
        json!({"value": 1}),
        json!({"preemptionPolicy": "PreemptLowerPriority"}),
    );
}

#[test]
fn workloads() {
    let mut object = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "c", "image": "i:1", "resources": {"limits": {"cpu": "1"}}}]}}}});
    apply("apps", "v1", "Deployment", &mut object);
    let spec = &object["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate",
               "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Always");
    assert!(pod.get("enableServiceLinks").is_none(), "only pods get it");
    assert_eq!(pod["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}));
}

/// Arbitrary JSON that likes the field names of pods and services.
pub(crate) fn any_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..70000).prop_map(Value::from),
        "[a-zA-Z0-9./:_-]{0,12}".prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "spec",
        "status",
        "containers",
        "initContainers",
        "volumes",
        "ports",
        "env",
        "resources",
        "limits",
        "requests",
        "cpu",
        "template",
        "selector",
        "matchLabels",
        "replicas",
        "strategy",
        "type",
        "rollingUpdate",
        "affinity",
        "nodeAffinity",
        "tolerations",
        "key",
        "operator",
        "subsets",
        "addresses",
        "ip",
        "rules",
        "verbs",
        "subjects",
        "roleRef",
        "kind",
        "data",
        "stringData",
        "securityContext",
        "emptyDir",
        "projected",
        "sources",
        "livenessProbe",
        "httpGet",
        "port",
        "endpoints",
        "conditions",
        "containerStatuses",
        "state",
        "running",
        "restartPolicy",
        "image",
        "value",
        "clusterIP",
        "clusterIPs",
        "externalIPs",
        "hostNetwork",
        "volumeMounts",
        "finalizers",
        "ownerReferences",
        "topologySpreadConstraints",
        "involvedObject",
        "items",
        "path",
        "mode",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn defaulting_is_total_and_idempotent(object in any_object()) {
        for (group, kind) in [("", "Pod"), ("apps", "Deployment"), ("", "Service"), ("", "Secret"),
            ("", "Namespace"), ("", "Node"), ("", "Endpoints"), ("discovery.k8s.io", "EndpointSlice"),
            ("rbac.authorization.k8s.io", "RoleBinding"), ("scheduling.k8s.io", "PriorityClass")] {
            let mut once = object.clone();
            apply(group, "v1", kind, &mut once);
            let mut twice = once.clone();
            apply(group, "v1", kind, &mut twice);
            prop_assert_eq!(&once, &twice, "{}", kind);
        }
    }
}

/// Upstream's fully populated objects say everything, so defaulting has nothing to add but what
/// it derives.
#[test]
fn objects_that_say_everything_keep_it() {
    let Some(folder) = crate::upstream::folder("roundtrip") else { return };
    for name in [
        "core.v1.Pod",
        "core.v1.Namespace",
        "core.v1.Node",
        "core.v1.Service",
        "core.v1.Secret",
        "core.v1.Endpoints",
        "apps.v1.Deployment",
        "apps.v1.ReplicaSet",
        "discovery.k8s.io.v1.EndpointSlice",
        "rbac.authorization.k8s.io.v1.RoleBinding",
        "scheduling.k8s.io.v1.PriorityClass",
    ] {
        let bytes = std::fs::read(folder.join(format!("{name}.json"))).expect(name);
        let before: Value = serde_json::from_slice(&bytes).expect(name);
        let mut after = before.clone();
        let (group, kind) = name.split_once(".v1.").expect("group.v1.Kind");
        let group = if group == "core" { "" } else { group };
        apply(group, "v1", kind, &mut after);
        let derived = [
            "/spec/containers/0/resources/requests/limitsKey",
            "/spec/initContainers/0/resources/requests/limitsKey",
            "/spec/serviceAccount",
            "/spec/template/spec/serviceAccount",
            "/metadata/labels/kubernetes.io~1metadata.name",
            "/data/stringDataKey",
            "/stringData",
        ];
        for change in json_patch::diff(&before, &after).0 {
            assert!(derived.contains(&change.path().as_str()), "{name}: {change}");
        }
    }
}
