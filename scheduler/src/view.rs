//! The cluster as decisions see it: nodes with what runs on them, assumed pods included.
//!
//! A value: a clone costs a few reference counts, a change costs what changed. It is written by
//! `follow` (what the store says) and by decisions ([`ClusterView::assume`]), nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};
use quorate_state_machine::ObjectKey;

use crate::node::{NodeDelta, NodeFacts, NodeInfo};
use crate::pod::PodInfo;

/// Something that could make a pod fit that did not fit before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A node is new, or has changed.
    Node {
        /// Which node.
        name: Arc<str>,
        /// What of it.
        delta: NodeDelta,
    },
    /// A pod left a node, or takes less of it.
    Freed {
        /// Which node.
        node: Arc<str>,
    },
    /// A pod came to a node: only helps pods that want its company.
    Placed {
        /// Which node.
        node: Arc<str>,
    },
    /// The labels of a namespace are different: terms about other pods may mean others now.
    Namespace {
        /// Which namespace.
        name: Arc<str>,
    },
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    nodes: Vector<Arc<NodeInfo>>,
    slots: OrdMap<Arc<str>, usize>,
    /// Slots in the order of the search: region by region and zone by zone in turn.
    order: Arc<Vec<usize>>,
    pods: OrdMap<ObjectKey, Placement>,
    /// Those of the pods that have terms about other pods.
    with_company: OrdSet<ObjectKey>,
    /// Labels of the namespaces that have some.
    namespaces: OrdMap<Arc<str>, BTreeMap<String, String>>,
    /// Pods on nodes that are not (yet, or no more) there.
    homeless: OrdMap<Arc<str>, OrdMap<ObjectKey, Arc<PodInfo>>>,
    /// On how many nodes each image is.
    images: OrdMap<String, usize>,
}

#[derive(Debug, Clone, PartialEq)]
struct Placement {
    node: Arc<str>,
    pod: Arc<PodInfo>,
    assumed: bool,
}

