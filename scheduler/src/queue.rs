//! Which pod is next, and which ones wait for what.
//!
//! A pod is *active* (tried as soon as its turn comes: by priority, then by age), in *backoff* (failed
//! a moment ago), *unschedulable* (waits for a change that could help it), *gated*, or *in flight*
//! (taken out for a decision). A value without a clock: the time comes in.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use quorate_state_machine::ObjectKey;
use tokio::time::Instant;

use crate::decide::Profile;
use crate::limits::{BACKOFF_INITIAL, BACKOFF_MAX, UNSCHEDULABLE_TIME_MAX};
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<ObjectKey, Entry>,
    active: BTreeSet<Turn>,
    backoff: BTreeSet<(Instant, ObjectKey)>,
    unschedulable: BTreeSet<(Instant, ObjectKey)>,
    gated: usize,
}

/// Order of the active pods: highest priority, then oldest.
type Turn = (Reverse<i32>, i64, ObjectKey);

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    /// When it was first seen here.
    first: Instant,
    /// Not tried again before this.
    ready: Instant,
    refused_by: BTreeSet<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    Backoff(Instant),
    Unschedulable(Instant),
    Gated,
    InFlight,
}

/// A pod that was taken out for a decision.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// Which attempt this is, from 1.
    pub number: u32,
    /// When the pod was first seen.
    pub first: Instant,
}

/// Pods by place, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// To be tried.
    pub active: usize,
    /// Failed a moment ago.
    pub backoff: usize,
    /// Wait for a change.
    pub unschedulable: usize,
    /// Wait for their gates to go.
    pub gated: usize,
}

