//! Whether the state of this master is what was decided (design, section 4, "Bit rot"): what it remembers of its hashes,
//! so that masters can compare at an equal index, and whether it is out of service because it differs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use quorate_raft::NodeId;
use quorate_state_machine::View;
use serde::{Deserialize, Serialize};

use crate::limits::{SAMPLE_EVERY, SAMPLES_MAX};

/// What the state was at one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The last entry that was applied.
    pub(crate) index: u64,
    /// The last revision.
    pub(crate) revision: u64,
    /// Of all objects, in two halves: JSON has no larger numbers.
    pub(crate) hash: (u64, u64),
}

impl Sample {
    pub(crate) fn of(view: &View) -> Self {
        let [high, low] = [view.hash() >> 64, view.hash() & u128::from(u64::MAX)];
        let half = |half: u128| u64::try_from(half).unwrap_or_default();
        Self { index: view.index().0, revision: view.revision().0, hash: (half(high), half(low)) }
    }
}

/// What may be wrong while the state itself is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Problem {
    /// A snapshot or the log was damaged, and is not known to be whole again.
    Files,
    /// The masters differ, and nobody can say who is right.
    Undecided,
}

/// See the module. One for each master.
#[derive(Debug, Default)]
pub(crate) struct Integrity {
    samples: Mutex<VecDeque<Sample>>,
    /// Why this master is out of service.
    damage: Mutex<Option<String>>,
    /// What is wrong beside that: nobody is served from it.
    problems: Mutex<BTreeMap<Problem, String>>,
    /// Rises when it goes out of service: who was served before must begin anew.
    epoch: AtomicU64,
}

impl Integrity {
    /// Remembers what the state is now, at some indexes: the same ones on all masters.
    pub(crate) fn applied(&self, view: &View) {
        if !view.index().0.is_multiple_of(SAMPLE_EVERY) {
            return;
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(Sample::of(view));
    }

    /// Another state was taken over: what was remembered is of the one before.
    pub(crate) fn replaced(&self) {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Everything that is remembered, and what the state is now.
    pub(crate) fn samples(&self, view: &View) -> Vec<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().copied().chain([Sample::of(view)]).collect()
    }

    /// Why this master is out of service.
    pub(crate) fn damage(&self) -> Option<String> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Out of service, or back.
    pub(crate) fn set_damage(&self, damage: Option<String>) {
        if damage.is_some() {
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = damage;
    }

    /// Everything that is wrong, in words.
    pub(crate) fn all(&self) -> Vec<String> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        self.damage().into_iter().chain(problems.values().cloned()).collect()
    }

    pub(crate) fn has(&self, problem: Problem) -> bool {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&problem)
    }

    /// Something is wrong, or no longer.
    pub(crate) fn set(&self, problem: Problem, why: Option<String>) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => problems.insert(problem, why),
            None => problems.remove(&problem),
        };
    }
}

/// What a comparison of the masters came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No two of them differ where they can be compared.
    Agree,
    /// Most agree, these differ.
    Culprits {
        /// Where.
        index: u64,
        /// Who differs.
        culprits: BTreeSet<NodeId>,
        /// Who agrees with most.
        good: BTreeSet<NodeId>,
    },
    /// They differ, and no majority says what is right.
    Undecided {
        /// Where.
        index: u64,
        /// Who says the same, each.
        groups: Vec<BTreeSet<NodeId>>,
    },
}

/// Compares what masters remember at the newest index that most of them do. Of those who do not vote nobody takes a
/// word, but they are told when they differ.
pub(crate) fn compare(said: &BTreeMap<NodeId, Vec<Sample>>, voters: &BTreeSet<NodeId>) -> Verdict {
    let mut by_index: BTreeMap<u64, BTreeMap<NodeId, Sample>> = BTreeMap::new();
    for (node, samples) in said {
        for sample in samples {
            by_index.entry(sample.index).or_default().insert(*node, *sample);
        }
    }
    // The most, and of these the newest.
    let Some((index, samples)) = by_index.iter().max_by_key(|(index, all)| (all.len(), **index))
    else {
        return Verdict::Agree;
    };
    let mut groups: BTreeMap<Sample, BTreeSet<NodeId>> = BTreeMap::new();
    for (node, sample) in samples {
        groups.entry(*sample).or_default().insert(*node);
    }
    if groups.len() < 2 {
        return Verdict::Agree;
    }
    let index = *index;
    let most = |group: &&BTreeSet<NodeId>| 2 * group.intersection(voters).count() > voters.len();
    match groups.values().find(most) {
        Some(good) => {
            let good = good.clone();
            let others = groups.into_values().filter(|group| *group != good);
            Verdict::Culprits { index, culprits: others.flatten().collect(), good }
        }
        None => Verdict::Undecided { index, groups: groups.into_values().collect() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(index: u64, hash: u64) -> Sample {
        Sample { index, revision: index, hash: (0, hash) }
    }

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn judged(said: &[(u64, &[(u64, u64)])], voters: &[u64]) -> Verdict {
        let samples =
            |all: &[(u64, u64)]| all.iter().map(|(at, hash)| sample(*at, *hash)).collect();
        let said = said.iter().map(|(id, all)| (NodeId(*id), samples(all))).collect();
        compare(&said, &nodes(voters))
    }

    #[test]
    fn the_majority_names_the_culprit() {
        let said: &[(u64, &[(u64, u64)])] =
            &[(1, &[(64, 1), (70, 5)]), (2, &[(64, 1), (68, 3)]), (3, &[(64, 9), (70, 5)])];
        let culprits = Verdict::Culprits { index: 64, culprits: nodes(&[3]), good: nodes(&[1, 2]) };
        assert_eq!(judged(said, &[1, 2, 3]), culprits);
        let same: &[(u64, &[(u64, u64)])] = &[(1, &[(64, 1)]), (2, &[(64, 1)]), (3, &[(65, 9)])];
        assert_eq!(judged(same, &[1, 2, 3]), Verdict::Agree, "never at one index");
        assert_eq!(judged(&[], &[1]), Verdict::Agree);
    }

    #[test]
    fn without_a_majority_of_the_voters_nobody_is_named() {
        let two: &[(u64, &[(u64, u64)])] = &[(1, &[(64, 1)]), (2, &[(64, 2)])];
        let undecided = Verdict::Undecided { index: 64, groups: vec![nodes(&[1]), nodes(&[2])] };
        assert_eq!(judged(two, &[1, 2]), undecided);
        // One is silent, and two of three voters are needed; a learner has no word.
        assert_eq!(judged(two, &[1, 2, 3]), undecided);
        let learner: &[(u64, &[(u64, u64)])] = &[(1, &[(64, 1)]), (2, &[(64, 2)]), (4, &[(64, 2)])];
        assert!(matches!(judged(learner, &[1, 2, 3]), Verdict::Undecided { .. }));
        let alone: &[(u64, &[(u64, u64)])] = &[(1, &[(64, 1)]), (4, &[(64, 2)])];
        let culprits = Verdict::Culprits { index: 64, culprits: nodes(&[4]), good: nodes(&[1]) };
        assert_eq!(judged(alone, &[1]), culprits);
    }
}
