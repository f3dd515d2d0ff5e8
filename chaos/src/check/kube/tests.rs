//! What is at rest, and each way in which it is not.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::real::kube::{Binding, Wanted};
use crate::report::Result;

fn pod(name: &str, set: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": format!("{name}-uid"), "labels": {"app": "web-0"},
            "ownerReferences": [{"uid": set, "controller": true}]},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn good() -> (Last, BTreeMap<String, Wanted>) {
    let node = |name: &str| {
        json!({"metadata": {"name": name}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}]}})
    };
    let last = Last {
        deployments: vec![json!({
            "metadata": {"name": "web-0", "uid": "d", "generation": 4},
            "spec": {"replicas": 2, "template": {"metadata": {"annotations":
                {"chaos.quorate/round": "7"}}}},
            "status": {"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2,
                "availableReplicas": 2, "readyReplicas": 2},
        })],
        replicasets: vec![
            json!({
                "metadata": {"name": "web-0-b", "uid": "new",
                    "ownerReferences": [{"uid": "d", "controller": true}]},
                "spec": {"replicas": 2},
            }),
            json!({
                "metadata": {"name": "web-0-a", "uid": "old",
                    "ownerReferences": [{"uid": "d", "controller": true}]},
                "spec": {"replicas": 0},
            }),
        ],
        pods: vec![pod("one", "new", "10.0.0.1"), pod("two", "new", "10.0.0.2")],
        services: vec![
            json!({"metadata": {"name": "web-0"}, "spec": {"selector": {"app": "web-0"}}}),
            json!({"metadata": {"name": "kubernetes"}, "spec": {}}),
        ],
        slices: vec![json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "web-0"}},
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.9"], "conditions": {"ready": false}},
            ],
        })],
        nodes: vec![node("n1"), node("n2")],
        containers: [("one-uid".to_owned(), 1), ("two-uid".to_owned(), 1)].into(),
    };
    let wanted = Wanted { exists: true, replicas: 2, round: 7, known: true };
    (last, [("web-0".to_owned(), wanted)].into())
}

fn evidence(last: Last, wanted: BTreeMap<String, Wanted>) -> Evidence {
    let bindings = ["one", "two"].map(|pod| Binding {
        uid: format!("{pod}-uid"),
        pod: pod.to_owned(),
        node: "n1".to_owned(),
        at: 1,
    });
    Evidence {
        wanted,
        done: [("created".to_owned(), 3)].into(),
        bindings: bindings.to_vec(),
        last: Some(last),
        ..Evidence::default()
    }
}

fn result(checks: &[Check], name: &str) -> Result {
    checks.iter().find(|check| check.name == name).unwrap().result
}

#[test]
fn what_is_at_rest_passes() {
    let (last, wanted) = good();
    let evidence = evidence(last.clone(), wanted);
    assert_eq!(restless(&last, &evidence, 2), Vec::<String>::new());
    assert_eq!(all(&evidence, 2).len(), 6);
    assert!(not_checked(&evidence).is_empty());
    for check in all(&evidence, 2) {
        assert_eq!(check.result, Result::Pass, "{check:?}");
    }
}

#[test]
fn each_promise_can_be_broken() {
    type Break = (&'static str, fn(&mut Evidence, &mut Last));
    let breaks: [Break; 17] = [
        ("bound", |evidence, _| {
            let again = Binding { node: "n2".into(), ..evidence.bindings[0].clone() };
            evidence.bindings.push(again);
        }),
        ("converged", |_, last| last.deployments.clear()),
        ("converged", |_, last| last.deployments[0]["spec"]["replicas"] = json!(3)),
        ("converged", |_, last| last.deployments[0]["status"]["observedGeneration"] = json!(3)),
        ("converged", |_, last| last.deployments[0]["status"]["availableReplicas"] = json!(1)),
        ("converged", |evidence, _| evidence.wanted.get_mut("web-0").unwrap().round = 8),
        ("converged", |evidence, _| evidence.wanted.get_mut("web-0").unwrap().exists = false),
        ("converged", |evidence, _| evidence.surprises.push("web-0".into())),
        ("surplus", |_, last| last.pods.push(pod("three", "new", "10.0.0.3"))),
        ("surplus", |_, last| last.pods.push(pod("three", "gone", "10.0.0.3"))),
        ("surplus", |_, last| last.deployments.clear()),
        ("endpoints", |_, last| last.slices.clear()),
        ("endpoints", |_, last| last.pods[0]["status"]["podIP"] = json!("10.0.0.7")),
        ("containers", |_, last| drop(last.containers.pop_first())),
        ("containers", |_, last| *last.containers.get_mut("one-uid").unwrap() = 2),
        ("containers", |_, last| last.containers.extend([("of-old".into(), 1)])),
        ("nodes", |_, last| last.nodes[1]["status"]["conditions"][0]["status"] = json!("Unknown")),
    ];
    for (name, break_it) in breaks {
        let (mut last, wanted) = good();
        let mut evidence = evidence(last.clone(), wanted);
        break_it(&mut evidence, &mut last);
        evidence.last = Some(last);
        let checks = all(&evidence, 2);
        assert_eq!(result(&checks, name), Result::Fail, "{name}: {checks:?}");
    }
}

#[test]
fn nodes_that_were_there_are_not_looked_into() {
    let (mut last, wanted) = good();
    last.containers.clear();
    let mut there = evidence(last.clone(), wanted);
    there.nodes = Some(vec!["n1".to_owned()]);
    assert_eq!(restless(&last, &there, 0), Vec::<String>::new());
    let checks = all(&there, 0);
    assert!(checks.iter().all(|check| check.result == Result::Pass), "{checks:?}");
    assert!(checks.iter().all(|check| check.name != "containers"), "it is not said to have passed");
    assert_eq!(not_checked(&there)[0].name, "containers");
    // One that came later may go; one that was ready has to be.
    last.nodes.pop();
    there.last = Some(last.clone());
    assert_eq!(result(&all(&there, 0), "nodes"), Result::Pass);
    there.nodes = Some(vec!["n1".to_owned(), "n2".to_owned()]);
    assert_eq!(restless(&last, &there, 0), ["node n2 is not there"]);
    assert_eq!(result(&all(&there, 0), "nodes"), Result::Fail);
}

#[test]
fn a_node_without_room_is_not_blamed() {
    let (mut last, wanted) = good();
    last.pods.pop();
    let pressure = json!({"type": "DiskPressure", "status": "True"});
    last.nodes[0]["status"]["conditions"].as_array_mut().unwrap().push(pressure);
    let checks = all(&evidence(last, wanted), 2);
    assert_eq!(result(&checks, "surplus"), Result::Unknown, "{checks:?}");
}

#[test]
fn what_could_not_be_looked_at_is_unknown() {
    let (last, wanted) = good();
    let lacks = Evidence { lacks: Some("no busybox".into()), ..Evidence::default() };
    let short = Evidence { last: None, ..evidence(last, wanted) };
    for (evidence, checked) in [(lacks, 6), (short, 5), (Evidence::default(), 6)] {
        let unknown = all(&evidence, 2).iter().filter(|c| c.result == Result::Unknown).count();
        assert_eq!(unknown, checked);
    }
}
