//! At the end every master lists the same, at one revision.
//!
//! Source: state machine safety (Raft, Figure 3: all apply the same commands in the same order). Whole lists of what
//! clients wrote are compared, by revision and content; [`super::state`] compares hashes of everything.

use std::collections::BTreeMap;

use serde_json::Value;

use super::watch::Revision;
use crate::model::Family;
use crate::real::workload::told;
use crate::report::{Check, Evidence};

const NAME: &str = "agreement";

/// Fails for each master that lists something else than the first.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let mut found = Vec::new();
    let first = evidence.last.first().map(content).unwrap_or_default();
    for (master, list) in evidence.last.iter().enumerate().skip(1) {
        let own = content(list);
        if own != first {
            let mut names = first.keys().chain(own.keys());
            let other = names.find(|name| first.get(*name) != own.get(*name));
            let other = other.map(String::as_str).unwrap_or_default();
            found.push({
                let name = |master| evidence.options.name(master);
                format!("{} lists other objects than {}: {other}", name(master), name(0))
            });
        }
    }
    let checked = format!("{} masters, {} objects", evidence.last.len(), first.len());
    if found.is_empty() && evidence.last.len() < evidence.options.scenario.masters {
        let why = "not every master was asked at the end: the run was cut short";
        return Check::unknown(NAME, checked, why);
    }
    Check::broken(NAME, checked, found)
}

/// What clients wrote, with revision and digest.
pub(super) fn content(list: &Value) -> BTreeMap<String, Option<(Revision, u64)>> {
    let items = list["items"].as_array();
    items
        .into_iter()
        .flatten()
        .filter_map(|item| {
            let name = item["metadata"]["name"].as_str()?;
            let ours = Family::ALL.iter().any(|family| name.starts_with(family.prefix()));
            ours.then(|| (name.to_owned(), told(item)))
        })
        .collect()
}
