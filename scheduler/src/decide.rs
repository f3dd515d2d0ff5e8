//! Which node for a pod: a pure function of view, pod and a number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::framework::{Filter, Plugin, PreFilter, Reason, Rejection};
use crate::limits::{FEASIBLE_NODES_MIN, FEASIBLE_PERCENT_MIN, MESSAGE_BYTES_MAX};
use crate::node::NodeInfo;
use crate::plugins;
use crate::pod::PodInfo;
use crate::view::ClusterView;

/// The plugins in the order in which they are asked, and how much of the cluster is looked at.
#[derive(Debug)]
pub struct Profile {
    plugins: Vec<Box<dyn Plugin>>,
    /// Percent of the nodes that are scored; `None` lets it sink with the size of the cluster
    /// (kube-scheduler's `percentageOfNodesToScore`).
    pub percentage_of_nodes_to_score: Option<usize>,
}

impl Default for Profile {
    fn default() -> Self {
        Self { plugins: plugins::all(), percentage_of_nodes_to_score: None }
    }
}

/// A number that decides among equals; chosen before the decision, so the decision is pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The next number of the sequence (splitmix64).
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        // The remainder is below a usize.
        usize::try_from(self.draw().checked_rem(bound).unwrap_or(0)).unwrap_or(0)
    }
}

/// What is to be done with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes to this node.
    Bind {
        /// Which node.
        node: Arc<str>,
        /// How many nodes were looked at.
        evaluated: usize,
        /// How many of them could run it.
        feasible: usize,
    },
    /// No node can run it now.
    Unschedulable(Box<Unschedulable>),
}

/// Why no node can run a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unschedulable {
    /// Kubernetes' text, as in the condition and in the `FailedScheduling` event.
    pub message: String,
    /// Who refused it: only a change that could make one of them accept it brings the pod back.
    pub plugins: BTreeSet<&'static str>,
    /// Where room is being made for it.
    pub nominated: Option<Arc<str>>,
}

/// What was found on the way to refusing a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// Why each node that was tested was refused.
    pub rejections: Vec<(Arc<str>, Rejection)>,
    /// Why the pod was refused without looking at nodes.
    pub pre_filter: Option<Rejection>,
    /// Plugins that left only some nodes to test.
    pub narrowed_by: BTreeSet<&'static str>,
}

