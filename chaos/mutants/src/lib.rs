//! Bugs on purpose: real ones of systems like this, each behind [`is`], which is `false` unless the feature `on` was
//! chosen, and that only tests and `cargo xtask chaos-mutants` do. A harness that does not find them proves nothing.
//!
//! One thread has one mutant, so that several simulations can run beside each other; a process gets its own from the
//! environment variable `QUORATE_MUTANT`.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Entries are acknowledged before they are on disk (etcd with `--unsafe-no-fsync`).
    AckBeforeSync,
    /// A vote is given before it is on disk.
    VoteBeforeSync,
    /// A vote is forgotten at a restart.
    ForgetVote,
    /// Every candidate gets every vote, whatever its log has and who else got it.
    VoteTwice,
    /// A follower that was not reached counts as one that has the entries.
    MinorityCommit,
    /// The last two of five voters count as having what only two others have (openraft #1802).
    SmallQuorumOfFive,
    /// A leader answers reads without asking whether it still leads.
    ReadWithoutQuorum,
    /// A read index of an earlier round serves a later read (etcd #20418).
    ReadIndexReused,
    /// A read does not wait until its index is applied.
    ReadBeforeApply,
    /// A linearizable read is answered from what is there.
    StaleRead,
    /// The first entry after a snapshot is not applied (etcd's data inconsistency of 3.5).
    SkipAfterSnapshot,
    /// A snapshot does not hold the answers to retried proposals.
    SessionsNotInSnapshot,
    /// A snapshot does not hold the changes that watchers resume from.
    HistoryNotInSnapshot,
    /// After a snapshot the revision is that of the newest object (etcd #17780).
    RevisionFromObjects,
    /// A retried proposal is executed again.
    ExecutedTwice,
    /// A write whose fate is unknown is answered as not written.
    PerhapsIsNotSent,
    /// An update does not compare the revision that it was made from.
    ConflictIgnored,
    /// An update that arrives after the deletion makes the object again.
    UpdateRevives,
    /// A deletion gets no revision of its own.
    DeleteWithoutRevision,
    /// One master in many applies an entry otherwise than the others.
    StateDiffers,
    /// A watch that is resumed begins one revision late.
    WatchSkipsAfterResume,
    /// A watch at a master that is behind goes back to where that is (etcd #15271, #20221).
    WatchGoesBack,
    /// Damage of a record is not noticed.
    ChecksumIgnored,
    /// A compaction takes one change more than it says (etcd #18089).
    WatchLosesAtCompaction,
    /// A master that has lost its disk comes back under the number that it had.
    ReuseNodeId,
    /// A master that joins votes before it has anything.
    LearnerVotes,
    /// A membership change that a dead leader left half done is left so by the next one.
    JointLeft,
    /// A master that was made a standby goes on voting.
    DemotedVotes,
    /// A master that was removed, and knows it, starts again on what it has.
    RemovedReturns,
    /// A master whose files are of an earlier time is taken for one that has forgotten nothing.
    OldCopyAccepted,
    /// A cluster that is made of a backup goes on from the revision that the backup has.
    RestoreLowersRevision,
    /// A cluster that is made of a backup lets watches go on that know another future.
    RestoreKeepsPast,
    /// A cluster that is made of what a survivor has takes its snapshot, and not the log after it.
    RecoverSnapshotOnly,
    /// A new leader's scheduler takes pods that are bound for pods that are not.
    BindTwice,
    /// A new leader's controllers look only at what changes from then on.
    LeaderForgets,
}

