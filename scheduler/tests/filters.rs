//! Each filter, as data: nodes, what runs there, a pod, and what Kubernetes says.

mod support;

use serde_json::{Value, json};
use support::{asks, info, node_json, pod_json, verdict, view};

const NOT_HELPFUL: &str = "preemption: 0/1 nodes are available: \
     1 Preemption is not helpful for scheduling.";
const NO_VICTIMS: &str = "preemption: 0/1 nodes are available: \
     1 No preemption victims found for incoming pod.";

/// One node, no pods: the pod goes there, or is refused for `reason`.
fn check(node: Value, pod: Value, reason: Option<&str>) {
    let what = format!("node {node}\npod {pod}");
    let view = view(vec![node_json("n1", node)], vec![]);
    let verdict = verdict(&view, &info(pod_json("p", pod)));
    match reason {
        None => assert_eq!(verdict, "-> n1", "{what}"),
        Some(reason) => {
            let wanted = format!("0/1 nodes are available: {reason}. ");
            assert!(verdict.starts_with(&wanted), "{what}\nwanted {wanted}\ngot    {verdict}");
        }
    }
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn resources() {
    let cpu = Some("1 Insufficient cpu");
    let memory = Some("1 Insufficient memory");
    let request = |list: Value| json!({"name": "c", "resources": {"requests": list}});
    let sidecar = |list: Value| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": list}});
    let spec = |spec: Value| json!({"spec": spec});
    for (pod, reason) in [
        (asks("4", "8Gi"), None),
        (asks("4001m", "1Gi"), cpu),
        (asks("1", "8193Mi"), memory),
        (asks("5", "9Gi"), Some("1 Insufficient cpu, 1 Insufficient memory")),
        // Containers add up.
        (
            spec(
                json!({"containers": [request(json!({"cpu": "2"})), request(json!({"cpu": "2"}))]}),
            ),
            None,
        ),
        (
            spec(
                json!({"containers": [request(json!({"cpu": "2"})), request(json!({"cpu": "2001m"}))]}),
            ),
            cpu,
        ),
        // Init containers run one after the other, before the others.
        (
            spec(
                json!({"initContainers": [request(json!({"cpu": "4"})), request(json!({"cpu": "4"}))]}),
            ),
            None,
        ),
        (spec(json!({"initContainers": [request(json!({"cpu": "4001m"}))]})), cpu),
        // A sidecar runs beside the init containers that come after it, and beside the others.
        (
            spec(
                json!({"initContainers": [request(json!({"cpu": "4"})), sidecar(json!({"cpu": "1"}))]}),
            ),
            None,
        ),
        (
            spec(
                json!({"initContainers": [sidecar(json!({"cpu": "1"})), request(json!({"cpu": "4"}))]}),
            ),
            cpu,
        ),
        (
            spec(json!({
                "initContainers": [sidecar(json!({"cpu": "2"}))],
                "containers": [request(json!({"cpu": "3"}))],
            })),
            cpu,
        ),
        // Overhead comes on top of all.
        (spec(json!({"overhead": {"cpu": "4"}})), None),
        (
            spec(json!({"overhead": {"cpu": "1m"}, "containers": [request(json!({"cpu": "4"}))]})),
            cpu,
        ),
        // Requests of the pod as a whole take the place of the sum.
        (
            spec(json!({
                "resources": {"requests": {"cpu": "1"}},
                "containers": [request(json!({"cpu": "5"}))],
            })),
            None,
        ),
        (spec(json!({"resources": {"requests": {"memory": "9Gi"}}})), memory),
        // What a node does not have at all.
        (
            spec(json!({"containers": [request(json!({"ephemeral-storage": "1"}))]})),
            Some("1 Insufficient ephemeral-storage"),
        ),
        (
            spec(json!({"containers": [request(json!({"example.com/gpu": "1"}))]})),
            Some("1 Insufficient example.com/gpu"),
        ),
        (spec(json!({"containers": [request(json!({"example.com/gpu": "0"}))]})), None),
    ] {
        check(json!({}), pod, reason);
    }
    check(json!({"status": {"allocatable": {"pods": "0"}}}), json!({}), Some("1 Too many pods"));
    check(
        json!({"status": {"allocatable": {"example.com/gpu": "2"}}}),
        json!({"spec": {"containers": [request(json!({"example.com/gpu": "2"}))]}}),
        None,
    );
}

#[test]
fn what_runs_on_a_node_counts_until_it_is_finished() {
    let running = |phase: &str| {
        let mut pod = pod_json("old", asks("3", "1Gi"));
        support::merge(&mut pod, json!({"spec": {"nodeName": "n1"}, "status": {"phase": phase}}));
        pod
    };
    let pod = info(pod_json("p", asks("2", "1Gi")));
    for (phase, fits) in
        [("Running", false), ("Pending", false), ("Succeeded", true), ("Failed", true)]
    {
        let view = view(vec![node_json("n1", json!({}))], vec![running(phase)]);
        let expected = if fits {
            "-> n1".to_owned()
        } else {
            format!("0/1 nodes are available: 1 Insufficient cpu. {NO_VICTIMS}")
        };
        assert_eq!(verdict(&view, &pod), expected, "{phase}");
    }
}

#[test]
fn a_pod_resized_in_place_counts_with_the_larger_of_its_sizes() {
    let old = |status: Value| {
        let mut pod = pod_json("old", asks("1", "1Gi"));
        support::merge(&mut pod, json!({"spec": {"nodeName": "n1"}, "status": status}));
        pod
    };
    let infeasible =
        json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
    let running = |cpu: &str| {
        json!([{
            "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}},
            "allocatedResources": {"cpu": cpu, "memory": "1Gi"},
        }])
    };
    for (status, cpu, fits) in [
        (json!({"containerStatuses": running("3")}), "2", false),
        (json!({"containerStatuses": running("500m")}), "3001m", false),
        (json!({"containerStatuses": running("500m"), "conditions": infeasible}), "3500m", true),
    ] {
        let view = view(vec![node_json("n1", json!({}))], vec![old(status.clone())]);
        let verdict = verdict(&view, &info(pod_json("p", asks(cpu, "1Gi"))));
        assert_eq!(verdict == "-> n1", fits, "{status}: {verdict}");
    }
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn node_selector_and_affinity() {
    let node = json!({"metadata": {"labels": {"zone": "a", "cores": "8", "word": "x"}}});
    let refused = Some("1 node(s) didn't match Pod's node affinity/selector");
    let terms = |terms: Value| {
        json!({"spec": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}})
    };
    let label = |key: &str, operator: &str, values: Value| {
        terms(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
    };
    for (pod, reason) in [
        (json!({"spec": {"nodeSelector": {"zone": "a"}}}), None),
        (json!({"spec": {"nodeSelector": {"zone": "b"}}}), refused),
        (json!({"spec": {"nodeSelector": {"none": ""}}}), refused),
        (label("zone", "In", json!(["b", "a"])), None),
        (label("zone", "In", json!(["b"])), refused),
        (label("zone", "NotIn", json!(["b"])), None),
        (label("none", "NotIn", json!(["b"])), None),
        (label("zone", "NotIn", json!(["a"])), refused),
        (label("zone", "Exists", json!([])), None),
        (label("none", "Exists", json!([])), refused),
        (label("none", "DoesNotExist", json!([])), None),
        (label("zone", "DoesNotExist", json!([])), refused),
        (label("cores", "Gt", json!(["7"])), None),
        (label("cores", "Gt", json!(["8"])), refused),
        (label("cores", "Lt", json!(["9"])), None),
        (label("cores", "Lt", json!(["8"])), refused),
        (label("word", "Gt", json!(["1"])), refused),
        (label("cores", "Gt", json!(["x"])), refused),
        (label("none", "Lt", json!(["1"])), refused),
        // Alternatives, of which an empty one matches nothing.
        (terms(json!([{}])), refused),
        (
            terms(json!([
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
            ])),
            None,
        ),
        // Both must hold.
        (
            json!({"spec": {"nodeSelector": {"zone": "b"}, "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}}}}}),
            refused,
        ),
        // By name, as a DaemonSet's pods have it.
        (
            terms(
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
            ),
            None,
        ),
        (
            terms(
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]),
            ),
            Some("1 node(s) didn't satisfy plugin(s) [NodeAffinity]"),
        ),
        (
            terms(
                json!([{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}]),
            ),
            refused,
        ),
        (
            terms(json!([{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["n1"]},
                {"key": "metadata.name", "operator": "In", "values": ["n2"]},
            ]}])),
            Some("pod affinity terms conflict"),
        ),
    ] {
        check(node.clone(), pod, reason);
    }
}

#[test]
fn taints() {
    let tainted = |effect: &str, value: &str| json!({"spec": {"taints": [{"key": "k", "value": value, "effect": effect}]}});
    let tolerates = |toleration: Value| json!({"spec": {"tolerations": [toleration]}});
    let refused = Some("1 node(s) had untolerated taint(s)");
    for (node, pod, reason) in [
        (tainted("NoSchedule", "v"), json!({}), refused),
        (tainted("NoExecute", "v"), json!({}), refused),
        (tainted("NoSchedule", ""), json!({}), refused),
        (tainted("PreferNoSchedule", "v"), json!({}), None),
        (tainted("NoSchedule", "v"), tolerates(json!({"key": "k", "value": "v"})), None),
        (tainted("NoSchedule", "v"), tolerates(json!({"key": "k", "value": "w"})), refused),
        (tainted("NoSchedule", "v"), tolerates(json!({"key": "k", "operator": "Exists"})), None),
        (tainted("NoSchedule", "v"), tolerates(json!({"operator": "Exists"})), None),
        (
            tainted("NoSchedule", "v"),
            tolerates(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})),
            refused,
        ),
        (
            tainted("NoSchedule", "5"),
            tolerates(json!({"key": "k", "operator": "Gt", "value": "4"})),
            None,
        ),
        (
            tainted("NoSchedule", "5"),
            tolerates(json!({"key": "k", "operator": "Lt", "value": "5"})),
            refused,
        ),
    ] {
        check(node, pod, reason);
    }
}

