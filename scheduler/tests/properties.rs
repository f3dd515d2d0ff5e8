//! What holds for any cluster: checked against naive code that shares nothing with the scheduler's.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use quorate_scheduler::pod::PodInfo;
use quorate_scheduler::{ClusterView, Decision, Profile, Seed};
use quorate_state_machine::ObjectKey;
use serde_json::{Value, json};
use support::{facts, info, merge, node_json, pod_json};

const NODES: u32 = 4;
const PODS: u32 = 12;

/// One random change of the world.
#[derive(Debug, Clone)]
enum Step {
    Node {
        node: u32,
        cpu: u32,
        pods: u32,
        zone: u32,
        tainted: bool,
        cordoned: bool,
    },
    NoNode(u32),
    Pod {
        pod: u32,
        node: Option<u32>,
        cpu: u32,
        port: Option<u32>,
        finished: bool,
    },
    NoPod(u32),
    /// Decides a pod that runs nowhere, and assumes what was decided.
    Decide {
        pod: u32,
        cpu: u32,
        port: Option<u32>,
        zone: Option<u32>,
        tolerates: bool,
        seed: u64,
    },
    Forget(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let port = || proptest::option::of(80..83_u32);
    prop_oneof![
        3 => (0..NODES, 1..9_u32, 0..5_u32, 0..3_u32, any::<bool>(), proptest::bool::weighted(0.2))
            .prop_map(|(node, cpu, pods, zone, tainted, cordoned)| {
                Step::Node { node, cpu, pods, zone, tainted, cordoned }
            }),
        1 => (0..NODES).prop_map(Step::NoNode),
        3 => (0..PODS, proptest::option::of(0..NODES), 0..4_u32, port(), any::<bool>())
            .prop_map(|(pod, node, cpu, port, finished)| {
                Step::Pod { pod, node, cpu, port, finished }
            }),
        1 => (0..PODS).prop_map(Step::NoPod),
        6 => (
            0..PODS, 0..4_u32, port(), proptest::option::of(0..3_u32), any::<bool>(), any::<u64>()
        )
            .prop_map(|(pod, cpu, port, zone, tolerates, seed)| {
                Step::Decide { pod, cpu, port, zone, tolerates, seed }
            }),
        1 => (0..PODS).prop_map(Step::Forget),
    ]
}

fn pod(number: u32, cpu: u32, port: Option<u32>) -> Value {
    let ports: Vec<Value> =
        port.iter().map(|port| json!({"containerPort": 1, "hostPort": port})).collect();
    pod_json(
        &format!("p{number}"),
        json!({"spec": {"containers": [{
            "name": "c", "ports": ports, "resources": {"requests": {"cpu": cpu.to_string()}},
        }]}}),
    )
}

/// The world as plain JSON: what an incremental view must equal when made anew.
#[derive(Debug, Default)]
struct Model {
    nodes: BTreeMap<String, Value>,
    /// Pods that hold resources, with whether they are only assumed.
    pods: BTreeMap<String, (Value, bool)>,
}

impl Model {
    fn rebuilt(&self) -> ClusterView {
        let mut view = ClusterView::default();
        for node in self.nodes.values() {
            view.set_node(facts(node.clone()));
        }
        view.arrange();
        for (pod, assumed) in self.pods.values() {
            let node = pod["spec"]["nodeName"].as_str().expect("it is placed").to_owned();
            if *assumed {
                let mut pod = pod.clone();
                pod["spec"].as_object_mut().expect("a spec").remove("nodeName");
                view.assume(info(pod), node.as_str().into());
            } else {
                view.set_pod(info(pod.clone()));
            }
        }
        view
    }

    fn on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Value> {
        let pods = self.pods.values().map(|(pod, _)| pod);
        pods.filter(move |pod| pod["spec"]["nodeName"] == node)
    }

