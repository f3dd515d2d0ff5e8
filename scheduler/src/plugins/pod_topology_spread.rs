//! `PodTopologySpread`: how unevenly pods of a kind may be spread over domains (the nodes with one
//! value of a label).

use std::collections::BTreeMap;

use crate::company::Spread;
use crate::framework::{Filter, Plugin, PreFilter, Rejection, SCORE_MAX, Score};
use crate::node::NodeInfo;
use crate::plugins::node_affinity;
use crate::plugins::taint_toleration;
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug)]
pub struct PodTopologySpread;

const NAME: &str = "PodTopologySpread";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// What a node counts that lacks the label of a constraint: it gets no points.
const NOT_SCORED: i64 = -1;

/// Pods of a constraint on a node. A selector that selects everything counts nothing, as upstream
/// has it; nor do pods that are being deleted.
fn count(node: &NodeInfo, spread: &Spread, pod: &PodInfo) -> i64 {
    if spread.labels.is_everything() {
        return 0;
    }
    let counts = |other: &&std::sync::Arc<PodInfo>| {
        !other.deleting
            && other.key.namespace == pod.key.namespace
            && spread.labels.matches(&other.labels)
    };
    i64::try_from(node.pods.values().filter(counts).count()).unwrap_or(i64::MAX)
}

fn has_all_keys(node: &NodeInfo, constraints: &[&Spread]) -> bool {
    constraints.iter().all(|spread| node.facts.labels.contains_key(&spread.topology_key))
}

/// Whether a node's domain counts for a constraint of the pod.
fn is_included(node: &NodeInfo, spread: &Spread, pod: &PodInfo) -> bool {
    (!spread.honors_affinity || node_affinity::accepts(pod, node))
        && (!spread.honors_taints || taint_toleration::accepts(pod, node))
}

/// One constraint, and how many pods each domain has.
struct Limit<'a> {
    spread: &'a Spread,
    domains: BTreeMap<&'a str, i64>,
    fewest: i64,
    itself: i64,
}

struct Hard<'a>(Vec<Limit<'a>>);

impl<'a> Hard<'a> {
    fn new(view: &'a ClusterView, pod: &'a PodInfo, constraints: &[&'a Spread]) -> Self {
        let limit = |spread: &&'a Spread| {
            let mut domains = BTreeMap::new();
            for node in view.search(0) {
                if has_all_keys(node, constraints)
                    && is_included(node, spread, pod)
                    && let Some(value) = node.facts.labels.get(&spread.topology_key)
                {
                    *domains.entry(value.as_str()).or_insert(0) += count(node, spread, pod);
                }
            }
            let too_few = domains.len() < spread.min_domains;
            let fewest = domains.values().copied().min().filter(|_| !too_few).unwrap_or(0);
            let itself = i64::from(spread.labels.matches(&pod.labels));
            Limit { spread, domains, fewest, itself }
        };
        Self(constraints.iter().map(limit).collect())
    }
}

impl Filter for Hard<'_> {
    fn check(&self, node: &NodeInfo) -> Option<Rejection> {
        for Limit { spread, domains, fewest, itself } in &self.0 {
            let Some(value) = node.facts.labels.get(&spread.topology_key) else {
                let reason = "node(s) didn't match pod topology spread constraints (missing \
                              required label)";
                return Some(Rejection::unresolvable(NAME, reason));
            };
            let has = domains.get(value.as_str()).copied().unwrap_or(0);
            if has + itself - fewest > spread.max_skew {
                let reason = "node(s) didn't match pod topology spread constraints";
                return Some(Rejection::resolvable(NAME, reason));
            }
        }
        None
    }
}

/// One preferred constraint among the nodes that passed.
struct Preferred<'a> {
    spread: &'a Spread,
    /// Pods of each domain; each host is counted when it is scored.
    domains: BTreeMap<&'a str, i64>,
    /// More for constraints with more domains, so that those with few do not count for more.
    weight: f64,
}

struct Soft<'a> {
    pod: &'a PodInfo,
    constraints: Vec<Preferred<'a>>,
}

impl<'a> Soft<'a> {
    fn new(
        view: &'a ClusterView,
        pod: &'a PodInfo,
        nodes: &[&'a NodeInfo],
        constraints: &[&'a Spread],
    ) -> Self {
        let scored: Vec<&&NodeInfo> =
            nodes.iter().filter(|node| has_all_keys(node, constraints)).collect();
        let preferred = |spread: &&'a Spread| {
            let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
            if spread.topology_key == HOSTNAME {
                return Preferred { spread, domains, weight: weight(scored.len()) };
            }
            for node in &scored {
                if let Some(value) = node.facts.labels.get(&spread.topology_key) {
                    domains.insert(value, 0);
                }
            }
            for node in view.search(0).filter(|node| has_all_keys(node, constraints)) {
                if let Some(value) = node.facts.labels.get(&spread.topology_key)
                    && let Some(pods) = domains.get_mut(value.as_str())
                    && is_included(node, spread, pod)
                {
                    *pods += count(node, spread, pod);
                }
            }
            let weight = weight(domains.len());
            Preferred { spread, domains, weight }
        };
        Self { pod, constraints: constraints.iter().map(preferred).collect() }
    }
}

#[allow(clippy::cast_precision_loss)] // numbers of domains; upstream computes in f64 too
fn weight(domains: usize) -> f64 {
    (domains as f64 + 2.0).ln()
}

#[allow(clippy::cast_precision_loss)] // numbers of pods
fn to_f64(number: i64) -> f64 {
    number as f64
}

impl Score for Soft<'_> {
    /// Pods in the node's domains: fewer are better, [`Self::normalize`] turns it.
    #[allow(clippy::cast_possible_truncation)] // rounded
    fn score(&self, node: &NodeInfo) -> i64 {
        let mut score = 0.0;
        for Preferred { spread, domains, weight } in &self.constraints {
            let Some(value) = node.facts.labels.get(&spread.topology_key) else {
                return NOT_SCORED;
            };
            let pods = if spread.topology_key == HOSTNAME {
                count(node, spread, self.pod)
            } else {
                domains.get(value.as_str()).copied().unwrap_or(0)
            };
            score += to_f64(pods) * weight + to_f64(spread.max_skew - 1);
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let scored = || scores.iter().copied().filter(|score| *score != NOT_SCORED);
        let (min, max) = (scored().min().unwrap_or(0), scored().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                NOT_SCORED => 0,
                _ if max == 0 => SCORE_MAX,
                score => SCORE_MAX * (max + min - score) / max,
            };
        }
    }
}

fn of(pod: &PodInfo, hard: bool) -> Vec<&Spread> {
    pod.spread.iter().filter(|spread| spread.hard == hard).collect()
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        2
    }

    fn pre_filter<'a>(&'a self, view: &'a ClusterView, pod: &'a PodInfo) -> PreFilter<'a> {
        let constraints = of(pod, true);
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Check(Box::new(Hard::new(view, pod, &constraints)))
    }

    fn pre_score<'a>(
        &'a self,
        view: &'a ClusterView,
        pod: &'a PodInfo,
        nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let constraints = of(pod, false);
        if constraints.is_empty() {
            return None;
        }
        Some(Box::new(Soft::new(view, pod, nodes, &constraints)))
    }

    /// Any pod that comes or goes, and any node, may change which domain has the fewest.
    fn could_help(&self, _view: &ClusterView, _pod: &PodInfo, change: &Change) -> bool {
        match change {
            Change::Node { delta, .. } => delta.labels || delta.taints,
            Change::Freed { .. } | Change::Placed { .. } => true,
            Change::Namespace { .. } => false,
        }
    }
}
