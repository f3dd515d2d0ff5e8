//! Every watcher was sent every change once, in order, across masters, and bookmarks were true.
//!
//! Source: etcd's watch guarantees (ordered, unique, reliable, resumable, bookmarkable), on which Kubernetes' informers
//! build; the log of changes is put together from all that anybody was told ([`super::watch`]).

use super::watch::{Broken, Log, Sent, Watcher};
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
        broken.extend(log.check_kinds().err());
        broken.extend(watchers(evidence, resource).filter_map(|own| log.check(own).err()));
    }
    found.extend(broken.iter().map(ToString::to_string));
    for watcher in &evidence.watchers {
        let last = watcher.sent.last().map(|sent| match sent {
            Sent::Event(revision, _) | Sent::Bookmark(revision) => *revision,
        });
        if let Some(marker) = evidence.marker.filter(|to| last.unwrap_or(watcher.from) < *to) {
            let name = &watcher.name;
            found.push(format!("{name}: came to {last:?}, not to {marker}"));
        }
    }
    found.extend(evidence.refused.iter().cloned());
    let events: usize = evidence.watchers.iter().map(|watcher| watcher.sent.len()).sum();
    let checked = format!("{events} events to {} watchers", evidence.watchers.len());
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
