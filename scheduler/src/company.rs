//! Which other pods a pod wants near it or far from it: pod affinity, pod anti-affinity and spread
//! constraints, compiled once per version of the pod.
//!
//! `matchLabelKeys` and `mismatchLabelKeys` are not looked at: the API server has made expressions of
//! the label selectors from them when the pod was created.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Affinity, PodAffinityTerm, TopologySpreadConstraint, WeightedPodAffinityTerm,
};

use crate::pod::PodInfo;
use crate::selector::Labels;
use crate::view::ClusterView;

/// One `PodAffinityTerm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTerm {
    namespaces: BTreeSet<String>,
    namespace_labels: Labels,
    labels: Labels,
    /// The node label whose values make the domains.
    pub topology_key: String,
}

impl PodTerm {
    /// A term of a pod in `namespace`; without namespaces of its own it means that one.
    #[must_use]
    pub fn compile(term: &PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Self {
            namespaces,
            namespace_labels: Labels::compile(term.namespace_selector.as_ref()),
            labels: Labels::compile(term.label_selector.as_ref()),
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether the term means this pod.
    #[must_use]
    pub fn matches(&self, view: &ClusterView, pod: &PodInfo) -> bool {
        let namespace = &*pod.key.namespace;
        (self.namespaces.contains(namespace)
            || self.namespace_labels.matches(view.labels_of(namespace)))
            && self.labels.matches(&pod.labels)
    }
}

/// A pod's terms about other pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Company {
    /// Required affinity: all must hold.
    pub near: Vec<PodTerm>,
    /// Required anti-affinity: each must hold.
    pub far: Vec<PodTerm>,
    /// Preferred affinity with weights; anti-affinity has negative ones.
    pub preferred: Vec<(i64, PodTerm)>,
}

impl Company {
    /// The terms of a pod in `namespace`; `None` without any.
    #[must_use]
    pub fn compile(affinity: Option<&Affinity>, namespace: &str) -> Option<Self> {
        let affinity = affinity?;
        let terms = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<PodTerm> {
            terms.into_iter().flatten().map(|term| PodTerm::compile(term, namespace)).collect()
        };
        let weighted = |terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64| {
            let terms = terms.into_iter().flatten();
            let one = |term: &WeightedPodAffinityTerm| {
                let compiled = PodTerm::compile(&term.pod_affinity_term, namespace);
                (sign * i64::from(term.weight), compiled)
            };
            terms.map(one).collect::<Vec<_>>()
        };
        let mut company = Self::default();
        if let Some(near) = &affinity.pod_affinity {
            company.near = terms(near.required_during_scheduling_ignored_during_execution.as_ref());
            let soft = near.preferred_during_scheduling_ignored_during_execution.as_ref();
            company.preferred.extend(weighted(soft, 1));
        }
        if let Some(far) = &affinity.pod_anti_affinity {
            company.far = terms(far.required_during_scheduling_ignored_during_execution.as_ref());
            let soft = far.preferred_during_scheduling_ignored_during_execution.as_ref();
            company.preferred.extend(weighted(soft, -1));
        }
        (company != Self::default()).then_some(company)
    }
}

/// One `TopologySpreadConstraint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// How many more pods a domain may have than the one with the fewest.
    pub max_skew: i64,
    /// The node label whose values make the domains.
    pub topology_key: String,
    /// `DoNotSchedule`; else `ScheduleAnyway`.
    pub hard: bool,
    /// With fewer domains than this the fewest pods count as 0.
    pub min_domains: usize,
    /// Nodes that the pod's node affinity leaves out are no domains.
    pub honors_affinity: bool,
    /// Nodes whose taints the pod does not tolerate are no domains.
    pub honors_taints: bool,
    /// Which pods are counted.
    pub labels: Labels,
}

impl Spread {
    /// One constraint.
    #[must_use]
    pub fn compile(constraint: &TopologySpreadConstraint) -> Self {
        let min_domains = constraint.min_domains.unwrap_or(1);
        Self {
            max_skew: i64::from(constraint.max_skew),
            topology_key: constraint.topology_key.clone(),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            min_domains: usize::try_from(min_domains).unwrap_or(1),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            labels: Labels::compile(constraint.label_selector.as_ref()),
        }
    }
}
