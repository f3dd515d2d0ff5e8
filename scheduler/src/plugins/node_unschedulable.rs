//! `NodeUnschedulable`: nodes that are cordoned.

use crate::framework::{Filter, Plugin, PreFilter, Rejection, changed_node};
use crate::node::{NodeInfo, Taint};
use crate::plugins::taint_toleration::tolerates;
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug)]
pub struct NodeUnschedulable;

const NAME: &str = "NodeUnschedulable";

struct Cordon<'a>(&'a PodInfo);

impl Filter for Cordon<'_> {
    fn check(&self, node: &NodeInfo) -> Option<Rejection> {
        if !node.facts.unschedulable {
            return None;
        }
        // A pod that tolerates the taint of a cordoned node (a DaemonSet's) may go there.
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            value: String::new(),
            effect: "NoSchedule".to_owned(),
        };
        if self.0.tolerations.iter().any(|toleration| tolerates(toleration, &taint)) {
            return None;
        }
        Some(Rejection::unresolvable(NAME, "node(s) were unschedulable"))
    }
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, _view: &'a ClusterView, pod: &'a PodInfo) -> PreFilter<'a> {
        PreFilter::Check(Box::new(Cordon(pod)))
    }

    fn could_help(&self, view: &ClusterView, pod: &PodInfo, change: &Change) -> bool {
        matches!(change, Change::Node { delta, .. } if delta.taints)
            && changed_node(view, change).is_some_and(|node| Cordon(pod).check(node).is_none())
    }
}