#[test]
fn cordoned_nodes() {
    let cordoned = json!({"spec": {"unschedulable": true}});
    check(cordoned.clone(), json!({}), Some("1 node(s) were unschedulable"));
    let toleration = json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"});
    check(cordoned, json!({"spec": {"tolerations": [toleration]}}), None);
}

#[test]
fn host_ports() {
    let ports = |ports: Value| json!({"spec": {"containers": [{"name": "c", "ports": ports}]}});
    let port = |ip: &str, protocol: &str, port: u16| json!({"containerPort": 1, "hostIP": ip, "protocol": protocol, "hostPort": port});
    let mut old = pod_json("old", ports(json!([port("10.0.0.1", "TCP", 80), port("", "UDP", 53)])));
    support::merge(&mut old, json!({"spec": {"nodeName": "n1"}}));
    let view = view(vec![node_json("n1", json!({}))], vec![old]);
    for (wanted, free) in [
        (port("", "TCP", 80), false),
        (port("10.0.0.1", "TCP", 80), false),
        (port("10.0.0.2", "TCP", 80), true),
        (port("10.0.0.1", "UDP", 80), true),
        (port("10.0.0.1", "TCP", 81), true),
        (port("10.0.0.7", "UDP", 53), false),
    ] {
        let pod = info(pod_json("p", ports(json!([wanted]))));
        let expected = if free {
            "-> n1".to_owned()
        } else {
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod \
             ports. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
                .to_owned()
        };
        assert_eq!(verdict(&view, &pod), expected, "{wanted}");
    }
}

