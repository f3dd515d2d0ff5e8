//! Nodes as the scheduler sees them: facts from the `Node` object, and what runs there.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use k8s_openapi::api::core::v1::Node;
use quorate_state_machine::ObjectKey;
use serde::{Deserialize, Deserializer};

use crate::pod::{HostPort, PodInfo};
use crate::resources::{self, Resources};

/// A taint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value, "" when there is none.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// What the `Node` object says, as far as scheduling needs it. Two versions of a node that compare
/// equal are the same to the scheduler (a heartbeat wakes nobody).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.taints`.
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// `status.allocatable` without `pods`.
    pub allocatable: Resources,
    /// `status.allocatable.pods`.
    pub pods_max: i64,
    /// Bytes of each image on the node, by each of its names.
    pub images: BTreeMap<String, i64>,
}

impl NodeFacts {
    /// The facts of a node.
    #[must_use]
    pub fn new(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        // A node that tells no allocatable has its capacity (the API server defaults it so).
        let has =
            status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        let taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
        let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
        Self {
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: taints
                .map(|taint| Taint {
                    key: taint.key.clone(),
                    value: taint.value.clone().unwrap_or_default(),
                    effect: taint.effect.clone(),
                })
                .collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable: has.map(Resources::from_list).unwrap_or_default(),
            pods_max: has.and_then(|has| has.get("pods")).map_or(0, resources::whole),
            images: images
                .flat_map(|image| {
                    let size = image.size_bytes.unwrap_or(0);
                    image.names.iter().flatten().map(move |name| (name.clone(), size))
                })
                .collect(),
        }
    }

    /// Region and zone, for spreading the search over them.
    #[must_use]
    pub fn zone(&self) -> (&str, &str) {
        let label = |key| self.labels.get(key).map_or("", String::as_str);
        (label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
    }

    /// What is different from an older version, as far as it could make a pod fit.
    #[must_use]
    pub fn delta(&self, before: &Self) -> NodeDelta {
        NodeDelta {
            allocatable: before.allocatable.less_somewhere(&self.allocatable)
                || before.pods_max < self.pods_max,
            labels: self.labels != before.labels,
            taints: self.taints != before.taints || self.unschedulable != before.unschedulable,
        }
    }
}

impl<'de> Deserialize<'de> for NodeFacts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Node::deserialize(from).map(|node| Self::new(&node))
    }
}

/// What changed of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeDelta {
    /// It has more of some resource.
    pub allocatable: bool,
    /// Labels are different.
    pub labels: bool,
    /// Taints or `unschedulable` are different.
    pub taints: bool,
}

impl NodeDelta {
    /// A node that was not there before.
    pub const NEW: Self = Self { allocatable: true, labels: true, taints: true };

    /// Whether nothing of interest changed.
    #[must_use]
    pub fn is_empty(self) -> bool {
        !self.allocatable && !self.labels && !self.taints
    }
}

/// A node with what runs on it, assumed pods included.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeInfo {
    /// What the object says.
    pub facts: Arc<NodeFacts>,
    /// The pods by name.
    pub pods: OrdMap<ObjectKey, Arc<PodInfo>>,
    /// Sum of the pods' exact requests.
    pub requested: Resources,
    /// Sum of the pods' CPU for scores.
    pub nonzero_cpu_milli: i64,
    /// Sum of the pods' memory for scores.
    pub nonzero_memory: i64,
    /// Host ports in use, with the number of pods that use each.
    pub ports: BTreeMap<HostPort, u32>,
}

impl NodeInfo {
    /// A node that runs nothing.
    #[must_use]
    pub fn new(facts: Arc<NodeFacts>) -> Self {
        Self {
            facts,
            pods: OrdMap::new(),
            requested: Resources::default(),
            nonzero_cpu_milli: 0,
            nonzero_memory: 0,
            ports: BTreeMap::new(),
        }
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.facts.name
    }

    /// Puts a pod on the node. A pod of the same name is replaced.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        if let Some(before) = self.pods.insert(pod.key.clone(), pod.clone()) {
            self.release(&before);
        }
        self.requested.add(&pod.requests.exact);
        self.nonzero_cpu_milli += pod.requests.nonzero_cpu_milli;
        self.nonzero_memory += pod.requests.nonzero_memory;
        for port in &pod.ports {
            *self.ports.entry(port.clone()).or_insert(0) += 1;
        }
    }

    /// Takes a pod off the node.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.release(&pod);
        Some(pod)
    }

    fn release(&mut self, pod: &PodInfo) {
        self.requested.subtract(&pod.requests.exact);
        self.nonzero_cpu_milli -= pod.requests.nonzero_cpu_milli;
        self.nonzero_memory -= pod.requests.nonzero_memory;
        for port in &pod.ports {
            if let Some(count) = self.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(port);
                }
            }
        }
    }
}
