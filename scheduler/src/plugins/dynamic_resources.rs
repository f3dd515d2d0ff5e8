//! `DynamicResources`: devices are not allocated yet, so that a pod that claims some stays pending and says why,
//! instead of running without them.

use crate::framework::{Filter, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::view::ClusterView;

/// See the module.
#[derive(Debug)]
pub struct DynamicResources;

const NAME: &str = "DynamicResources";
const REASON: &str = "cannot allocate all claims: this cluster allocates no devices yet";

struct Nowhere;

impl Filter for Nowhere {
    fn check(&self, _node: &NodeInfo) -> Option<Rejection> {
        Some(Rejection::unresolvable(NAME, REASON))
    }
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter<'a>(&'a self, _view: &'a ClusterView, pod: &'a PodInfo) -> PreFilter<'a> {
        if pod.claims_devices { PreFilter::Check(Box::new(Nowhere)) } else { PreFilter::Skip }
    }
}