    /// Whether Kubernetes' rules let the pod run on the node, the long way.
    fn fits(&self, pod: &Value, name: &str) -> bool {
        let node = &self.nodes[name];
        let cpu = |pod: &Value| -> u64 {
            let asked = &pod["spec"]["containers"][0]["resources"]["requests"]["cpu"];
            asked.as_str().map_or(0, |cpu| cpu.parse().expect("whole cores"))
        };
        let number = |what: &str| -> u64 {
            node["status"]["allocatable"][what].as_str().expect("text").parse().expect("whole")
        };
        let port = |pod: &Value| pod["spec"]["containers"][0]["ports"][0]["hostPort"].as_u64();
        let used: u64 = self.on(name).map(cpu).sum();
        let count = self.on(name).count() as u64;
        let zone = &pod["spec"]["nodeSelector"]["zone"];
        let tolerates = pod["spec"]["tolerations"].is_array();
        (cpu(pod) == 0 || used + cpu(pod) <= number("cpu"))
            && count < number("pods")
            && (port(pod).is_none() || self.on(name).all(|other| port(other) != port(pod)))
            && (zone.is_null() || *zone == node["metadata"]["labels"]["zone"])
            && (tolerates || node["spec"]["taints"][0].is_null())
            // Who tolerates everything tolerates the taint of a cordoned node too.
            && (tolerates || node["spec"]["unschedulable"] != true)
    }
}

/// Both worlds side by side.
#[derive(Default)]
struct Worlds {
    model: Model,
    view: ClusterView,
    profile: Profile,
}

impl Worlds {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Node { node, cpu, pods, zone, tainted, cordoned } => {
                let name = format!("n{node}");
                let taints =
                    if tainted { json!([{"key": "k", "effect": "NoSchedule"}]) } else { json!([]) };
                let zone = zone.to_string();
                let labels = json!({"zone": zone, "topology.kubernetes.io/zone": zone});
                let image = json!({"names": [format!("image-{zone}:1")], "sizeBytes": 100});
                let node = node_json(
                    &name,
                    json!({
                        "metadata": {"labels": labels},
                        "spec": {"taints": taints, "unschedulable": cordoned},
                        "status": {
                            "allocatable": {"cpu": cpu.to_string(), "pods": pods.to_string()},
                            "images": [image],
                        },
                    }),
                );
                self.view.set_node(facts(node.clone()));
                self.view.arrange();
                self.model.nodes.insert(name, node);
            }
            Step::NoNode(node) => {
                self.view.remove_node(&format!("n{node}"));
                self.view.arrange();
                self.model.nodes.remove(&format!("n{node}"));
            }
            Step::Pod { pod: number, node, cpu, port, finished } => {
                let mut pod = pod(number, cpu, port);
                if let Some(node) = node {
                    merge(&mut pod, json!({"spec": {"nodeName": format!("n{node}")}}));
                }
                let phase = if finished { "Succeeded" } else { "Running" };
                merge(&mut pod, json!({"status": {"phase": phase}}));
                self.view.set_pod(info(pod.clone()));
                self.model.pods.remove(&format!("p{number}"));
                if node.is_some() && !finished {
                    self.model.pods.insert(format!("p{number}"), (pod, false));
                }
            }
            Step::NoPod(number) => {
                self.view.remove_pod(&key(number));
                self.model.pods.remove(&format!("p{number}"));
            }
            Step::Forget(number) => {
                self.view.forget(&key(number));
                let name = format!("p{number}");
                if self.model.pods.get(&name).is_some_and(|(_, assumed)| *assumed) {
                    self.model.pods.remove(&name);
                }
            }
            Step::Decide { pod: number, cpu, port, zone, tolerates, seed } => {
                let name = format!("p{number}");
                if self.model.pods.contains_key(&name) {
                    return;
                }
                let mut json = pod(number, cpu, port);
                if let Some(zone) = zone {
                    merge(&mut json, json!({"spec": {"nodeSelector": {"zone": zone.to_string()}}}));
                }
                if tolerates {
                    merge(&mut json, json!({"spec": {"tolerations": [{"operator": "Exists"}]}}));
                }
                if let Some(node) = self.decide(&json, seed) {
                    merge(&mut json, json!({"spec": {"nodeName": node}}));
                    self.model.pods.insert(name, (json, true));
                }
            }
        }
    }

    /// Decides, compares with the naive checker, assumes.
    fn decide(&mut self, pod: &Value, seed: u64) -> Option<String> {
        let compiled: Arc<PodInfo> = info(pod.clone());
        let decision = self.profile.decide(&self.view, &compiled, Seed(seed));
        let again = self.profile.decide(&self.view.clone(), &compiled, Seed(seed));
        assert_eq!(decision, again, "the same view, pod and seed");
        let rebuilt = self.profile.decide(&self.model.rebuilt(), &compiled, Seed(seed));
        assert_eq!(decision, rebuilt, "a view that came about in another way");
        let fitting: Vec<&String> =
            self.model.nodes.keys().filter(|name| self.model.fits(pod, name)).collect();
        match decision {
            Decision::Bind { node, feasible, .. } => {
                assert!(fitting.iter().any(|name| **name == *node), "{node} for {pod}");
                assert_eq!(feasible, fitting.len());
                self.view.assume(compiled, node.clone());
                Some(node.to_string())
            }
            Decision::Unschedulable(why) => {
                assert!(fitting.is_empty(), "{fitting:?} for {pod}: {}", why.message);
                None
            }
        }
    }
}

fn key(number: u32) -> ObjectKey {
    ObjectKey::new("default", &format!("p{number}"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A bound pod fits, a refused one fits nowhere, and a view that was changed step by step equals
    /// one that was made at once.
    #[test]
    fn decisions_are_right_and_views_are_what_they_say(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut worlds = Worlds::default();
        for step in &steps {
            worlds.take(step);
            prop_assert_eq!(&worlds.view, &worlds.model.rebuilt(), "after {:?}", step);
        }
    }
}
