//! Pods that want other pods near them, far from them, or spread: as data, and as rules that hold
//! after any number of decisions.

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_scheduler::node::NodeInfo;
use quorate_scheduler::queue::Queue;
use quorate_scheduler::{ClusterView, Decision, Profile, Seed};
use quorate_state_machine::ObjectKey;
use serde_json::{Value, json};
use support::{facts, info, merge, node_json, pod_json, verdict};
use tokio::time::Instant;

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

fn node(name: &str, zone: &str) -> Value {
    let mut labels = json!({HOST: name});
    if !zone.is_empty() {
        labels[ZONE] = json!(zone);
    }
    node_json(name, json!({"metadata": {"labels": labels}}))
}

fn labelled(name: &str, app: &str, over: Value) -> Value {
    let mut pod = pod_json(name, json!({"metadata": {"labels": {"app": app}}}));
    merge(&mut pod, over);
    pod
}

fn on(node: &str, mut pod: Value) -> Value {
    merge(&mut pod, json!({"spec": {"nodeName": node}}));
    pod
}

fn term(app: &str, key: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
}

fn required(kind: &str, terms: Value) -> Value {
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}})
}

fn near(app: &str, key: &str) -> Value {
    required("podAffinity", json!([term(app, key)]))
}

fn far(app: &str, key: &str) -> Value {
    required("podAntiAffinity", json!([term(app, key)]))
}