impl ClusterView {
    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// One node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(*self.slots.get(name)?)
    }

    /// All nodes in the order of the search, beginning `offset` places in.
    pub fn search(&self, offset: usize) -> impl Iterator<Item = &Arc<NodeInfo>> {
        let (before, after) = self.order.split_at(offset.min(self.order.len()));
        after.iter().chain(before).filter_map(|slot| self.nodes.get(*slot))
    }

    /// On how many nodes an image is.
    #[must_use]
    pub fn image_nodes(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// Where a pod is, or is assumed to be.
    #[must_use]
    pub fn place(&self, pod: &ObjectKey) -> Option<&Arc<str>> {
        self.pods.get(pod).map(|placement| &placement.node)
    }

    /// All pods that hold resources, with their nodes.
    pub fn placed(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<PodInfo>)> {
        self.pods.values().map(|placement| (&placement.node, &placement.pod))
    }

    /// Pods with terms about other pods, with their nodes as far as these are there.
    pub fn pods_with_company(&self) -> impl Iterator<Item = (&NodeInfo, &PodInfo)> {
        self.with_company.iter().filter_map(|key| {
            let placement = self.pods.get(key)?;
            Some((&**self.node(&placement.node)?, &*placement.pod))
        })
    }

    // === namespaces ===

    /// The labels of a namespace.
    #[must_use]
    pub fn labels_of(&self, namespace: &str) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.namespaces.get(namespace).unwrap_or(&NONE)
    }

    /// Takes over the labels of a namespace; tells whether that could help a pod.
    pub fn set_namespace(
        &mut self,
        name: &Arc<str>,
        labels: BTreeMap<String, String>,
    ) -> Option<Change> {
        if *self.labels_of(name) == labels {
            return None;
        }
        if labels.is_empty() {
            self.namespaces.remove(name);
        } else {
            self.namespaces.insert(name.clone(), labels);
        }
        Some(Change::Namespace { name: name.clone() })
    }

    // === nodes ===

    /// Takes over a node's facts; tells what could help a pod. [`ClusterView::arrange`] must follow
    /// before the next search.
    pub fn set_node(&mut self, facts: impl Into<Arc<NodeFacts>>) -> Option<Change> {
        let facts = facts.into();
        let name = facts.name.clone();
        self.count_images(&facts.images, true);
        let Some(slot) = self.slots.get(&name).copied() else {
            let mut info = NodeInfo::new(facts);
            for pod in self.homeless.remove(&name).unwrap_or_default().values() {
                info.add(pod.clone());
            }
            self.slots.insert(name.clone(), self.nodes.len());
            self.nodes.push_back(Arc::new(info));
            return Some(Change::Node { name, delta: NodeDelta::NEW });
        };
        let before = self.nodes.get(slot)?.facts.clone();
        self.count_images(&before.images, false);
        let delta = facts.delta(&before);
        if *before != *facts {
            Arc::make_mut(self.nodes.get_mut(slot)?).facts = facts;
        }
        (!delta.is_empty()).then_some(Change::Node { name, delta })
    }

    /// Forgets a node; what the store says to run there is remembered for when it comes back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.slots.remove(name) else {
            return;
        };
        let Some(last) = self.nodes.pop_back() else {
            return;
        };
        // The last node takes the slot that became free.
        let info = if slot < self.nodes.len() {
            self.slots.insert(last.name().clone(), slot);
            self.nodes.set(slot, last)
        } else {
            last
        };
        self.count_images(&info.facts.images, false);
        if !info.pods.is_empty() {
            self.homeless.insert(info.name().clone(), info.pods.clone());
        }
    }

    /// Puts the nodes in the order of the search: one of each zone in turn, as kube-scheduler's node
    /// tree does, so that a search that stops early has looked at every zone.
    pub fn arrange(&mut self) {
        let mut zones: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for slot in self.slots.values() {
            if let Some(node) = self.nodes.get(*slot) {
                let (region, zone) = node.facts.zone();
                zones.entry((region.to_owned(), zone.to_owned())).or_default().push(*slot);
            }
        }
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        let turns = (0..longest)
            .flat_map(|turn| zones.values().filter_map(move |slots| slots.get(turn).copied()));
        self.order = Arc::new(turns.collect());
    }

    fn count_images(&mut self, images: &BTreeMap<String, i64>, up: bool) {
        for image in images.keys() {
            let count = self.image_nodes(image);
            match if up { count + 1 } else { count.saturating_sub(1) } {
                0 => self.images.remove(image),
                count => self.images.insert(image.clone(), count),
            };
        }
    }

    // === pods ===

    /// Takes over what the store says of a pod; an assumption about it ends. Tells what could help
    /// another pod.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) -> Option<Change> {
        let Some(node) = pod.occupies().cloned() else {
            return self.remove_pod(&pod.key);
        };
        let before = self.detach(&pod.key);
        self.attach(node.clone(), pod.clone(), false);
        match before {
            Some(before) if before.node == node => {
                // Other labels, or its end coming, matter to those who keep away from it or count it.
                let freed = pod.requests.exact.less_somewhere(&before.pod.requests.exact)
                    || pod.ports != before.pod.ports
                    || pod.labels != before.pod.labels
                    || pod.deleting != before.pod.deleting;
                // That an assumption came true is news to those who want the pod's company.
                let placed = before.assumed.then(|| Change::Placed { node: node.clone() });
                if freed { Some(Change::Freed { node }) } else { placed }
            }
            Some(before) => Some(Change::Freed { node: before.node }),
            None => Some(Change::Placed { node }),
        }
    }

    /// Forgets a pod; tells where room came from it.
    pub fn remove_pod(&mut self, key: &ObjectKey) -> Option<Change> {
        let before = self.detach(key)?;
        Some(Change::Freed { node: before.node })
    }

    /// Counts a pod on a node from now on, before the store has said so.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: Arc<str>) {
        self.detach(&pod.key);
        self.attach(node, pod, true);
    }

    /// Ends an assumption that did not come true. What the store has said of the pod stays.
    pub fn forget(&mut self, key: &ObjectKey) -> Option<Change> {
        if self.pods.get(key)?.assumed { self.remove_pod(key) } else { None }
    }

    fn attach(&mut self, node: Arc<str>, pod: Arc<PodInfo>, assumed: bool) {
        let slot = self.slots.get(&node).copied();
        if let Some(info) = slot.and_then(|slot| self.nodes.get_mut(slot)) {
            Arc::make_mut(info).add(pod.clone());
        } else {
            let pods = self.homeless.entry(node.clone()).or_default();
            pods.insert(pod.key.clone(), pod.clone());
        }
        if pod.company.is_some() {
            self.with_company.insert(pod.key.clone());
        }
        self.pods.insert(pod.key.clone(), Placement { node, pod, assumed });
    }

    fn detach(&mut self, key: &ObjectKey) -> Option<Placement> {
        let placement = self.pods.remove(key)?;
        if placement.pod.company.is_some() {
            self.with_company.remove(key);
        }
        let slot = self.slots.get(&placement.node).copied();
        if let Some(info) = slot.and_then(|slot| self.nodes.get_mut(slot)) {
            Arc::make_mut(info).remove(key);
        } else if let Some(pods) = self.homeless.get_mut(&placement.node) {
            pods.remove(key);
            if pods.is_empty() {
                self.homeless.remove(&placement.node);
            }
        }
        Some(placement)
    }
}

impl PartialEq for ClusterView {
    /// Equal in what they say, whatever happened before (slots may differ).
    fn eq(&self, other: &Self) -> bool {
        let by_name = |view: &Self| -> Vec<Option<Arc<NodeInfo>>> {
            view.slots.values().map(|slot| view.nodes.get(*slot).cloned()).collect()
        };
        by_name(self) == by_name(other)
            && self.pods == other.pods
            && self.with_company == other.with_company
            && self.namespaces == other.namespaces
            && self.homeless == other.homeless
            && self.images == other.images
            && self.search(0).map(|n| n.name()).eq(other.search(0).map(|n| n.name()))
    }
}
