//! `NodePorts`: a host port is given once per host address and protocol.

use crate::framework::{Filter, Plugin, PreFilter, Rejection, changed_node};
use crate::node::NodeInfo;
use crate::pod::{HostPort, PodInfo};
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug)]
pub struct NodePorts;

const NAME: &str = "NodePorts";

struct Ports<'a>(&'a [HostPort]);

impl Filter for Ports<'_> {
    fn check(&self, node: &NodeInfo) -> Option<Rejection> {
        let taken =
            self.0.iter().any(|wanted| node.ports.keys().any(|used| used.conflicts(wanted)));
        taken.then(|| {
            Rejection::resolvable(
                NAME,
                "node(s) didn't have free ports for the requested pod ports",
            )
        })
    }
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, _view: &'a ClusterView, pod: &'a PodInfo) -> PreFilter<'a> {
        if pod.ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Check(Box::new(Ports(&pod.ports)))
    }

    fn could_help(&self, view: &ClusterView, pod: &PodInfo, change: &Change) -> bool {
        !matches!(change, Change::Placed { .. })
            && changed_node(view, change)
                .is_some_and(|node| Ports(&pod.ports).check(node).is_none())
    }
}
