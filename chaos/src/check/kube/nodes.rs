//! After the faults all nodes are connected again: each is there, once, and ready; those of the run's own agents, or
//! those that were ready before a run on a cluster that was there.
//!
//! Source: `reliability.md` section 8, (20): "agents reconnected within T".

use super::{at_the_end, is_ready, name};
use crate::real::kube::Evidence;
use crate::real::kube::ending::Last;
use crate::report::Check;

const NAME: &str = "nodes";

/// Nodes that there are to be.
#[derive(Debug)]
pub struct Expected {
    /// Their names.
    pub names: Vec<String>,
    /// Whether no others may be there.
    pub are_all: bool,
}

/// Fails for each node that is not ready.
#[must_use]
pub fn check(evidence: &Evidence, expected: &Expected) -> Check {
    at_the_end(NAME, evidence, |last| {
        let (found, count) = (last.nodes.len(), expected.names.len());
        let whose = if expected.are_all { "agents" } else { "were ready before" };
        (format!("{found} nodes, {count} {whose}"), wrong(last, expected))
    })
}

/// What is missing.
#[must_use]
pub fn wrong(last: &Last, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    for own in &expected.names {
        match last.nodes.iter().find(|node| name(node) == own) {
            None => wrong.push(format!("node {own} is not there")),
            Some(node) if !is_ready(node) => wrong.push(format!("node {own} is not ready")),
            Some(_) => {}
        }
    }
    let count = expected.names.len();
    if expected.are_all && last.nodes.len() > count {
        wrong.push(format!("{} nodes, and {count} agents", last.nodes.len()));
    }
    wrong
}