impl Queue {
    /// Takes in a pod, or a newer version of one. A version that would be decided differently is
    /// tried again.
    pub fn put(&mut self, profile: &Profile, pod: Arc<PodInfo>, now: Instant) {
        let key = pod.key.clone();
        let gated = profile.plugins().any(|plugin| plugin.pre_enqueue(&pod).is_some());
        let known = self.entries.get(&key).is_some_and(|entry| entry.pod.uid == pod.uid);
        if !known {
            self.remove(&key);
            let entry = Entry {
                pod,
                place: Place::InFlight,
                attempts: 0,
                first: now,
                ready: now,
                refused_by: BTreeSet::new(),
            };
            self.entries.insert(key.clone(), entry);
            self.move_to(&key, if gated { Place::Gated } else { Place::Active });
            return;
        }
        let Some(entry) = self.entries.get(&key) else {
            return;
        };
        let (place, ready) = (entry.place, entry.ready);
        let differs = !entry.pod.same_for_scheduling(&pod);
        self.move_to(&key, Place::InFlight);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.pod = pod;
        }
        let to = match place {
            _ if gated => Place::Gated,
            Place::Gated => Place::Active,
            Place::Unschedulable(_) if differs => waiting(ready, now),
            Place::Active | Place::Backoff(_) | Place::Unschedulable(_) => place,
            Place::InFlight => Place::Active,
        };
        self.move_to(&key, to);
    }

    /// Forgets a pod: it is bound, gone, or somebody else's.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.move_to(key, Place::InFlight);
        self.entries.remove(key);
    }

    /// The next pod to try. It is in flight until [`Queue::refused`], [`Queue::again`],
    /// [`Queue::put`] or [`Queue::remove`] says what became of it.
    pub fn pop(&mut self, now: Instant) -> Option<Attempt> {
        self.flush_backoff(now);
        let (_, _, key) = self.active.first()?.clone();
        self.move_to(&key, Place::InFlight);
        let entry = self.entries.get_mut(&key)?;
        entry.attempts += 1;
        Some(Attempt { pod: entry.pod.clone(), number: entry.attempts, first: entry.first })
    }

    /// No node can run the pod: it waits until something that could help it changes.
    pub fn refused(&mut self, key: &ObjectKey, by: BTreeSet<&'static str>, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.refused_by = by;
        entry.ready = now + backoff(entry.attempts);
        self.move_to(key, Place::Unschedulable(now));
    }

    /// The decision could not be carried out: the pod is tried again, after its backoff unless it
    /// was only overtaken by a change (each needs a foreign write, so this cannot spin).
    pub fn again(&mut self, key: &ObjectKey, overtaken: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.place != Place::InFlight {
            return;
        }
        entry.ready = if overtaken { now } else { now + backoff(entry.attempts) };
        let ready = entry.ready;
        self.move_to(key, waiting(ready, now));
    }

    /// Wakes the pods that one of the changes could help; `view` has the changes in it. Gives back
    /// how many.
    pub fn wake(
        &mut self,
        profile: &Profile,
        view: &ClusterView,
        changes: &mut Vec<Change>,
        now: Instant,
    ) -> usize {
        changes.sort_unstable();
        changes.dedup();
        if changes.is_empty() {
            return 0;
        }
        let helped: Vec<ObjectKey> = self
            .unschedulable
            .iter()
            .filter_map(|(_, key)| self.entries.get(key))
            .filter(|entry| entry.helped_by(profile, view, changes))
            .map(|entry| entry.pod.key.clone())
            .collect();
        for key in &helped {
            self.wake_one(key, now);
        }
        helped.len()
    }

    /// Wakes the pods that nothing woke for [`UNSCHEDULABLE_TIME_MAX`]. Gives back how many.
    pub fn flush(&mut self, now: Instant) -> usize {
        let mut woken = 0;
        while let Some((since, key)) = self.unschedulable.first().cloned() {
            if since + UNSCHEDULABLE_TIME_MAX > now {
                break;
            }
            self.wake_one(&key, now);
            woken += 1;
        }
        woken
    }

    /// When something is to be done without anything changing.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let backoff = self.backoff.first().map(|(ready, _)| *ready);
        let unschedulable = self.unschedulable.first();
        let flush = unschedulable.map(|(since, _)| *since + UNSCHEDULABLE_TIME_MAX);
        backoff.into_iter().chain(flush).min()
    }

    /// Pods by place.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            active: self.active.len(),
            backoff: self.backoff.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.gated,
        }
    }

    fn wake_one(&mut self, key: &ObjectKey, now: Instant) {
        if let Some(entry) = self.entries.get(key) {
            let to = waiting(entry.ready, now);
            self.move_to(key, to);
        }
    }

    fn flush_backoff(&mut self, now: Instant) {
        while let Some((ready, key)) = self.backoff.first().cloned() {
            if ready > now {
                break;
            }
            self.move_to(&key, Place::Active);
        }
    }

    fn move_to(&mut self, key: &ObjectKey, to: Place) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let turn = (Reverse(entry.pod.priority), entry.pod.created_ms, key.clone());
        match entry.place {
            Place::Active => drop(self.active.remove(&turn)),
            Place::Backoff(at) => drop(self.backoff.remove(&(at, key.clone()))),
            Place::Unschedulable(at) => drop(self.unschedulable.remove(&(at, key.clone()))),
            Place::Gated => self.gated -= 1,
            Place::InFlight => {}
        }
        entry.place = to;
        match to {
            Place::Active => drop(self.active.insert(turn)),
            Place::Backoff(at) => drop(self.backoff.insert((at, key.clone()))),
            Place::Unschedulable(at) => drop(self.unschedulable.insert((at, key.clone()))),
            Place::Gated => self.gated += 1,
            Place::InFlight => {}
        }
    }
}

impl Entry {
    fn helped_by(&self, profile: &Profile, view: &ClusterView, changes: &[Change]) -> bool {
        if self.refused_by.is_empty() {
            // There was no node at all.
            return changes.iter().any(|change| matches!(change, Change::Node { .. }));
        }
        // One plugin that may accept now is enough to try: the others may have refused other nodes.
        self.refused_by.iter().any(|name| {
            profile.plugin(name).is_none_or(|plugin| {
                changes.iter().any(|change| plugin.could_help(view, &self.pod, change))
            })
        })
    }
}

fn waiting(ready: Instant, now: Instant) -> Place {
    if ready > now { Place::Backoff(ready) } else { Place::Active }
}

/// 1 s, 2 s, 4 s, 8 s, 10 s, …
fn backoff(attempts: u32) -> std::time::Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    BACKOFF_INITIAL.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}
