//! `NodeResourcesFit`: what a pod asks for must be free; emptier nodes are better.

use crate::framework::{
    Filter, Plugin, PreFilter, Reason, Rejection, SCORE_MAX, Score, changed_node,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug)]
pub struct NodeResourcesFit;

const NAME: &str = "NodeResourcesFit";

struct Fit<'a>(&'a PodInfo);

#[derive(Default)]
struct Found {
    reasons: Vec<Reason>,
    unresolvable: bool,
}

impl Found {
    /// One resource: refused when asked for and not free.
    fn need(&mut self, asked: i64, used: i64, has: i64, reason: impl FnOnce() -> Reason) {
        if asked > 0 && asked > has.saturating_sub(used) {
            self.reasons.push(reason());
            // No eviction makes a node larger.
            self.unresolvable |= asked > has;
        }
    }
}

impl Filter for Fit<'_> {
    fn check(&self, node: &NodeInfo) -> Option<Rejection> {
        let mut found = Found::default();
        let (asked, used) = (&self.0.requests.exact, &node.requested);
        let has = &node.facts.allocatable;
        let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
        if pods.saturating_add(1) > node.facts.pods_max {
            found.reasons.push("Too many pods".into());
        }
        found.need(asked.cpu_milli, used.cpu_milli, has.cpu_milli, || "Insufficient cpu".into());
        found.need(asked.memory, used.memory, has.memory, || "Insufficient memory".into());
        let storage = || "Insufficient ephemeral-storage".into();
        let used_storage = used.ephemeral_storage;
        found.need(asked.ephemeral_storage, used_storage, has.ephemeral_storage, storage);
        for (name, amount) in &asked.scalar {
            let reason = || format!("Insufficient {name}").into();
            found.need(*amount, used.get(name), has.get(name), reason);
        }
        if found.reasons.is_empty() {
            return None;
        }
        let Found { reasons, unresolvable } = found;
        Some(Rejection { plugin: NAME, resolvable: !unresolvable, reasons })
    }
}

/// The `LeastAllocated` strategy on cpu and memory, each counting the same; a container that asks
/// for nothing counts as if it asked for a little.
impl Score for Fit<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let (pod, has) = (&self.0.requests, &node.facts.allocatable);
        let cpu = (node.nonzero_cpu_milli + pod.nonzero_cpu_milli, has.cpu_milli);
        let memory = (node.nonzero_memory + pod.nonzero_memory, has.memory);
        let (mut sum, mut count) = (0, 0);
        for (used, has) in [cpu, memory] {
            if has == 0 {
                continue;
            }
            count += 1;
            if used <= has {
                let free = i128::from(has - used) * i128::from(SCORE_MAX) / i128::from(has);
                sum += i64::try_from(free).unwrap_or(SCORE_MAX);
            }
        }
        if count == 0 { 0 } else { sum / count }
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        1
    }

    fn pre_filter<'a>(&'a self, _view: &'a ClusterView, pod: &'a PodInfo) -> PreFilter<'a> {
        PreFilter::Check(Box::new(Fit(pod)))
    }

    fn pre_score<'a>(
        &'a self,
        _view: &'a ClusterView,
        pod: &'a PodInfo,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Fit(pod)))
    }

    fn could_help(&self, view: &ClusterView, pod: &PodInfo, change: &Change) -> bool {
        let more = match change {
            Change::Node { delta, .. } => delta.allocatable,
            Change::Freed { .. } => true,
            Change::Placed { .. } | Change::Namespace { .. } => false,
        };
        more && changed_node(view, change).is_some_and(|node| Fit(pod).check(node).is_none())
    }
}
