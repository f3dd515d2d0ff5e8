//! A write under a `resourceVersion` took effect on that version: nothing came between what its client had read and
//! what it wrote.
//!
//! Source: Kubernetes' optimistic concurrency (API concepts, "resource versions"); `reliability.md` section 8, (5): at
//! most one winner. For leases and everything else that is guarded by a `resourceVersion`, this is what fencing rests
//! on: two clients are never told that theirs is the successor of the same version.

use std::collections::BTreeMap;

use super::watch::Revision;
use super::watches::log_of;
use crate::model::Output;
use crate::real::workload::Resource;
use crate::report::violation::{self, Violation};
use crate::report::{Check, Evidence};

const NAME: &str = "conditional";

/// Fails for each conditional write whose condition did not hold.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let mut changes: BTreeMap<String, Vec<Revision>> = BTreeMap::new();
    for resource in [Resource::ConfigMaps, Resource::Leases] {
        for (revision, change) in log_of(evidence, resource).0.changes() {
            changes.entry(change.key.clone()).or_default().push(revision);
        }
    }
    let (mut checked, mut found, mut first) = (0, Vec::new(), None::<Violation>);
    for recorded in &evidence.history {
        let written = recorded.operation.output().is_some_and(Output::is_written);
        let (Some(under), Some(revision), true) = (recorded.under, recorded.revision, written)
        else {
            continue;
        };
        checked += 1;
        let object = recorded.object();
        let own = changes.get(&object).map(Vec::as_slice).unwrap_or_default();
        let after = own.partition_point(|other| *other <= under);
        let between = own.get(after).copied().filter(|other| *other < revision);
        let what = match between {
            Some(between) => {
                format!("{object} was at {between}, and an update under {under} became {revision}")
            }
            None if revision <= under => {
                format!("{object}: an update under {under} became {revision}")
            }
            None => continue,
        };
        let at = recorded.operation.returned().unwrap_or_default();
        if first.as_ref().is_none_or(|first| at < first.at) {
            first = Some(violation::around(evidence, NAME, &what, at, Some(&object)));
        }
        found.push(what);
    }
    let words = format!("{checked} updates under a resourceVersion");
    if checked == 0 {
        return Check::unknown(NAME, words, "no conditional write was acknowledged");
    }
    Check { violation: first, ..Check::broken(NAME, words, found) }
}
