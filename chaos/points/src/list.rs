//! The list of all points.

use std::fmt;

/// Who passes a point in any run under load, within a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Every master.
    Everybody,
    /// The leader.
    Leader,
    /// Those who do not lead.
    Followers,
    /// Nobody: something has to happen first.
    Nobody,
    /// Who starts.
    Starting,
}

macro_rules! points {
    ($($point:ident = $name:literal, $who:ident, $what:literal;)*) => {
        /// A place in the code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $(#[doc = $what] $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Its name: the part of the program, a dot, and where it is there.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }

            /// What has happened there, and what has not.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$point => $what,)*
                }
            }

            /// Who passes it.
            #[must_use]
            pub fn who(self) -> Who {
                match self {
                    $(Self::$point => Who::$who,)*
                }
            }
        }
    };
}

points! {
    LogOpened = "log.opened", Starting,
        "the log is read and checked, and nobody hears of this master yet";
    LogBeforeWrite = "log.before-write", Everybody,
        "a group of changes to the log is put together, and nothing of it is written";
    LogBeforeSync = "log.before-sync", Everybody,
        "a group is written to the log's store, which has not synced it";
    LogStoreFlushed = "log.store-flushed", Everybody,
        "the log's store has written its buffers, and the disk has not synced them";
    LogAfterSync = "log.after-sync", Everybody,
        "a group is synced, and the witness beside the log does not know";
    LogBeforeAnswer = "log.before-answer", Everybody,
        "the witness knows of a group, and Raft is not told that it is safe";
    LogTruncation = "log.truncation", Nobody,
        "entries that conflict with the leader's are gone in memory, and still on disk";
    LogPurge = "log.purge", Nobody,
        "entries before a snapshot are gone in memory, and still on disk";
    LogMarkerWritten = "log.marker-written", Nobody,
        "the mark of a truncation or a purge is written, and not synced";
    LogSweep = "log.sweep", Nobody,
        "some records of purged entries are removed, and that is not synced";
    LogSuperseded = "log.superseded", Nobody,
        "a start has found a log that conflicts with its snapshot, and not dropped it yet";
    VoteBeforeWrite = "vote.before-write", Nobody,
        "a vote or a term is decided on, and not written";
    VoteBeforeSync = "vote.before-sync", Nobody,
        "a vote or a term is written, and not synced";
    VoteBeforeAnswer = "vote.before-answer", Nobody,
        "a vote or a term is on disk, and nobody is told";
    AppendBeforeAnswer = "append.before-answer", Followers,
        "the leader's entries are on disk here, and it is not told";
    ApplyBeforeBatch = "apply.before-batch", Everybody,
        "entries are committed, and not applied";
    ApplyBetween = "apply.between", Everybody,
        "an entry of a batch is applied, and the next one is not, or nothing is published";
    ApplyBeforeAnswer = "apply.before-answer", Everybody,
        "a batch is applied and published, and who waits for it is not told";
    ApplyAfterAnswer = "apply.after-answer", Everybody,
        "a batch is applied, and who waited for it is told";
    CompactionBefore = "compaction.before", Nobody,
        "a compaction of the history is committed, and not applied";
    CompactionAfter = "compaction.after", Nobody,
        "a compaction of the history is applied, and not published";
    SnapshotBeforeWrite = "snapshot.before-write", Nobody,
        "the state for a snapshot is taken, and nothing of it is written";
    SnapshotHalfWritten = "snapshot.half-written", Nobody,
        "a snapshot has its state, and not its end";
    SnapshotBeforeRename = "snapshot.before-rename", Nobody,
        "a snapshot is complete and synced, and not there under its name";
    SnapshotAfterRename = "snapshot.after-rename", Nobody,
        "a snapshot has its name, and its directory is not synced";
    SnapshotBeforeRemoval = "snapshot.before-removal", Nobody,
        "a new snapshot is there, and an old one not removed yet";
    SnapshotHalfReceived = "snapshot.half-received", Nobody,
        "half of a snapshot from the leader has come";
    SnapshotReceived = "snapshot.received", Nobody,
        "all of a snapshot from the leader has come, and it is not checked";
    SnapshotBeforeRestore = "snapshot.before-restore", Nobody,
        "a snapshot from the leader is the newest file, and the state machine is still the old one";
    SnapshotAfterRestore = "snapshot.after-restore", Nobody,
        "the state machine is that of a snapshot from the leader, and Raft is not told";
    LeaderElected = "leader.elected", Nobody,
        "a majority has voted for this master, whose first entry is not applied";
    LeaderReady = "leader.ready", Nobody,
        "the first entry of a new leader is applied, and nothing was started or written under its leadership";
    LeaderSteppedDown = "leader.stepped-down", Nobody,
        "this master has learned that it leads no more, and what it ran as leader runs on";
    LeaderRoles = "leader.roles", Nobody,
        "a new leader is about to start its scheduler and controllers";
    ProposalBeforeLog = "proposal.before-log", Leader,
        "a write is accepted, and not in the leader's log";
    ProposalBeforeAnswer = "proposal.before-answer", Leader,
        "a write is committed and applied on the leader, and who asked is not told";
    ForwardBeforeAnswer = "forward.before-answer", Leader,
        "a write that another master has forwarded is applied, and that master is not told";
    ReadConfirmed = "read.confirmed", Leader,
        "a majority has confirmed the leader for a read, and who reads is not told";
    MembershipNumbered = "membership.numbered", Nobody,
        "a new master has its number, and is no member";
    MembershipLearner = "membership.learner", Nobody,
        "a new master is a learner, and does not know its number";
    MembershipBeforePromotion = "membership.before-promotion", Nobody,
        "a learner has caught up, and its promotion is not begun";
    MembershipBeforeRemoval = "membership.before-removal", Nobody,
        "a master may be removed, and its removal is not begun";
    MembershipApplied = "membership.applied", Nobody,
        "a change of the members is committed, joint or not, and not applied here";
    MembershipFinish = "membership.finish", Nobody,
        "a leader is about to finish the joint membership that another left";
    JoinAdmitted = "join.admitted", Nobody,
        "a joining master is told its number, and has written nothing of it";
    JoinKeysWritten = "join.keys-written", Nobody,
        "a new master has written its keys, and not who it is";
    WatchBeforeSend = "watch.before-send", Everybody,
        "changes are about to be sent to a watcher";
}

impl Point {
    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|point| point.name() == name).copied()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
