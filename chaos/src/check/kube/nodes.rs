//! After the faults all agents are connected again: every node is there, once, and ready.
//!
//! Source: `reliability.md` section 8, (20): "agents reconnected within T".

use super::{at_the_end, is_ready, name};
use crate::real::kube::ending::Last;
use crate::real::kube::{Evidence, agents};
use crate::report::Check;

const NAME: &str = "nodes";

/// Fails for each node that is not ready.
#[must_use]
pub fn check(evidence: &Evidence, nodes: usize) -> Check {
    at_the_end(NAME, evidence, |last| {
        (format!("{} nodes, {nodes} agents", last.nodes.len()), wrong(last, nodes))
    })
}

/// What is missing.
#[must_use]
pub fn wrong(last: &Last, nodes: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for own in (0..nodes).map(agents::node) {
        match last.nodes.iter().find(|node| name(node) == own) {
            None => wrong.push(format!("node {own} is not there")),
            Some(node) if !is_ready(node) => wrong.push(format!("node {own} is not ready")),
            Some(_) => {}
        }
    }
    if last.nodes.len() > nodes {
        wrong.push(format!("{} nodes, and {nodes} agents", last.nodes.len()));
    }
    wrong
}
