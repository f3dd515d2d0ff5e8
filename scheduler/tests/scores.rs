//! Each score as data: one pod, some nodes, the points that each plugin gives them.

mod support;

use std::collections::BTreeMap;

use quorate_scheduler::node::NodeInfo;
use quorate_scheduler::{ClusterView, Decision, Profile, Seed};
use serde_json::{Value, json};
use support::{asks, info, merge, node_json, pod_json, view};

/// Points of one plugin, normalised, by node; empty when it has no opinion.
fn points(view: &ClusterView, plugin: &str, pod: Value) -> Vec<(String, i64)> {
    let profile = Profile::default();
    let plugin = profile.plugin(plugin).expect("a plugin");
    let pod = info(pod);
    let mut nodes: Vec<&NodeInfo> = view.search(0).map(AsRef::as_ref).collect();
    nodes.sort_by_key(|node| node.name().clone());
    let Some(score) = plugin.pre_score(view, &pod, &nodes) else {
        return Vec::new();
    };
    let mut scores: Vec<i64> = nodes.iter().map(|node| score.score(node)).collect();
    score.normalize(&mut scores);
    nodes.iter().map(|node| node.name().to_string()).zip(scores).collect()
}

fn named(points: &[(&str, i64)]) -> Vec<(String, i64)> {
    points.iter().map(|(name, score)| ((*name).to_owned(), *score)).collect()
}

fn bound(name: &str, node: &str, over: Value) -> Value {
    let mut pod = pod_json(name, over);
    merge(&mut pod, json!({"spec": {"nodeName": node}}));
    pod
}

#[test]
fn least_allocated() {
    // a: (4-1-1)/4 = 50 % cpu, (8-2-2)/8 = 50 % memory. b: empty but for the pod: 75 and 75.
    let nodes = vec![node_json("a", json!({})), node_json("b", json!({}))];
    let view = view(nodes, vec![bound("old", "a", asks("1", "2Gi"))]);
    let fit = "NodeResourcesFit";
    assert_eq!(points(&view, fit, pod_json("p", asks("1", "2Gi"))), named(&[("a", 50), ("b", 75)]));
    // A container that asks for nothing counts with 100m and 200Mi.
    // a: cpu (4000-1000-100)*100/4000 = 72, memory (8192-2048-200)*100/8192 = 72 (truncated).
    // b: cpu 97, memory 97.
    assert_eq!(points(&view, fit, pod_json("p", json!({}))), named(&[("a", 72), ("b", 97)]));
}

#[test]
fn balanced() {
    // a would use 50 % cpu and 25 % memory: (1 - 0.125) * 100 = 87. b: 25 % and 12.5 %: 93.
    let nodes = vec![node_json("a", json!({})), node_json("b", json!({}))];
    let view = view(nodes, vec![bound("old", "a", asks("1", "1Gi"))]);
    let balanced = "NodeResourcesBalancedAllocation";
    let pod = pod_json("p", asks("1", "1Gi"));
    assert_eq!(points(&view, balanced, pod), named(&[("a", 87), ("b", 93)]));
    assert_eq!(points(&view, balanced, pod_json("p", json!({}))), vec![]);
}

#[test]
fn preferred_affinity() {
    let labelled = |zone: &str| json!({"metadata": {"labels": {"zone": zone}}});
    let view = view(
        vec![
            node_json("a", labelled("a")),
            node_json("b", labelled("b")),
            node_json("c", json!({})),
        ],
        vec![],
    );
    let term = |weight: i64, operator: &str, values: Value| {
        json!({"weight": weight, "preference": {"matchExpressions": [
            {"key": "zone", "operator": operator, "values": values}]}})
    };
    let pod = pod_json(
        "p",
        json!({"spec": {"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            term(30, "In", json!(["a"])),
            term(10, "Exists", json!([])),
        ]}}}}),
    );
    assert_eq!(points(&view, "NodeAffinity", pod), named(&[("a", 100), ("b", 25), ("c", 0)]));
    assert_eq!(points(&view, "NodeAffinity", pod_json("p", json!({}))), vec![]);
}

