//! Checks of a run in which Kubernetes itself was used: Deployments, Services, pods that really run.
//!
//! Each looks at what there was when all had come to rest after the faults ([`Last`]), or, when it did not in time, at
//! what there was then.

pub mod bound;
pub mod containers;
pub mod converged;
pub mod endpoints;
pub mod nodes;
pub mod surplus;

use serde_json::Value;

use crate::real::kube::ending::Last;
use crate::real::kube::{Evidence, LABEL, agents};
use crate::report::{Check, NotChecked};

/// Everything that is not as it is to be at rest, with so many node agents unless nodes were there before.
#[must_use]
pub fn restless(last: &Last, evidence: &Evidence, count: usize) -> Vec<String> {
    let containers = match evidence.nodes {
        Some(_) => Vec::new(),
        None => containers::wrong(last),
    };
    [
        converged::wrong(last, &evidence.wanted),
        surplus::wrong(last),
        endpoints::wrong(last),
        containers,
        nodes::wrong(last, &expected(evidence, count)),
    ]
    .concat()
}

/// All checks of it that can be made.
#[must_use]
pub fn all(evidence: &Evidence, count: usize) -> Vec<Check> {
    let mut checks = vec![
        bound::check(evidence),
        converged::check(evidence),
        surplus::check(evidence),
        endpoints::check(evidence),
    ];
    if evidence.nodes.is_none() {
        checks.push(containers::check(evidence));
    }
    checks.push(nodes::check(evidence, &expected(evidence, count)));
    checks
}

/// What cannot be looked at on nodes that were there before the run: it is no part of such a run, and said to be none.
#[must_use]
pub fn not_checked(evidence: &Evidence) -> Vec<NotChecked> {
    let why =
        "what runs on the cluster's own nodes was not looked at, only what the API says of it";
    match evidence.nodes {
        None => Vec::new(),
        Some(_) => vec![NotChecked { name: containers::NAME, why: why.to_owned() }],
    }
}

/// Nodes that have to be there.
fn expected(evidence: &Evidence, count: usize) -> nodes::Expected {
    match &evidence.nodes {
        Some(names) => nodes::Expected { names: names.clone(), are_all: false },
        None => nodes::Expected { names: (0..count).map(agents::node).collect(), are_all: true },
    }
}

/// A check of what there was at the end; unknown without it.
fn at_the_end(
    name: &'static str,
    evidence: &Evidence,
    look: impl FnOnce(&Last) -> (String, Vec<String>),
) -> Check {
    match (&evidence.lacks, &evidence.last) {
        (Some(lacks), _) => Check::unknown(name, String::new(), lacks),
        (None, None) => {
            let why = "nobody looked at the end: the run was cut short";
            Check::unknown(name, String::new(), why)
        }
        (None, Some(last)) => {
            let (checked, found) = look(last);
            match pressed(last) {
                // A node without room runs nothing, and is right.
                Some(why) if !found.is_empty() => Check::unknown(name, checked, &why),
                _ => Check::broken(name, checked, found),
            }
        }
    }
}

/// A node that its machine leaves without room.
fn pressed(last: &Last) -> Option<String> {
    last.nodes.iter().find_map(|node| {
        let conditions = node["status"]["conditions"].as_array()?;
        let pressure = conditions.iter().find(|condition| {
            let kind = condition["type"].as_str().unwrap_or_default();
            kind.ends_with("Pressure") && condition["status"] == "True"
        })?;
        let kind = pressure["type"].as_str().unwrap_or_default();
        Some(format!("node {} has {kind}: its machine lacks room", name(node)))
    })
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// Of which Deployment something is, by its label.
fn app(object: &Value) -> &str {
    object["metadata"]["labels"][LABEL].as_str().unwrap_or_default()
}

fn is_going(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The one that owns it and controls it.
fn owner(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

#[cfg(test)]
mod tests;
