//! Nothing that was acknowledged is lost: at the end each object is at least as new as its last acknowledged write, and
//! what nobody deletes is there.
//!
//! Source: `reliability.md` section 8, (2): "no acked write lost after heal, full restart and power-loss". The last
//! lists of all masters are looked at; who was told of a write (its client, or a watcher) was told for good.

use std::collections::BTreeMap;

use super::agreement::content;
use super::watch::{Change, Kind, Revision};
use super::watches::log_of;
use crate::model::Family;
use crate::real::workload::Resource;
use crate::report::violation::{self, Violation};
use crate::report::{Check, Evidence};

const NAME: &str = "lost";

/// Fails for each object that is older than what somebody was told of it.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let mut newest: BTreeMap<String, (Revision, Change)> = BTreeMap::new();
    for resource in [Resource::ConfigMaps, Resource::Leases] {
        for (revision, change) in log_of(evidence, resource).0.changes() {
            newest.insert(change.key.clone(), (revision, change.clone()));
        }
    }
    let (mut found, mut first) = (Vec::new(), None::<Violation>);
    for (master, list) in evidence.last.iter().enumerate() {
        let there = content(list);
        for (key, (revision, change)) in &newest {
            let Some(what) = missing(key, *revision, change, there.get(key)) else { continue };
            let what = format!("{}: {what}", evidence.options.name(master));
            if first.is_none() {
                first = Some(violation::of_revision(evidence, NAME, &what, *revision, change));
            }
            found.push(what);
        }
    }
    let checked =
        format!("{} objects at the end, at {} masters", newest.len(), evidence.last.len());
    if found.is_empty() && evidence.last.len() < evidence.options.scenario.masters {
        let why = "not every master was asked at the end: the run was cut short";
        return Check::unknown(NAME, checked, why);
    }
    Check { violation: first, ..Check::broken(NAME, checked, found) }
}

/// What is wrong with an object whose last known change this is.
fn missing(
    key: &str,
    revision: Revision,
    change: &Change,
    there: Option<&Option<(Revision, u64)>>,
) -> Option<String> {
    let is_ours = Family::ALL.iter().any(|family| key.starts_with(family.prefix()));
    match there {
        _ if !is_ours => None,
        Some(None) => Some(format!("{key} has no resourceVersion")),
        Some(Some((older, _))) if *older < revision => Some(format!(
            "{key} is at {older}, and {revision} was acknowledged or sent to a watcher"
        )),
        Some(Some((same, digest))) if *same == revision && *digest != change.digest => {
            Some(format!("{key} says at {revision} what nobody had been told"))
        }
        // A later write, of which nobody had heard yet.
        Some(Some(_)) => None,
        // Registers may have been deleted since; the search for an order knows when.
        None if change.kind == Kind::Deleted || key.starts_with(Family::Register.prefix()) => None,
        None => {
            Some(format!("{key} is gone, and {revision} was acknowledged or sent to a watcher"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_there() {
        let change = |key: &str, kind| Change { key: key.to_owned(), kind, digest: 1 };
        let lost = |key, kind, there| missing(key, 5, &change(key, kind), there).is_some();
        assert!(!lost("list-1", Kind::Modified, Some(&Some((5, 1)))));
        assert!(!lost("list-1", Kind::Modified, Some(&Some((6, 2)))), "a later one");
        assert!(lost("list-1", Kind::Modified, Some(&Some((4, 1)))));
        assert!(lost("list-1", Kind::Modified, Some(&Some((5, 2)))), "the same, with other words");
        assert!(lost("set-1-7", Kind::Added, None));
        assert!(!lost("register-1", Kind::Added, None), "somebody may have deleted it");
        assert!(!lost("kube-root-ca.crt", Kind::Added, None), "not of clients");
    }
}
