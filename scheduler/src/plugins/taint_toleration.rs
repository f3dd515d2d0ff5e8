//! `TaintToleration`: taints keep pods away, unless they tolerate them.

use k8s_openapi::api::core::v1::Toleration;

use crate::framework::{
    Filter, Plugin, PreFilter, Rejection, Score, changed_node, normalize_by_max,
};
use crate::node::{NodeInfo, Taint};
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug)]
pub struct TaintToleration;

const NAME: &str = "TaintToleration";

/// Whether a toleration covers a taint (core/v1 `ToleratesTaint`): an empty effect or key is every
/// one, no operator is `Equal`; `Gt` and `Lt` compare whole numbers.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let effect = text(&toleration.effect);
    let key = text(&toleration.key);
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    let numbers = || Some((taint.value.parse::<i64>().ok()?, value.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => value == taint.value,
        "Exists" => true,
        "Gt" => numbers().is_some_and(|(taint, bound)| taint > bound),
        "Lt" => numbers().is_some_and(|(taint, bound)| taint < bound),
        _ => false,
    }
}

struct Taints<'a>(&'a PodInfo);

/// Whether no taint of the node keeps the pod away.
pub(super) fn accepts(pod: &PodInfo, node: &NodeInfo) -> bool {
    let hard = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    node.facts.taints.iter().filter(hard).all(|taint| Taints(pod).tolerated(taint))
}

impl Taints<'_> {
    fn tolerated(&self, taint: &Taint) -> bool {
        self.0.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    }
}

impl Filter for Taints<'_> {
    fn check(&self, node: &NodeInfo) -> Option<Rejection> {
        (!accepts(self.0, node))
            .then(|| Rejection::unresolvable(NAME, "node(s) had untolerated taint(s)"))
    }
}

/// Fewer `PreferNoSchedule` taints that the pod does not tolerate are better.
impl Score for Taints<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let soft = node.facts.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        i64::try_from(soft.filter(|taint| !self.tolerated(taint)).count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_by_max(scores, true);
    }
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        3
    }

    fn pre_filter<'a>(&'a self, _view: &'a ClusterView, pod: &'a PodInfo) -> PreFilter<'a> {
        PreFilter::Check(Box::new(Taints(pod)))
    }

    fn pre_score<'a>(
        &'a self,
        _view: &'a ClusterView,
        pod: &'a PodInfo,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Taints(pod)))
    }

    fn could_help(&self, view: &ClusterView, pod: &PodInfo, change: &Change) -> bool {
        matches!(change, Change::Node { delta, .. } if delta.taints)
            && changed_node(view, change).is_some_and(|node| Taints(pod).check(node).is_none())
    }
}