#[test]
fn reasons_are_counted_and_sorted() {
    let taint = json!({"spec": {"taints": [
        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}});
    let mut busy = pod_json("busy", asks("4", "1Gi"));
    support::merge(&mut busy, json!({"spec": {"nodeName": "n1"}}));
    let nodes =
        vec![node_json("n1", json!({})), node_json("n2", taint.clone()), node_json("n3", taint)];
    let mut view = view(nodes, vec![busy]);
    let pod = info(pod_json("p", asks("1", "1Gi")));
    assert_eq!(
        verdict(&view, &pod),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). \
         preemption: 0/3 nodes are available: \
         1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
    // More than any node has: evicting pods would not help.
    let huge = info(pod_json("p", asks("100", "1Gi")));
    view.remove_node("n2");
    view.remove_node("n3");
    view.arrange();
    let message = verdict(&view, &huge);
    assert_eq!(message, format!("0/1 nodes are available: 1 Insufficient cpu. {NOT_HELPFUL}"));
    let never = info(pod_json("p", {
        let mut pod = asks("1", "1Gi");
        support::merge(&mut pod, json!({"spec": {"preemptionPolicy": "Never"}}));
        pod
    }));
    assert_eq!(
        verdict(&view, &never),
        "0/1 nodes are available: 1 Insufficient cpu. \
         preemption: not eligible due to preemptionPolicy=Never."
    );
}

#[test]
fn without_nodes() {
    let view = view(vec![], vec![]);
    let pod = info(pod_json("p", json!({})));
    assert_eq!(verdict(&view, &pod), "no nodes available to schedule pods");
}
