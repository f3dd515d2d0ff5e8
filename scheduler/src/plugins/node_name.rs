//! `NodeName`: a pod that names its node goes nowhere else.
//!
//! A pod with `spec.nodeName` is bound already and never comes here; the plugin is there for pods
//! that are decided on behalf of others (a simulation), as upstream has it.

use crate::framework::{Filter, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug)]
pub struct NodeName;

const NAME: &str = "NodeName";

struct Named<'a>(&'a str);

impl Filter for Named<'_> {
    fn check(&self, node: &NodeInfo) -> Option<Rejection> {
        (&**node.name() != self.0)
            .then(|| Rejection::unresolvable(NAME, "node(s) didn't match the requested node name"))
    }
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, _view: &'a ClusterView, pod: &'a PodInfo) -> PreFilter<'a> {
        match &pod.node_name {
            Some(name) => PreFilter::Check(Box::new(Named(name))),
            None => PreFilter::Skip,
        }
    }

    fn could_help(&self, _view: &ClusterView, pod: &PodInfo, change: &Change) -> bool {
        matches!(change, Change::Node { name, .. } if pod.node_name.as_ref() == Some(name))
    }
}
