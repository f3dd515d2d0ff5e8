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

use std::collections::BTreeMap;

use serde_json::Value;

use crate::real::kube::ending::Last;
use crate::real::kube::{Evidence, LABEL, Wanted};
use crate::report::Check;

/// Everything that is not as it is to be at rest.
#[must_use]
pub fn restless(last: &Last, wanted: &BTreeMap<String, Wanted>, nodes: usize) -> Vec<String> {
    [
        converged::wrong(last, wanted),
        surplus::wrong(last),
        endpoints::wrong(last),
        containers::wrong(last),
        nodes::wrong(last, nodes),
    ]
    .concat()
}

/// All checks of it.
#[must_use]
pub fn all(evidence: &Evidence, nodes: usize) -> Vec<Check> {
    vec![
        bound::check(evidence),
        converged::check(evidence),
        surplus::check(evidence),
        endpoints::check(evidence),
        containers::check(evidence),
        nodes::check(evidence, nodes),
    ]
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

/// A node that this host leaves without room.
fn pressed(last: &Last) -> Option<String> {
    last.nodes.iter().find_map(|node| {
        let conditions = node["status"]["conditions"].as_array()?;
        let pressure = conditions.iter().find(|condition| {
            let kind = condition["type"].as_str().unwrap_or_default();
            kind.ends_with("Pressure") && condition["status"] == "True"
        })?;
        let kind = pressure["type"].as_str().unwrap_or_default();
        Some(format!("node {} has {kind}: this host lacks room", name(node)))
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
