//! `NodeResourcesBalancedAllocation`: a node whose cpu and memory would be used to the same part is
//! better than one that would run out of one of them first.

use crate::framework::{Plugin, SCORE_MAX, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::view::ClusterView;

/// See the module.
#[derive(Debug)]
pub struct NodeResourcesBalancedAllocation;

struct Balance<'a>(&'a PodInfo);

impl Score for Balance<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let (pod, has) = (&self.0.requests.exact, &node.facts.allocatable);
        let cpu = part(node.requested.cpu_milli + pod.cpu_milli, has.cpu_milli);
        let memory = part(node.requested.memory + pod.memory, has.memory);
        // With less than two resources there is nothing to balance.
        let deviation = match (cpu, memory) {
            (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
            (None, _) | (_, None) => 0.0,
        };
        to_score(1.0 - deviation)
    }
}

#[allow(clippy::cast_precision_loss)] // upstream computes in f64 too
fn part(used: i64, has: i64) -> Option<f64> {
    (has != 0).then(|| (used as f64 / has as f64).min(1.0))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // 0.0..=1.0 in, truncated as upstream does
fn to_score(part: f64) -> i64 {
    (part * SCORE_MAX as f64) as i64
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn weight(&self) -> i64 {
        1
    }

    fn pre_score<'a>(
        &'a self,
        _view: &'a ClusterView,
        pod: &'a PodInfo,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        // A pod that asks for neither would go to the most balanced node again and again.
        let asked = &pod.requests.exact;
        if asked.cpu_milli == 0 && asked.memory == 0 {
            return None;
        }
        Some(Box::new(Balance(pod)))
    }
}
