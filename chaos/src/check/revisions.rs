//! Revisions go up: one revision is one write, and nobody is told an older one after a newer one was told to anybody.
//!
//! Source: etcd's revisions, and `reliability.md` section 8, 7: "resourceVersion strictly increasing, one RV = one
//! write, never decreases". Reads here are linearizable, so this holds across clients and masters and over restarts: a
//! write that was called after an answer with revision R has a greater one than R, a list none that is smaller. (The
//! revision of a single object is that of its last change, and says nothing about the store.) Each master's own
//! revision, as its status tells it, does not go back while its process lives.

use std::collections::BTreeMap;

use super::watch::Revision;
use crate::history::Tick;
use crate::model::{Input, Output, SetInput};
use crate::real::workload::Recorded;
use crate::report::violation::{self, Violation};
use crate::report::{Check, Evidence};

const NAME: &str = "revisions";

/// Fails for each revision that was given twice or that came too late.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let (mut found, mut first) = (Vec::new(), None::<Violation>);
    let mut seen: BTreeMap<Revision, &str> = BTreeMap::new();
    for (revision, change) in &evidence.acknowledged {
        if let Some(other) = seen.insert(*revision, &change.key) {
            let what =
                format!("revision {revision} was given twice, to {other} and to {}", change.key);
            if first.is_none() {
                first = Some(violation::of_revision(evidence, NAME, &what, *revision, change));
            }
            found.push(what);
        }
    }
    let (told, back) = in_time(evidence);
    for (recorded, what) in back {
        let at = recorded.operation.returned().unwrap_or_default();
        if first.as_ref().is_none_or(|first| at < first.at) {
            let object = recorded.object();
            first = Some(violation::around(evidence, NAME, &what, at, Some(&object)));
        }
        found.push(what);
    }
    found.extend(evidence.observed.back.iter().cloned());
    let checked = format!("{} acknowledged writes, {told} answers with a revision", seen.len());
    if evidence.acknowledged.is_empty() && found.is_empty() {
        return Check::unknown(NAME, checked, "no write was acknowledged");
    }
    Check { violation: first, ..Check::broken(NAME, checked, found) }
}

/// How many answers had a revision, and those whose revision was too old for the time of their call.
fn in_time(evidence: &Evidence) -> (usize, Vec<(&Recorded, String)>) {
    let told: Vec<(&Recorded, Tick, Revision)> = evidence
        .history
        .iter()
        .filter_map(|found| Some((found, found.operation.returned()?, found.revision?)))
        .collect();
    // What had been told to anybody, by the time at which it was known.
    let mut known: Vec<(Tick, Revision)> = told.iter().map(|(_, at, told)| (*at, *told)).collect();
    known.sort_unstable();
    let mut newest = 0;
    for (_, revision) in &mut known {
        newest = newest.max(*revision);
        *revision = newest;
    }
    let mut back = Vec::new();
    for (recorded, _, revision) in &told {
        let called = recorded.operation.called;
        let before = known.partition_point(|(at, _)| *at < called);
        let Some((_, newest)) = before.checked_sub(1).and_then(|index| known.get(index)) else {
            continue;
        };
        let is_write = recorded.operation.output().is_some_and(Output::is_written);
        let is_list = recorded.operation.input == Input::Set(SetInput::Read);
        if (is_write && revision <= newest) || (is_list && revision < newest) {
            let what = format!(
                "revision {revision} after {newest} had been told: {}",
                violation::sentence(evidence, recorded)
            );
            back.push((*recorded, what));
        }
    }
    (told.len(), back)
}