impl Mutant {
    /// All of them with their names.
    pub const ALL: &[(Self, &str)] = &[
        (Self::AckBeforeSync, "ack-before-sync"),
        (Self::VoteBeforeSync, "vote-before-sync"),
        (Self::ForgetVote, "forget-vote"),
        (Self::VoteTwice, "vote-twice"),
        (Self::MinorityCommit, "minority-commit"),
        (Self::SmallQuorumOfFive, "small-quorum-of-five"),
        (Self::ReadWithoutQuorum, "read-without-quorum"),
        (Self::ReadIndexReused, "read-index-reused"),
        (Self::ReadBeforeApply, "read-before-apply"),
        (Self::StaleRead, "stale-read"),
        (Self::SkipAfterSnapshot, "skip-after-snapshot"),
        (Self::SessionsNotInSnapshot, "sessions-not-in-snapshot"),
        (Self::HistoryNotInSnapshot, "history-not-in-snapshot"),
        (Self::RevisionFromObjects, "revision-from-objects"),
        (Self::ExecutedTwice, "executed-twice"),
        (Self::PerhapsIsNotSent, "perhaps-is-not-sent"),
        (Self::ConflictIgnored, "conflict-ignored"),
        (Self::UpdateRevives, "update-revives"),
        (Self::DeleteWithoutRevision, "delete-without-revision"),
        (Self::StateDiffers, "state-differs"),
        (Self::WatchSkipsAfterResume, "watch-skips-after-resume"),
        (Self::WatchGoesBack, "watch-goes-back"),
        (Self::ChecksumIgnored, "checksum-ignored"),
        (Self::WatchLosesAtCompaction, "watch-loses-at-compaction"),
        (Self::ReuseNodeId, "reuse-node-id"),
        (Self::LearnerVotes, "learner-votes"),
        (Self::JointLeft, "joint-left"),
        (Self::DemotedVotes, "demoted-votes"),
        (Self::RemovedReturns, "removed-returns"),
        (Self::OldCopyAccepted, "old-copy-accepted"),
        (Self::RestoreLowersRevision, "restore-lowers-revision"),
        (Self::RestoreKeepsPast, "restore-keeps-past"),
        (Self::RecoverSnapshotOnly, "recover-snapshot-only"),
        (Self::BindTwice, "bind-twice"),
        (Self::LeaderForgets, "leader-forgets"),
    ];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, own)| *own == name).map(|(mutant, _)| *mutant)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(mutant, _)| *mutant == self).map_or("", |(_, name)| name)
    }

    /// Whether only clusters with nodes show it.
    #[must_use]
    pub fn needs_nodes(self) -> bool {
        matches!(self, Self::BindTwice | Self::LeaderForgets)
    }

    /// What it does wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::AckBeforeSync => {
                "Entries are acknowledged before they are on disk (etcd with `--unsafe-no-fsync`)"
            }
            Self::VoteBeforeSync => "A vote is given before it is on disk",
            Self::ForgetVote => "A vote is forgotten at a restart",
            Self::VoteTwice => {
                "Every candidate gets every vote, whatever its log has and who else got it"
            }
            Self::MinorityCommit => {
                "A follower that was not reached counts as one that has the entries"
            }
            Self::SmallQuorumOfFive => {
                "The last two of five voters count as having what only two others have (openraft #1802)"
            }
            Self::ReadWithoutQuorum => {
                "A leader answers reads without asking whether it still leads"
            }
            Self::ReadIndexReused => {
                "A read index of an earlier round serves a later read (etcd #20418)"
            }
            Self::ReadBeforeApply => "A read does not wait until its index is applied",
            Self::StaleRead => "A linearizable read is answered from what is there",
            Self::SkipAfterSnapshot => {
                "The first entry after a snapshot is not applied (etcd's data inconsistency of 3.5)"
            }
            Self::SessionsNotInSnapshot => {
                "A snapshot does not hold the answers to retried proposals"
            }
            Self::HistoryNotInSnapshot => {
                "A snapshot does not hold the changes that watchers resume from"
            }
            Self::RevisionFromObjects => {
                "After a snapshot the revision is that of the newest object (etcd #17780)"
            }
            Self::ExecutedTwice => "A retried proposal is executed again",
            Self::PerhapsIsNotSent => "A write whose fate is unknown is answered as not written",
            Self::ConflictIgnored => {
                "An update does not compare the revision that it was made from"
            }
            Self::UpdateRevives => {
                "An update that arrives after the deletion makes the object again"
            }
            Self::DeleteWithoutRevision => "A deletion gets no revision of its own",
            Self::StateDiffers => "One master in many applies an entry otherwise than the others",
            Self::WatchSkipsAfterResume => "A watch that is resumed begins one revision late",
            Self::WatchGoesBack => {
                "A watch at a master that is behind goes back to where that is (etcd #15271, #20221)"
            }
            Self::ChecksumIgnored => "Damage of a record is not noticed",
            Self::WatchLosesAtCompaction => {
                "A compaction takes one change more than it says (etcd #18089)"
            }
            Self::BindTwice => {
                "A new leader's scheduler takes pods that are bound for pods that are not"
            }
            Self::LeaderForgets => {
                "A new leader's controllers look only at what changes from then on"
            }
            other => other.what_of_members(),
        }
    }

    /// The same, of those who come and go.
    fn what_of_members(self) -> &'static str {
        match self {
            Self::ReuseNodeId => {
                "A master that has lost its disk comes back under the number that it had"
            }
            Self::LearnerVotes => "A master that joins votes before it has anything",
            Self::JointLeft => {
                "A membership change that a dead leader left half done is left so by the next one"
            }
            Self::DemotedVotes => "A master that was made a standby goes on voting",
            Self::RemovedReturns => {
                "A master that was removed, and knows it, starts again on what it has"
            }
            Self::OldCopyAccepted => {
                "A master whose files are of an earlier time is taken for one that has forgotten nothing"
            }
            Self::RestoreLowersRevision => {
                "A cluster that is made of a backup goes on from the revision that the backup has"
            }
            Self::RecoverSnapshotOnly => {
                "A cluster that is made of what a survivor has takes its snapshot, and not the log after it"
            }
            _ => "A cluster that is made of a backup lets watches go on that know another future",
        }
    }
}

