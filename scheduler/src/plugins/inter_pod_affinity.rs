//! `InterPodAffinity`: pods that want the company of others, or none of it, in a domain (the nodes
//! with one value of a label).
//!
//! Anti-affinity holds both ways: a pod that runs keeps those away that its terms mean.

use std::collections::{BTreeMap, BTreeSet};

use crate::company::{Company, PodTerm};
use crate::framework::{Filter, Plugin, PreFilter, Rejection, SCORE_MAX, Score, changed_node};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug)]
pub struct InterPodAffinity;

const NAME: &str = "InterPodAffinity";

/// What a required affinity of a pod that runs adds to the score of those that it wants near it
/// (kube-scheduler's `hardPodAffinityWeight`).
const HARD_AFFINITY_WEIGHT: i64 = 1;

/// A domain: a label and its value.
type Domain<'a> = (&'a str, &'a str);

struct Rules<'a> {
    near: &'a [PodTerm],
    far: &'a [PodTerm],
    /// Domains with a pod that all terms of `near` mean.
    wanted: BTreeSet<Domain<'a>>,
    /// Domains with a pod that a term of `far` means.
    unwanted: BTreeSet<Domain<'a>>,
    /// Domains with a pod that does not want this one.
    closed: BTreeSet<Domain<'a>>,
    /// The pod is what it wants near it: the first of its kind goes anywhere.
    wants_itself: bool,
}

fn domain<'a>(node: &'a NodeInfo, key: &'a str) -> Option<Domain<'a>> {
    node.facts.labels.get(key).map(|value| (key, value.as_str()))
}

fn all_match(terms: &[PodTerm], view: &ClusterView, pod: &PodInfo) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(view, pod))
}

impl<'a> Rules<'a> {
    fn new(view: &'a ClusterView, pod: &'a PodInfo) -> Self {
        let company = pod.company.as_deref();
        let near = company.map_or(&[][..], |company| &company.near);
        let far = company.map_or(&[][..], |company| &company.far);
        let mut rules = Self {
            near,
            far,
            wanted: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            closed: BTreeSet::new(),
            wants_itself: all_match(near, view, pod),
        };
        for (node, other) in view.pods_with_company() {
            let terms = other.company.iter().flat_map(|company| &company.far);
            let meant = terms.filter(|term| term.matches(view, pod));
            rules.closed.extend(meant.filter_map(|term| domain(node, &term.topology_key)));
        }
        if !near.is_empty() || !far.is_empty() {
            view.search(0).for_each(|node| rules.take(view, node));
        }
        rules
    }

    fn take(&mut self, view: &ClusterView, node: &'a NodeInfo) {
        let (near, far) = (self.near, self.far);
        for other in node.pods.values() {
            if all_match(near, view, other) {
                self.wanted.extend(near.iter().filter_map(|term| domain(node, &term.topology_key)));
            }
            let meant = far.iter().filter(|term| term.matches(view, other));
            self.unwanted.extend(meant.filter_map(|term| domain(node, &term.topology_key)));
        }
    }

    fn near_enough(&self, node: &NodeInfo) -> bool {
        let mut missing = false;
        for term in self.near {
            match node.facts.labels.get(&term.topology_key) {
                None => return false,
                Some(value) => {
                    missing |= !self.wanted.contains(&(term.topology_key.as_str(), value.as_str()));
                }
            }
        }
        !missing || (self.wanted.is_empty() && self.wants_itself)
    }
}

impl Filter for Rules<'_> {
    fn check(&self, node: &NodeInfo) -> Option<Rejection> {
        if !self.near_enough(node) {
            return Some(Rejection::unresolvable(NAME, "node(s) didn't match pod affinity rules"));
        }
        let in_one_of = |domains: &BTreeSet<Domain<'_>>, key: &str| {
            node.facts.labels.get(key).is_some_and(|value| domains.contains(&(key, value.as_str())))
        };
        if self.far.iter().any(|term| in_one_of(&self.unwanted, &term.topology_key)) {
            let reason = "node(s) didn't match pod anti-affinity rules";
            return Some(Rejection::resolvable(NAME, reason));
        }
        if self.closed.iter().any(|(key, _)| in_one_of(&self.closed, key)) {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Some(Rejection::resolvable(NAME, reason));
        }
        None
    }
}

/// Points of each domain: what the pod prefers, and what pods that run prefer about it.
struct Preferences<'a>(BTreeMap<&'a str, BTreeMap<&'a str, i64>>);

impl<'a> Preferences<'a> {
    fn new(view: &'a ClusterView, pod: &'a PodInfo) -> Self {
        let mut points = Self(BTreeMap::new());
        let mine = pod.company.as_deref().map_or(&[][..], |company| &company.preferred);
        if !mine.is_empty() {
            for node in view.search(0) {
                for other in node.pods.values() {
                    for (weight, term) in mine {
                        points.add(view, node, term, other, *weight);
                    }
                }
            }
        }
        for (node, other) in view.pods_with_company() {
            let Some(theirs) = other.company.as_deref() else {
                continue;
            };
            let Company { near, preferred, .. } = theirs;
            for term in near {
                points.add(view, node, term, pod, HARD_AFFINITY_WEIGHT);
            }
            for (weight, term) in preferred {
                points.add(view, node, term, pod, *weight);
            }
        }
        points
    }

    fn add(
        &mut self,
        view: &ClusterView,
        node: &'a NodeInfo,
        term: &'a PodTerm,
        meant: &PodInfo,
        weight: i64,
    ) {
        if let Some((key, value)) = domain(node, &term.topology_key)
            && term.matches(view, meant)
        {
            *self.0.entry(key).or_default().entry(value).or_insert(0) += weight;
        }
    }
}

impl Score for Preferences<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let of_key = |(key, values): (&&str, &BTreeMap<&str, i64>)| {
            let value = node.facts.labels.get(*key)?;
            values.get(value.as_str()).copied()
        };
        self.0.iter().filter_map(of_key).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let min = scores.iter().copied().min().unwrap_or(0);
        let max = scores.iter().copied().max().unwrap_or(0);
        for score in scores {
            *score = if max > min { SCORE_MAX * (*score - min) / (max - min) } else { 0 };
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        2
    }

    fn pre_filter<'a>(&'a self, view: &'a ClusterView, pod: &'a PodInfo) -> PreFilter<'a> {
        let rules = Rules::new(view, pod);
        if rules.near.is_empty() && rules.far.is_empty() && rules.closed.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Check(Box::new(rules))
    }

    fn pre_score<'a>(
        &'a self,
        view: &'a ClusterView,
        pod: &'a PodInfo,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let points = Preferences::new(view, pod);
        if points.0.is_empty() { None } else { Some(Box::new(points)) }
    }

    fn could_help(&self, view: &ClusterView, pod: &PodInfo, change: &Change) -> bool {
        match change {
            Change::Node { delta, .. } => delta.labels,
            Change::Freed { .. } | Change::Namespace { .. } => true,
            // Company helps only those who want it.
            Change::Placed { .. } => {
                let near = pod.company.as_deref().map_or(&[][..], |company| &company.near);
                changed_node(view, change).is_some_and(|node| {
                    node.pods.values().any(|other| all_match(near, view, other))
                })
            }
        }
    }
}
