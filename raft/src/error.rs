//! What can go wrong, by what the caller may conclude from it. A source is never repeated in
//! `Display`.

use std::io;
use std::path::PathBuf;

use crate::machine::RestoreError;
use crate::types::{LogIndex, Member, NodeId};

/// The node does not work any more; the process must exit and start again from its disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("raft has stopped: {0}")]
pub struct Fatal(pub String);

/// Outcome of a proposal that was not applied for sure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not proposed: this master does not lead (or, fenced, not under that leadership any more).
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as known here.
        leader: Option<(NodeId, Member)>,
    },
    /// Not proposed: too much waits already.
    #[error("too many proposals wait for their outcome")]
    Overloaded,
    /// Not proposed: larger than `limits::PROPOSAL_BYTES_MAX`.
    #[error("the proposal has {bytes} bytes, at most {max} are possible")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not proposed: the disk is nearly full.
    #[error("only {free_bytes} bytes are free on the disk, {free_bytes_min} must stay free")]
    DiskFull {
        /// Free now.
        free_bytes: u64,
        /// What must stay free.
        free_bytes_min: u64,
    },
    /// Not proposed: the state is as large as it may become.
    #[error("the store holds {state_bytes} bytes, its quota is {state_bytes_max}")]
    OverQuota {
        /// What it holds now.
        state_bytes: u64,
        /// What it may hold.
        state_bytes_max: u64,
    },
    /// Proposed, outcome not known: it may be applied, now or later, or never.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// Deadline, or what happened to the leadership.
        reason: String,
    },
    /// The node has stopped. Whether it was proposed is not known.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why no linearizable read was possible. Reading again is always safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader with a quorum confirmed the read in time.
    #[error("no confirmed leader within the deadline: {reason}")]
    Timeout {
        /// What the last try said.
        reason: String,
    },
    /// Too many reads wait.
    #[error("too many reads wait")]
    Overloaded,
    /// The other masters have removed this one: nothing more is applied here.
    #[error("this master was removed from the cluster")]
    Removed,
    /// The node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why a change of the membership was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Ask the leader.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as known here.
        leader: Option<(NodeId, Member)>,
    },
    /// Another master has that name or address.
    #[error("{what} {value:?} belongs to master {node} ({name}) already")]
    Duplicate {
        /// `name`, `peer address` or `API address`.
        what: &'static str,
        /// The value in question.
        value: String,
        /// Who has it.
        node: NodeId,
        /// And its name.
        name: String,
    },
    /// `limits::MEMBERS_MAX` is reached.
    #[error("the cluster has {0} masters already")]
    TooMany(usize),
    /// No such learner.
    #[error("master {0} is not a member")]
    UnknownNode(NodeId),
    /// This master itself, which leads, cannot be taken out.
    #[error("master {0} leads: hand leadership over first")]
    Leads(NodeId),
    /// A cluster without voters is none.
    #[error(
        "master {name:?} is the only voter: a cluster cannot be without one. To end the cluster, stop it and delete \
         its data directory"
    )]
    LastVoter {
        /// Its name.
        name: String,
    },
    /// Those who stay could not decide anything.
    #[error(
        "without master {name:?} the cluster would have no quorum: {quorum} of the other {stay} voters must answer and \
         be up to date, and {} not. Repair that first, or remove it instead",
        listed(ill)
    )]
    Needed {
        /// Who was to go.
        name: String,
        /// How many voters would stay.
        stay: usize,
        /// How many of them decide.
        quorum: usize,
        /// Which of them do not answer, or have not caught up.
        ill: Vec<String>,
    },
    /// Nothing can be decided now.
    #[error(
        "no quorum: {quorum} of the {voters} voters must answer and be up to date for a change, and {} not. Repair that \
         first",
        listed(ill)
    )]
    NoQuorum {
        /// How many voters there are.
        voters: usize,
        /// How many of them decide.
        quorum: usize,
        /// Which of them do not answer, or have not caught up.
        ill: Vec<String>,
    },
    /// One change at a time.
    #[error("another change of the members is not finished yet: try again in a moment")]
    InProgress,
    /// It is not there now.
    #[error("master {name:?} does not answer")]
    Silent {
        /// Its name.
        name: String,
    },
    /// A master cannot read of standbys.
    #[error("master {name:?} is of a version that knows no standbys: upgrade it first")]
    NoStandbys {
        /// Its name.
        name: String,
    },
    /// It is what it was thought not to be.
    #[error("master {name:?} answers, or is not what it was any more")]
    Alive {
        /// Its name.
        name: String,
    },
    /// It did not catch up in time.
    #[error("master {node} is {lag} entries behind and did not catch up in time")]
    NotCaughtUp {
        /// The learner.
        node: NodeId,
        /// What it lacks.
        lag: u64,
    },
    /// The change was refused or its outcome is not known; look at `members()`.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// The node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// `"m3" does` or `"m3", "m4" do`.
fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    let verb = if names.len() == 1 { "does" } else { "do" };
    format!("{} {verb}", quoted.join(", "))
}

/// Why leadership was not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This master does not lead.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as known here.
        leader: Option<(NodeId, Member)>,
    },
    /// The target is no voter, or this master is the only one.
    #[error("no voter to hand over to")]
    NoTarget,
    /// The target does not answer, so that it would not take over, and nobody would lead until an election.
    #[error("master {node} does not answer")]
    Silent {
        /// The target.
        node: NodeId,
    },
    /// No voter that could take over is up to date.
    #[error("master {node} is {lag} entries behind")]
    NotCaughtUp {
        /// The target.
        node: NodeId,
        /// What it lacks.
        lag: u64,
    },
    /// It was asked to take over and did not in time.
    #[error("master {node} did not take over in time")]
    NotTaken {
        /// The target.
        node: NodeId,
    },
    /// The node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why a call to another master has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A master does not call itself over the network.
    #[error("a master does not call itself")]
    ToSelf,
    /// Not in the membership this master knows.
    #[error("master {0} is not a member")]
    UnknownNode(NodeId),
    /// The body is larger than `limits::CALL_BYTES_MAX`.
    #[error("the call has {bytes} bytes, at most {max} are possible")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not delivered: there is no connection.
    #[error("unreachable: {reason}")]
    Unreachable {
        /// What connecting said.
        reason: String,
    },
    /// Delivered perhaps; no answer in time, or the connection broke.
    #[error("no answer: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// The other side's handler refused.
    #[error("refused: {0}")]
    Refused(String),
    /// This node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why the state of another master was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    /// No master of that number is a member.
    #[error("no master has the number {0}")]
    UnknownNode(NodeId),
    /// It did not come whole.
    #[error("the state of the other master did not come: {0}")]
    Fetch(String),
    /// It came and cannot be read.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// This node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Something on disk is not what was written there. The node refuses to serve from it.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {record} is damaged: {problem}", path = path.display())]
pub struct Corruption {
    /// The file (or the engine's directory).
    pub path: PathBuf,
    /// Which record.
    pub record: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the directory open.
    #[error("{} is in use by another process", path.display())]
    DirectoryInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another cluster or master.
    #[error("{} belongs to {found}, not to {expected}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// Log or snapshot is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// A file operation failed.
    #[error("{}: {action} failed", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The files are of an earlier time, as others know.
    #[error("{problem}")]
    WentBack {
        /// How that was noticed, and what to do.
        problem: String,
    },
    /// Certificates or key are unusable.
    #[error("peer certificates: {0}")]
    Tls(String),
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(String),
    /// The state machine did not take its snapshot.
    #[error("snapshot at index {index} could not be restored")]
    Restore {
        /// Its last log index.
        index: LogIndex,
        /// Why.
        #[source]
        source: RestoreError,
    },
    /// The other masters have removed this one.
    #[error("{problem}")]
    Removed {
        /// What to do.
        problem: String,
    },
    /// Raft itself did not start.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}