impl Profile {
    /// A profile of other plugins.
    #[must_use]
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins, percentage_of_nodes_to_score: None }
    }

    /// The plugins.
    pub fn plugins(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.plugins.iter().map(AsRef::as_ref)
    }

    /// A plugin by name.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<&dyn Plugin> {
        self.plugins().find(|plugin| plugin.name() == name)
    }

    /// How many nodes that pass are enough.
    #[must_use]
    pub fn enough(&self, nodes: usize) -> usize {
        if nodes < FEASIBLE_NODES_MIN {
            return nodes;
        }
        let percent = match self.percentage_of_nodes_to_score {
            Some(percent) => percent,
            None => 50_usize.saturating_sub(nodes / 125).max(FEASIBLE_PERCENT_MIN),
        };
        if percent >= 100 { nodes } else { (nodes * percent / 100).max(FEASIBLE_NODES_MIN) }
    }

    /// Decides. The same view, pod and seed always give the same decision.
    #[must_use]
    pub fn decide(&self, view: &ClusterView, pod: &PodInfo, seed: Seed) -> Decision {
        if view.is_empty() {
            let message = "no nodes available to schedule pods".to_owned();
            let plugins = BTreeSet::new();
            return unschedulable(Unschedulable { message, plugins, nominated: None });
        }
        let mut seed = seed;
        let mut diagnosis = Diagnosis { nodes: view.len(), ..Diagnosis::default() };
        let feasible = self.find(view, pod, &mut seed, &mut diagnosis);
        let evaluated = feasible.len() + diagnosis.rejections.len();
        let chosen = match feasible.as_slice() {
            [] => return self.refuse(view, pod, &diagnosis),
            [only] => only,
            several => several[self.best(view, pod, several, &mut seed)],
        };
        Decision::Bind { node: chosen.name().clone(), evaluated, feasible: feasible.len() }
    }

    /// Nodes that pass all filters, at most as many as are enough.
    fn find<'a>(
        &'a self,
        view: &'a ClusterView,
        pod: &'a PodInfo,
        seed: &mut Seed,
        diagnosis: &mut Diagnosis,
    ) -> Vec<&'a NodeInfo> {
        let mut only: Option<BTreeSet<Arc<str>>> = None;
        let mut filters: Vec<Box<dyn Filter + 'a>> = Vec::with_capacity(self.plugins.len());
        for plugin in &self.plugins {
            match plugin.pre_filter(view, pod) {
                PreFilter::Skip => {}
                PreFilter::Reject(rejection) => {
                    diagnosis.pre_filter = Some(rejection);
                    return Vec::new();
                }
                PreFilter::Check(filter) => filters.push(filter),
                PreFilter::Only(names, filter) => {
                    filters.push(filter);
                    diagnosis.narrowed_by.insert(plugin.name());
                    only = Some(match only {
                        Some(before) => before.intersection(&names).cloned().collect(),
                        None => names,
                    });
                }
            }
        }
        let enough = self.enough(only.as_ref().map_or(view.len(), |only| only.len()));
        let offset = seed.below(view.len());
        let mut feasible = Vec::new();
        let mut test = |node: &'a NodeInfo| {
            match filters.iter().find_map(|filter| filter.check(node)) {
                Some(rejection) => diagnosis.rejections.push((node.name().clone(), rejection)),
                None => feasible.push(node),
            }
            feasible.len() < enough
        };
        if let Some(only) = &only {
            let mut nodes = only.iter().filter_map(|name| view.node(name));
            let _found_enough = nodes.all(|node| test(node));
        } else {
            let _found_enough = view.search(offset).all(|node| test(node));
        }
        feasible
    }

    /// Which of several nodes is best; among equals the seed chooses, each with the same chance.
    fn best(
        &self,
        view: &ClusterView,
        pod: &PodInfo,
        nodes: &[&NodeInfo],
        seed: &mut Seed,
    ) -> usize {
        let mut totals = vec![0_i64; nodes.len()];
        let mut scores = Vec::with_capacity(nodes.len());
        for plugin in self.plugins.iter().filter(|plugin| plugin.weight() > 0) {
            let Some(score) = plugin.pre_score(view, pod, nodes) else {
                continue;
            };
            scores.clear();
            scores.extend(nodes.iter().map(|node| score.score(node)));
            score.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += plugin.weight() * score;
            }
        }
        let mut best = 0;
        let mut equals = 1;
        for index in 1..totals.len() {
            if totals[index] > totals[best] {
                (best, equals) = (index, 1);
            } else if totals[index] == totals[best] {
                equals += 1;
                if seed.below(equals) == 0 {
                    best = index;
                }
            }
        }
        best
    }

    fn refuse(&self, view: &ClusterView, pod: &PodInfo, diagnosis: &Diagnosis) -> Decision {
        let mut message = diagnosis.message();
        let mut nominated = None;
        for plugin in &self.plugins {
            if let Some(attempt) = plugin.post_filter(view, pod, diagnosis) {
                message.push(' ');
                message.push_str(&attempt.message);
                nominated = attempt.nominated;
                if nominated.is_some() {
                    break;
                }
            }
        }
        truncate(&mut message);
        unschedulable(Unschedulable { message, plugins: diagnosis.plugins(), nominated })
    }
}

fn unschedulable(what: Unschedulable) -> Decision {
    Decision::Unschedulable(Box::new(what))
}

fn truncate(message: &mut String) {
    if message.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX - 3;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str("...");
    }
}

impl Diagnosis {
    /// Plugins that refused something.
    #[must_use]
    pub fn plugins(&self) -> BTreeSet<&'static str> {
        let refused = self.rejections.iter().map(|(_, rejection)| rejection);
        let refused = refused.chain(&self.pre_filter).map(|rejection| rejection.plugin);
        refused.chain(self.narrowed_by.iter().copied()).collect()
    }

    /// Nodes that were not tested because a plugin left only some.
    #[must_use]
    pub fn untested(&self) -> usize {
        self.nodes - self.rejections.len().min(self.nodes)
    }

    /// Kubernetes' text: how many nodes there are, and each reason with the number of nodes that it
    /// holds for, in the order of the texts.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = format!("0/{} nodes are available:", self.nodes);
        if let Some(rejection) = &self.pre_filter {
            message.push_str(&format!(" {}.", rejection.reasons.join(", ")));
            return message;
        }
        let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
        for reason in self.rejections.iter().flat_map(|(_, rejection)| &rejection.reasons) {
            *counts.entry(reason.clone()).or_insert(0) += 1;
        }
        if self.untested() > 0 && !self.narrowed_by.is_empty() {
            let names: Vec<&str> = self.narrowed_by.iter().copied().collect();
            let reason = format!("node(s) didn't satisfy plugin(s) [{}]", names.join(" "));
            *counts.entry(reason.into()).or_insert(0) += self.untested();
        }
        append_counts(&mut message, counts);
        message
    }
}

/// Appends ` 1 a, 2 b.`, sorted as text like upstream does (so "10 …" comes before "2 …").
pub(crate) fn append_counts(message: &mut String, counts: BTreeMap<Reason, usize>) {
    let mut texts: Vec<String> =
        counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.sort_unstable();
    if !texts.is_empty() {
        message.push_str(&format!(" {}.", texts.join(", ")));
    }
}

/// Decides with the default plugins.
#[must_use]
pub fn decide(view: &ClusterView, pod: &PodInfo, seed: Seed) -> Decision {
    Profile::default().decide(view, pod, seed)
}