#[cfg(not(feature = "on"))]
mod chosen {
    use super::Mutant;

    /// Whether this bug is there. It is not.
    #[inline(always)]
    #[must_use]
    pub fn is(_: Mutant) -> bool {
        false
    }

    /// Notes that what this bug waits for has happened.
    #[inline(always)]
    pub fn arm(_: Mutant) {}

    /// Whether it has happened since this was asked last. It has not.
    #[inline(always)]
    #[must_use]
    pub fn armed(_: Mutant) -> bool {
        false
    }

    /// Whether this is one time in so many. It is not.
    #[inline(always)]
    #[must_use]
    pub fn one_in(_: Mutant, _: u64) -> bool {
        false
    }
}

#[cfg(feature = "on")]
mod chosen {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = Cell::new(
            std::env::var("QUORATE_MUTANT").ok().and_then(|name| Mutant::named(&name)),
        );
        static ARMED: Cell<bool> = const { Cell::new(false) };
        static TIMES: Cell<u64> = const { Cell::new(0) };
    }

    /// This thread has this bug from now on, or none.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
        ARMED.set(false);
        TIMES.set(0);
    }

    /// Whether this bug is there.
    #[must_use]
    pub fn is(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }

    /// Notes that what this bug waits for has happened.
    pub fn arm(mutant: Mutant) {
        if is(mutant) {
            ARMED.set(true);
        }
    }

    /// Whether it has happened since this was asked last.
    #[must_use]
    pub fn armed(mutant: Mutant) -> bool {
        is(mutant) && ARMED.replace(false)
    }

    /// Whether this is one time in so many.
    #[must_use]
    pub fn one_in(mutant: Mutant, many: u64) -> bool {
        if !is(mutant) {
            return false;
        }
        TIMES.set(TIMES.get() + 1);
        TIMES.get().is_multiple_of(many)
    }
}

pub use chosen::*;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_name_and_says_what_it_does() {
        let mut names: Vec<_> = Mutant::ALL.iter().map(|(_, name)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Mutant::ALL.len());
        for (mutant, name) in Mutant::ALL {
            assert_eq!(Mutant::named(name), Some(*mutant));
            assert_eq!(mutant.name(), *name);
            assert!(!mutant.what().is_empty());
        }
    }
}
