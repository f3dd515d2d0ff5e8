//! `NodeAffinity`: `nodeSelector`, required and preferred node affinity.

use crate::framework::{
    Filter, Plugin, PreFilter, Rejection, Score, changed_node, normalize_by_max,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::selector::has_labels;
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug)]
pub struct NodeAffinity;

const NAME: &str = "NodeAffinity";

struct Required<'a>(&'a PodInfo);

/// Whether the pod's `nodeSelector` and required node affinity let it run on the node.
pub(super) fn accepts(pod: &PodInfo, node: &NodeInfo) -> bool {
    has_labels(&pod.node_selector, &node.facts)
        && pod.required_nodes.as_ref().is_none_or(|terms| terms.matches(&node.facts))
}

impl Filter for Required<'_> {
    fn check(&self, node: &NodeInfo) -> Option<Rejection> {
        (!accepts(self.0, node)).then(|| {
            Rejection::unresolvable(NAME, "node(s) didn't match Pod's node affinity/selector")
        })
    }
}

struct Preferred<'a>(&'a PodInfo);

impl Score for Preferred<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let matching = self.0.preferred_nodes.iter().filter(|(_, term)| term.matches(&node.facts));
        matching.map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_max(scores, false);
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        2
    }

    fn pre_filter<'a>(&'a self, _view: &'a ClusterView, pod: &'a PodInfo) -> PreFilter<'a> {
        if pod.node_selector.is_empty() && pod.required_nodes.is_none() {
            return PreFilter::Skip;
        }
        let filter = Box::new(Required(pod));
        match pod.required_nodes.as_ref().and_then(|terms| terms.names()) {
            Some(names) if names.is_empty() => {
                PreFilter::Reject(Rejection::unresolvable(NAME, "pod affinity terms conflict"))
            }
            Some(names) => PreFilter::Only(names, filter),
            None => PreFilter::Check(filter),
        }
    }

    fn pre_score<'a>(
        &'a self,
        _view: &'a ClusterView,
        pod: &'a PodInfo,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        if pod.preferred_nodes.is_empty() {
            return None;
        }
        Some(Box::new(Preferred(pod)))
    }

    fn could_help(&self, view: &ClusterView, pod: &PodInfo, change: &Change) -> bool {
        matches!(change, Change::Node { delta, .. } if delta.labels)
            && changed_node(view, change).is_some_and(|node| Required(pod).check(node).is_none())
    }
}
