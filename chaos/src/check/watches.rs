//! Every watcher was sent every change once, in order, across masters, and bookmarks were true; history was said to be
//! gone only where it was.
//!
//! Source: etcd's watch guarantees (ordered, unique, reliable, resumable, bookmarkable), on which Kubernetes' informers
//! build; the log of changes is put together from all that anybody was told ([`super::watch`]). Who was told 410 Gone
//! lists and goes on from there (client-go's reflector); Kubernetes' compactor keeps the history of five minutes, and
//! masters less only of what is much: so a 410 needs a master that shows that it has forgotten more than was asked for,
//! and a reason for which it may.

use std::time::Duration;

use super::watch::{Broken, Gone, Log, Watcher};
use crate::history::Tick;
use crate::limits::{HISTORY_CHANGES_MIN, HISTORY_KEPT_MIN};
use crate::real::workload::Resource;
use crate::report::violation::{self, Violation};
use crate::report::{Check, Evidence};

const NAME: &str = "watches";

/// Fails for each broken promise; unknown when it is not known how far the watchers had to come.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let mut found = Vec::new();
    let mut broken: Vec<Broken> = Vec::new();
    for resource in [Resource::ConfigMaps, Resource::Leases] {
        let (log, told) = log_of(evidence, resource);
        broken.extend(told);
        let is_whole = watchers(evidence, resource).any(|watcher| watcher.relists.is_empty());
        // What nobody was sent is not known, and who began anew is not blamed for it.
        broken.extend(log.check_kinds().err().filter(|_| is_whole));
        let own = watchers(evidence, resource).filter(|own| is_whole || own.relists.is_empty());
        broken.extend(own.filter_map(|own| log.check(own).err()));
        found.extend(unjustified(evidence, resource, log.len()));
    }
    found.extend(broken.iter().map(ToString::to_string));
    for watcher in &evidence.watchers {
        let last = watcher.last();
        if let Some(marker) = evidence.marker.filter(|to| last < *to) {
            let name = &watcher.name;
            found.push(format!("{name}: came to {last}, not to {marker}"));
        }
    }
    found.extend(evidence.refused.iter().cloned());
    let events: usize = evidence.watchers.iter().map(|watcher| watcher.sent.len()).sum();
    let gone: usize = evidence.watchers.iter().map(|watcher| watcher.gone.len()).sum();
    let gone = if gone == 0 { String::new() } else { format!(", {gone} times 410") };
    let checked = format!("{events} events to {} watchers{gone}", evidence.watchers.len());
    if found.is_empty() && evidence.marker.is_none() {
        let why = "how far they had to come is not known: the run was cut short";
        return Check::unknown(NAME, checked, why);
    }
    if evidence.watchers.is_empty() {
        return Check::unknown(NAME, checked, "nobody watched");
    }
    let places = broken.iter().map(|broken| violation::of_watch(evidence, broken));
    let violation: Option<Violation> = places.min_by_key(|violation| violation.at);
    Check { violation, ..Check::broken(NAME, checked, found) }
}

/// Who was told that history is gone, and could not be.
fn unjustified(evidence: &Evidence, resource: Resource, changes: usize) -> Vec<String> {
    // These faults write so much that history is cut by its size.
    let is_filled = resource == Resource::ConfigMaps
        && evidence.injected.iter().any(|injected| injected.fault.waits());
    let is_left_out = resource == Resource::ConfigMaps
        && evidence.skipped.iter().any(|skipped| skipped.fault.waits());
    let has_reason = |at: Tick| {
        is_filled
            || is_left_out
            || changes >= HISTORY_CHANGES_MIN
            || Duration::from_nanos(at) >= HISTORY_KEPT_MIN
    };
    let mut found = Vec::new();
    for watcher in watchers(evidence, resource) {
        for Gone { at, asked, forgotten } in &watcher.gone {
            let name = &watcher.name;
            let told = format!("{name}: 410 for a watch from {asked}");
            match forgotten {
                Some(forgotten) if forgotten > asked && has_reason(*at) => {}
                Some(forgotten) if forgotten > asked => found
                    .push(format!("{told}: {forgotten} was forgotten, and nothing asked for that")),
                Some(forgotten) => {
                    found.push(format!("{told}, and no more than {forgotten} was forgotten"));
                }
                None => found.push(format!("{told}, and nobody said what was forgotten")),
            }
        }
    }
    found
}

fn watchers(evidence: &Evidence, resource: Resource) -> impl Iterator<Item = &Watcher> {
    let all = evidence.watchers.iter().enumerate();
    all.filter(move |(index, _)| {
        evidence.resources.get(*index).copied().unwrap_or_default() == resource
    })
    .map(|(_, watcher)| watcher)
}

/// All changes of a kind of objects that anybody was told of, and where two were told different things.
pub(super) fn log_of(evidence: &Evidence, resource: Resource) -> (Log, Vec<Broken>) {
    let (mut log, mut broken) = (Log::default(), Vec::new());
    for watcher in watchers(evidence, resource) {
        broken.extend(log.tell_all(watcher).err());
    }
    for (revision, change) in &evidence.acknowledged {
        if Resource::of_object(&change.key) == resource {
            broken.extend(log.tell(*revision, change.clone()).err());
        }
    }
    (log, broken)
}
