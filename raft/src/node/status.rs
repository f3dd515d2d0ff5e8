//! How the node is, for people, probes and metrics.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use openraft::{Instant as _, ServerState};
use tokio::time::Instant;

use super::{Inner, Metrics, RaftNode};
use crate::meters::Meters;
use crate::raft_types::index_of;
use crate::types::{LogIndex, Member, NodeId, Term};

/// What this master is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives the log, does not vote (yet).
    Learner,
    /// Votes and receives the log.
    Follower,
    /// Tries to become leader.
    Candidate,
    /// Leads.
    Leader,
    /// Has stopped.
    Stopped,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        })
    }
}

/// One master as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its number.
    pub id: NodeId,
    /// Name and addresses.
    pub member: Member,
    /// Whether it votes; learners do not.
    pub voter: bool,
    /// On the leader: the last entry known to be on its disk.
    pub matched: Option<LogIndex>,
    /// On the leader: how many entries it lacks; not known before it has answered.
    pub lag: Option<u64>,
    /// On the leader: time since it last answered.
    pub last_contact: Option<Duration>,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This master.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// Raft's term.
    pub term: Term,
    /// Who leads, as far as known here: this master only while a quorum answers it, another one only while
    /// something comes from it.
    pub leader: Option<NodeId>,
    /// Last entry in the local log.
    pub last_log: Option<LogIndex>,
    /// Last entry known to be committed.
    pub committed: Option<LogIndex>,
    /// Last entry applied by the local machine.
    pub applied: Option<LogIndex>,
    /// Last entry of the newest snapshot.
    pub snapshot: Option<LogIndex>,
    /// Last entry that the log no longer has.
    pub purged: Option<LogIndex>,
    /// All masters. A change is half done while `joint` is true.
    pub members: Vec<MemberStatus>,
    /// A membership change is half done.
    pub joint: bool,
    /// The log entry that made these the members. It counts from when it is in the log: it may be above `applied`.
    pub members_since: Option<LogIndex>,
    /// On the leader: milliseconds since a quorum last answered (0 when it is a quorum itself).
    pub quorum_ack_ms: Option<u64>,
    /// 99th percentile of the last group commits, write and sync.
    pub sync_p99: Option<Duration>,
    /// Group commits since the start.
    pub group_commits: u64,
    /// Bytes the state takes, as the machine says.
    pub state_bytes: u64,
    /// About how many bytes the log takes.
    pub log_bytes: u64,
    /// Free bytes on the disk of the log.
    pub disk_free_bytes: u64,
    /// There are so few that what grows is refused as long as this master leads.
    pub disk_low: bool,
    /// Its group commits are too slow of late to lead with them.
    pub disk_slow: bool,
    /// The state is as large as it may become: what grows is refused as long as this master leads.
    pub over_quota: bool,
    /// Bytes of the newest snapshot's file.
    pub snapshot_bytes: Option<u64>,
    /// How long nothing has changed about who leads; since its start at most.
    pub stable_for: Duration,
    /// Proposals on this master that wait for their outcome.
    pub proposals_pending: usize,
}

/// What the files of a node take, as their lengths say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// The log, with the ballast and what is not yet collected.
    pub log_bytes: u64,
    /// The snapshots, with unfinished ones.
    pub snapshot_bytes: u64,
}

/// Files come and go meanwhile: what is not there takes nothing.
fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

impl Inner {
    pub(crate) fn members_of(&self, metrics: &Metrics) -> Vec<MemberStatus> {
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let end = metrics.last_log_index.map_or(0, |index| index + 1);
        let leads = metrics.state == ServerState::Leader;
        let describe = |(id, member): (&NodeId, &Member)| {
            let own = *id == self.id;
            let matched = if own {
                metrics.last_log_index
            } else {
                let matched = metrics.replication.as_ref().and_then(|all| all.get(id).copied());
                matched.flatten().map(|id| id.index)
            };
            let contact = metrics.heartbeat.as_ref().and_then(|all| all.get(id).copied()).flatten();
            MemberStatus {
                id: *id,
                member: member.clone(),
                voter: voters.contains(id),
                matched: matched.map(LogIndex),
                // Who was not heard since this master leads may have all of it.
                lag: matched.filter(|_| leads).map(|index| end.saturating_sub(index + 1)),
                last_contact: if own { None } else { contact.map(|at| at.elapsed()) },
            }
        };
        membership.nodes().map(describe).collect()
    }
}

impl RaftNode {
    /// Whether this master leads, and a quorum has answered it within the lease: until that is over, the others elect
    /// nobody else unless they are asked to.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        let inner = &self.inner;
        let metrics = inner.metrics();
        if metrics.state != ServerState::Leader || metrics.running_state.is_err() {
            return false;
        }
        let alone = metrics.membership_config.membership().voter_ids().count() == 1;
        let acked = metrics.last_quorum_acked.map(|at| at.elapsed());
        alone || acked.is_some_and(|ago| ago < inner.timing.election_max)
    }

    /// The masters, in the order of their numbers.
    #[must_use]
    pub fn members(&self) -> Vec<MemberStatus> {
        self.inner.members_of(&self.inner.metrics())
    }

    /// What this node has counted since its start.
    #[must_use]
    pub fn meters(&self) -> Meters {
        self.inner.log.meters.clone()
    }

    /// What its files take now. Looks at each of them.
    #[must_use]
    pub fn disk_use(&self) -> DiskUse {
        let directory = &self.inner.directory;
        DiskUse {
            log_bytes: bytes_below(&directory.join("raft")),
            snapshot_bytes: bytes_below(&directory.join("snapshots")),
        }
    }

    /// Everything at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = &self.inner;
        let metrics = inner.metrics();
        let members = inner.members_of(&metrics);
        let leads = metrics.state == ServerState::Leader;
        let alone = members.iter().filter(|member| member.voter).count() == 1;
        let acked = metrics.last_quorum_acked.map(|at| at.elapsed().as_millis());
        let acked = acked.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
        let log = inner.log.lock();
        Status {
            id: inner.id,
            role: match metrics.state {
                _ if metrics.running_state.is_err() => Role::Stopped,
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Stopped,
            },
            term: Term(metrics.current_term),
            leader: inner.heard.leader(&metrics),
            last_log: metrics.last_log_index.map(LogIndex),
            committed: index_of(metrics.cluster_committed),
            applied: index_of(metrics.last_applied),
            snapshot: index_of(metrics.snapshot),
            purged: index_of(metrics.purged),
            joint: metrics.membership_config.membership().get_joint_config().len() > 1,
            members_since: index_of(*metrics.membership_config.log_id()),
            members,
            quorum_ack_ms: if leads && alone { Some(0) } else { acked.filter(|_| leads) },
            sync_p99: log.sync_p99(),
            group_commits: log.groups,
            state_bytes: inner.applied.state_bytes(),
            log_bytes: log.bytes_after(None),
            disk_free_bytes: inner.space.free(),
            disk_low: inner.space.is_low(),
            disk_slow: log.pace.is_slow(Instant::now()),
            over_quota: inner.space.check_state(inner.applied.quota_bytes()).is_err(),
            snapshot_bytes: inner.snapshots.current().map(|file| file.bytes),
            stable_for: inner.log.meters.stable_for(),
            proposals_pending: inner.proposals.pending(),
        }
    }
}
