//! A pod is bound once: whoever looks, at any master and at any time, sees it on one node or on none.
//!
//! Source: the binding subresource of Kubernetes, which refuses a pod that has a node; `reliability.md` section 8,
//! (12).

use std::collections::BTreeMap;

use crate::real::kube::{Binding, Evidence};
use crate::report::Check;

const NAME: &str = "bound";

/// Fails for each pod that was seen on two nodes.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let mut pods: BTreeMap<&str, Vec<&Binding>> = BTreeMap::new();
    for binding in &evidence.bindings {
        pods.entry(&binding.uid).or_default().push(binding);
    }
    let twice = pods.values().filter(|seen| seen.len() > 1).map(|seen| {
        let nodes: Vec<&str> = seen.iter().map(|binding| binding.node.as_str()).collect();
        format!("pod {} ({}) was on {}", seen[0].pod, seen[0].uid, nodes.join(" and "))
    });
    let (checked, found) = (format!("{} pods", pods.len()), twice.collect::<Vec<_>>());
    if let Some(lacks) = &evidence.lacks {
        return Check::unknown(NAME, checked, lacks);
    }
    if pods.is_empty() {
        return Check::unknown(NAME, checked, "no pod was seen on a node");
    }
    Check::broken(NAME, checked, found)
}