#[test]
fn preferred_taints() {
    let tainted = |keys: &[&str]| {
        let taints: Vec<Value> =
            keys.iter().map(|key| json!({"key": key, "effect": "PreferNoSchedule"})).collect();
        json!({"spec": {"taints": taints}})
    };
    let view = view(
        vec![
            node_json("a", json!({})),
            node_json("b", tainted(&["x"])),
            node_json("c", tainted(&["x", "y"])),
        ],
        vec![],
    );
    let taints = "TaintToleration";
    let pod = pod_json("p", json!({}));
    assert_eq!(points(&view, taints, pod), named(&[("a", 100), ("b", 50), ("c", 0)]));
    let tolerant = pod_json("p", json!({"spec": {"tolerations": [{"operator": "Exists"}]}}));
    assert_eq!(points(&view, taints, tolerant), named(&[("a", 100), ("b", 100), ("c", 100)]));
}

#[test]
fn images() {
    let has = |name: &str, mib: i64| json!({"status": {"images": [{"names": [name], "sizeBytes": mib * 1024 * 1024}]}});
    let view = view(
        vec![
            node_json("a", has("example.com:5000/app:latest", 1000)),
            node_json("b", has("other:1", 1000)),
        ],
        vec![],
    );
    let pod = |image: &str| {
        pod_json("p", json!({"spec": {"containers": [{"name": "c", "image": image}]}}))
    };
    // On half of the nodes: 500 MiB count. (500 - 23) * 100 / (1000 - 23) = 48.
    let points_of = |image: &str| points(&view, "ImageLocality", pod(image));
    assert_eq!(points_of("example.com:5000/app"), named(&[("a", 48), ("b", 0)]));
    assert_eq!(points_of("nowhere"), vec![]);
}

#[test]
fn equals_are_chosen_fairly_and_repeatably() {
    let nodes = (0..5).map(|i| node_json(&format!("n{i}"), json!({}))).collect();
    let view = view(nodes, vec![]);
    let profile = Profile::default();
    let pod = info(pod_json("p", asks("1", "1Gi")));
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..5000 {
        let decision = profile.decide(&view, &pod, Seed(seed));
        assert_eq!(decision, profile.decide(&view, &pod, Seed(seed)));
        let Decision::Bind { node, .. } = decision else { panic!("{decision:?}") };
        *counts.entry(node.to_string()).or_default() += 1;
    }
    // 1000 each; six standard deviations (28 each) are 170.
    assert!(counts.len() == 5 && counts.values().all(|n| (830..=1170).contains(n)), "{counts:?}");
}

#[test]
fn a_big_cluster_is_sampled() {
    let mut profile = Profile::default();
    for (nodes, enough) in
        [(0, 0), (50, 50), (99, 99), (100, 100), (200, 100), (500, 230), (5000, 500), (6000, 300)]
    {
        assert_eq!(profile.enough(nodes), enough, "{nodes} nodes");
    }
    profile.percentage_of_nodes_to_score = Some(100);
    assert_eq!(profile.enough(5000), 5000);
    profile.percentage_of_nodes_to_score = Some(10);
    assert_eq!((profile.enough(5000), profile.enough(500)), (500, 100));
}

#[test]
fn the_search_takes_zones_in_turn() {
    let zone = |zone: &str| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
    let nodes = vec![
        node_json("a1", zone("a")),
        node_json("a2", zone("a")),
        node_json("a3", zone("a")),
        node_json("b1", zone("b")),
    ];
    let view = view(nodes, vec![]);
    let order = |offset: usize| -> Vec<String> {
        view.search(offset).map(|node| node.name().to_string()).collect()
    };
    assert_eq!(order(0), ["a1", "b1", "a2", "a3"]);
    assert_eq!(order(3), ["a3", "a1", "b1", "a2"]);
}