fn spread(key: &str, skew: u32, over: Value) -> Value {
    let mut constraint = json!({
        "topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    });
    merge(&mut constraint, over);
    json!({"spec": {"topologySpreadConstraints": [constraint]}})
}

/// Nodes `a1` and `a2` in zone a, `b1` in zone b, `c1` in none.
fn four_nodes(pods: Vec<Value>) -> ClusterView {
    let nodes = vec![node("a1", "a"), node("a2", "a"), node("b1", "b"), node("c1", "")];
    support::view(nodes, pods)
}

/// Nodes that are chosen for the pod by one of many seeds.
fn chosen(view: &ClusterView, pod: &Value) -> String {
    let profile = Profile::default();
    let pod = info(pod.clone());
    let mut names: Vec<String> = (0..64)
        .filter_map(|seed| match profile.decide(view, &pod, Seed(seed)) {
            Decision::Bind { node, .. } => Some(node.to_string()),
            Decision::Unschedulable(_) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names.join(" ")
}

#[test]
fn required_terms() {
    let db = |node: &str| on(node, labelled("db", "db", json!({})));
    for (there, pod, nodes) in [
        (db("a1"), labelled("p", "web", near("db", HOST)), "a1"),
        (db("a1"), labelled("p", "web", near("db", ZONE)), "a1 a2"),
        (db("c1"), labelled("p", "web", near("db", ZONE)), ""),
        (db("c1"), labelled("p", "web", near("db", HOST)), "c1"),
        (db("a1"), labelled("p", "web", near("cache", ZONE)), ""),
        // The first of its kind may go anywhere that has the label; the next must follow it.
        (db("a1"), labelled("p", "web", near("web", ZONE)), "a1 a2 b1"),
        (on("b1", labelled("w", "web", json!({}))), labelled("p", "web", near("web", ZONE)), "b1"),
        (db("a1"), labelled("p", "web", far("db", HOST)), "a2 b1 c1"),
        (db("a1"), labelled("p", "web", far("db", ZONE)), "b1 c1"),
        (db("a1"), labelled("p", "web", far("web", ZONE)), "a1 a2 b1 c1"),
        // A pod that runs keeps others away.
        (
            on("a1", labelled("db", "db", far("web", ZONE))),
            labelled("p", "web", json!({})),
            "b1 c1",
        ),
        (
            on("a1", labelled("db", "db", far("web", ZONE))),
            labelled("p", "other", json!({})),
            "a1 a2 b1 c1",
        ),
        // Both terms, by different pods or none.
        (
            db("a1"),
            labelled(
                "p",
                "web",
                required("podAffinity", json!([term("db", ZONE), term("cache", ZONE)])),
            ),
            "",
        ),
        // A selector that is not there selects nothing, an empty one everything.
        (
            db("a1"),
            labelled("p", "web", required("podAffinity", json!([{"topologyKey": HOST}]))),
            "",
        ),
        (
            db("a1"),
            labelled(
                "p",
                "web",
                required("podAntiAffinity", json!([{"topologyKey": HOST, "labelSelector": {}}])),
            ),
            "a2 b1 c1",
        ),
    ] {
        // The verdict may choose by score: equal nodes all come up over the seeds, others do not.
        let view = four_nodes(vec![there.clone()]);
        let decided = chosen(&view, &pod);
        let wanted: Vec<&str> = nodes.split_whitespace().collect();
        assert_eq!(decided.is_empty(), wanted.is_empty(), "{there}\n{pod}: {decided}");
        assert!(
            decided.split_whitespace().all(|node| wanted.contains(&node)),
            "{there}\n{pod}: {decided} of {nodes}"
        );
        if let Decision::Bind { feasible, .. } =
            Profile::default().decide(&view, &info(pod.clone()), Seed(1))
        {
            assert_eq!(feasible, wanted.len(), "{there}\n{pod}");
        }
    }
}

#[test]
fn namespaces_by_name_and_by_label() {
    let mut there = pod_json("db", json!({"metadata": {"labels": {"app": "db"}}}));
    merge(&mut there, json!({"spec": {"nodeName": "a1"}}));
    let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(there).unwrap();
    let key = ObjectKey::new("other", "db");
    let revision = quorate_state_machine::Revision(1);
    let mut view = four_nodes(vec![]);
    view.set_pod(std::sync::Arc::new(quorate_scheduler::pod::PodInfo::new(&pod, key, revision)));
    let with = |over: Value| {
        let mut term = term("db", HOST);
        merge(&mut term, over);
        info(labelled("p", "web", required("podAffinity", json!([term]))))
    };
    let plain = with(json!({}));
    assert!(verdict(&view, &plain).starts_with("0/4 nodes are available"), "its own namespace");
    let by_name = with(json!({"namespaces": ["other"]}));
    let by_label = with(json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}));
    let all = with(json!({"namespaceSelector": {}}));
    assert_eq!(verdict(&view, &by_name), "-> a1");
    assert_eq!(verdict(&view, &all), "-> a1");
    assert!(verdict(&view, &by_label).starts_with("0/4 nodes are available"));
    let labels = BTreeMap::from([("team".to_owned(), "x".to_owned())]);
    assert!(view.set_namespace(&"other".into(), labels).is_some());
    assert_eq!(verdict(&view, &by_label), "-> a1");
}

#[test]
fn messages() {
    let db = on("a1", labelled("db", "db", far("web", HOST)));
    let nodes = || vec![node("a1", "a")];
    let help =
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let no_help =
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let full = on("a1", labelled("w", "web", json!({})));
    for (there, pod, reason, tail) in [
        (&db, near("cache", HOST), "node(s) didn't match pod affinity rules", no_help),
        (&db, far("db", HOST), "node(s) didn't match pod anti-affinity rules", help),
        (&db, json!({}), "node(s) didn't satisfy existing pods anti-affinity rules", help),
        (
            &full,
            spread(HOST, 1, json!({"minDomains": 2})),
            "node(s) didn't match pod topology spread constraints",
            help,
        ),
        (
            &full,
            spread("rack", 1, json!({})),
            "node(s) didn't match pod topology spread constraints (missing required label)",
            no_help,
        ),
    ] {
        let view = support::view(nodes(), vec![there.clone()]);
        let verdict = verdict(&view, &info(labelled("p", "web", pod)));
        assert_eq!(verdict, format!("0/1 nodes are available: 1 {reason}. {tail}"));
    }
}

#[test]
fn hard_spreading() {
    let web = |name: &str, node: &str| on(node, labelled(name, "web", json!({})));
    let cordon = json!({"spec": {"nodeSelector": {ZONE: "a"}}});
    for (there, pod, nodes) in [
        (vec![], spread(ZONE, 1, json!({})), "a1 a2 b1"),
        (vec![web("1", "a1")], spread(ZONE, 1, json!({})), "b1"),
        (vec![web("1", "a1")], spread(ZONE, 2, json!({})), "a1 a2 b1"),
        (vec![web("1", "a1"), web("2", "b1")], spread(ZONE, 1, json!({})), "a1 a2 b1"),
        // On a node without the label nobody is counted.
        (vec![web("1", "c1")], spread(ZONE, 1, json!({})), "a1 a2 b1"),
        (vec![web("1", "a1"), web("2", "b1")], spread(HOST, 1, json!({})), "a2 c1"),
        // Two domains are there, three are wanted: the fewest count as none.
        (vec![web("1", "a1"), web("2", "b1")], spread(ZONE, 1, json!({"minDomains": 3})), ""),
        // Zone b is out of the question, so it does not count as the emptiest.
        (
            vec![web("1", "a1")],
            {
                let mut both = spread(ZONE, 1, json!({}));
                merge(&mut both, cordon.clone());
                both
            },
            "a1 a2",
        ),
        (
            vec![web("1", "a1")],
            {
                let mut both = spread(ZONE, 1, json!({"nodeAffinityPolicy": "Ignore"}));
                merge(&mut both, cordon);
                both
            },
            "",
        ),
    ] {
        let view = four_nodes(there);
        let pod = info(labelled("p", "web", pod));
        let wanted: Vec<&str> = nodes.split_whitespace().collect();
        match Profile::default().decide(&view, &pod, Seed(1)) {
            Decision::Bind { feasible, node, .. } => {
                assert_eq!(feasible, wanted.len(), "{nodes}");
                assert!(wanted.contains(&&*node), "{node} is not one of {nodes}");
            }
            Decision::Unschedulable(why) => assert_eq!(nodes, "", "{}", why.message),
        }
    }
}

/// Points of one plugin, normalised, by node.
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

#[test]
fn preferences() {
    let prefers = |kind: &str, weight: u32, app: &str, key: &str| {
        json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": weight, "podAffinityTerm": term(app, key)}]}}}})
    };
    let db = on("a1", labelled("db", "db", json!({})));
    let view = four_nodes(vec![db]);
    let company = "InterPodAffinity";
    let pod = labelled("p", "web", prefers("podAffinity", 10, "db", ZONE));
    assert_eq!(
        points(&view, company, pod),
        named(&[("a1", 100), ("a2", 100), ("b1", 0), ("c1", 0)])
    );
    let pod = labelled("p", "web", prefers("podAntiAffinity", 10, "db", HOST));
    assert_eq!(
        points(&view, company, pod),
        named(&[("a1", 0), ("a2", 100), ("b1", 100), ("c1", 100)])
    );
    assert!(points(&view, company, labelled("p", "web", json!({}))).is_empty());
    // What pods that run prefer, or require, counts as well.
    let wants = on("b1", labelled("db", "db", near("web", HOST)));
    let view = four_nodes(vec![wants]);
    assert_eq!(
        points(&view, company, labelled("p", "web", json!({}))),
        named(&[("a1", 0), ("a2", 0), ("b1", 100), ("c1", 0)])
    );
}

#[test]
fn soft_spreading() {
    let web = |name: &str, node: &str| on(node, labelled(name, "web", json!({})));
    let view = four_nodes(vec![web("1", "a1"), web("2", "a1"), web("3", "b1")]);
    let soft = |key: &str| {
        let soft = json!({"whenUnsatisfiable": "ScheduleAnyway"});
        labelled("p", "web", spread(key, 1, soft))
    };
    // ln(4 + 2) each: 2, 0, 1 and 0 pods are 4, 0, 2 and 0 points.
    assert_eq!(
        points(&view, "PodTopologySpread", soft(HOST)),
        named(&[("a1", 0), ("a2", 100), ("b1", 50), ("c1", 100)])
    );
    // Two zones, ln(2 + 2): 3 and 1 points; no zone, no points.
    assert_eq!(
        points(&view, "PodTopologySpread", soft(ZONE)),
        named(&[("a1", 33), ("a2", 33), ("b1", 100), ("c1", 0)])
    );
}

#[tokio::test(start_paused = true)]
async fn company_that_comes_wakes_those_who_wait_for_it() {
    let (profile, start) = (Profile::default(), Instant::now());
    let mut view = four_nodes(vec![]);
    let mut queue = Queue::default();
    let pod = info(labelled("p", "web", near("db", ZONE)));
    queue.put(&profile, pod.clone(), start);
    let attempt = queue.pop(start).expect("it is active");
    let Decision::Unschedulable(why) = profile.decide(&view, &attempt.pod, Seed(1)) else {
        panic!("there is no company");
    };
    queue.refused(&attempt.pod.key, why.plugins, start);
    let later = start + std::time::Duration::from_secs(60);
    let mut place = |pod: Value, assume: bool| {
        if assume {
            let mut pending = pod.clone();
            pending["spec"].as_object_mut().expect("a spec").remove("nodeName");
            let node = pod["spec"]["nodeName"].as_str().expect("a node").into();
            view.assume(info(pending), node);
        }
        let mut changes: Vec<_> = view.set_pod(info(pod)).into_iter().collect();
        queue.wake(&profile, &view, &mut changes, later)
    };
    assert_eq!(place(on("a1", labelled("x", "other", json!({}))), false), 0);
    assert_eq!(place(on("a1", labelled("db", "db", json!({}))), true), 1, "bound by ourselves");
    assert!(["-> a1", "-> a2"].contains(&&*verdict(&view, &pod)));
}

/// A pod of one of three apps that keeps away from, or is spread like, its own kind.
fn any_pod() -> impl Strategy<Value = (usize, u8, u64)> {
    (0..3_usize, 0..4_u8, any::<u64>())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Counted from nothing: no two pods of one app with anti-affinity share a host, and no zone is
    /// ever ahead of the others by more than the skew when a pod is put there.
    #[test]
    fn rules_hold_after_any_decisions(pods in proptest::collection::vec(any_pod(), 1..24)) {
        let mut view = support::view(
            vec![node("a1", "a"), node("a2", "a"), node("b1", "b"), node("b2", "b")],
            vec![],
        );
        let mut placed: Vec<(usize, u8, String)> = Vec::new();
        for (number, (app, kind, seed)) in pods.into_iter().enumerate() {
            let app_name = ["x", "y", "z"][app];
            let over = match kind {
                0 => far(app_name, HOST),
                1 => {
                    let mut over = spread(ZONE, 1, json!({}));
                    let selector = json!({"matchLabels": {"app": app_name}});
                    over["spec"]["topologySpreadConstraints"][0]["labelSelector"] = selector;
                    over
                }
                2 => near(app_name, ZONE),
                _ => json!({}),
            };
            let pod = info(labelled(&format!("p{number}"), app_name, over));
            let zone = |node: &str| node[..1].to_owned();
            let count = |zone_name: &str| {
                placed.iter().filter(|(a, _, node)| *a == app && zone(node) == zone_name).count()
            };
            let Decision::Bind { node, .. } = Profile::default().decide(&view, &pod, Seed(seed))
            else {
                continue;
            };
            for (other, other_kind, other_node) in &placed {
                let same_host = *other == app && *other_node == *node;
                prop_assert!(!(same_host && (kind == 0 || *other_kind == 0)), "{} on {}", number, node);
            }
            if kind == 1 {
                let here = count(&zone(&node)) + 1;
                prop_assert!(here <= count("a").min(count("b")) + 1, "{} on {}", number, node);
            }
            if kind == 2 && placed.iter().any(|(other, _, _)| *other == app) {
                prop_assert!(count(&zone(&node)) > 0, "{} on {} is alone", number, node);
            }
            view.assume(pod, node.clone());
            placed.push((app, kind, node.to_string()));
        }
    }
}

#[test]
fn a_view_remembers_company_of_a_node_that_goes_and_comes() {
    let db = on("a1", labelled("db", "db", far("web", HOST)));
    let mut view = four_nodes(vec![db]);
    view.remove_node("a1");
    view.arrange();
    view.set_node(facts(node("a1", "a")));
    view.arrange();
    let web = info(labelled("p", "web", json!({"spec": {"nodeSelector": {HOST: "a1"}}})));
    assert!(verdict(&view, &web).contains("existing pods anti-affinity rules"));
}
