//! Who leads, as others may rely on it: "leader" only when the own-term entry is applied here, so
//! that the local state holds everything that was committed before.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use quorate_points::{self as points, Point};
use tokio::sync::watch;

use super::{Inner, Metrics, Raft, RaftNode};
use crate::config::Timing;
use crate::meters::Meters;
use crate::peer::server::Inbound;
use crate::raft_types::LeaderId;
use crate::types::{Member, NodeId, Term};

/// One leadership of this master. Not equal to any other, also not to a later one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// Raft's term.
    pub term: Term,
    /// What Raft checks when something is proposed under this leadership.
    pub(crate) token: LeaderId,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadershipState {
    /// This master, everything committed before is applied and published, and a quorum has answered lately.
    Leader(Leadership),
    /// Another master, or nobody that is known.
    Follower {
        /// The leader, when something has come from it lately.
        leader: Option<(NodeId, Member)>,
    },
}

impl RaftNode {
    /// Follows who leads. Changes may be skipped, the newest never; two leaderships of this
    /// master with another in between differ in their term.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<LeadershipState> {
        self.inner.leadership.clone()
    }
}

/// How a master knows that there is a leader that can do something (Raft dissertation, 6.2: a leader steps down when it
/// has not heard of a quorum for an election timeout). Raft itself goes on naming a leader that has long been dead, or
/// is cut off.
#[derive(Debug)]
pub(crate) struct Heard {
    inbound: Arc<Inbound>,
    timing: Timing,
}

impl Heard {
    pub(crate) fn new(inbound: Arc<Inbound>, timing: Timing) -> Self {
        Self { inbound, timing }
    }

    /// A leader, and who follows it, that have not heard of each other for so long may have lost each other: the
    /// leader's lease is over, and another was elected if there is a quorum.
    fn silence(&self) -> Duration {
        2 * self.timing.election_max
    }

    /// Whether a quorum has answered this leader lately.
    fn quorum(&self, metrics: &Metrics) -> bool {
        let alone = metrics.membership_config.membership().voter_ids().count() == 1;
        // Not yet is not lost: nobody relies on a leader before its first entry is committed.
        alone || metrics.last_quorum_acked.is_none_or(|at| at.elapsed() < self.silence())
    }

    /// Who leads: this master when a quorum answers it, another when something has come from it lately.
    pub(crate) fn leader(&self, metrics: &Metrics) -> Option<NodeId> {
        let is_here = match metrics.state {
            ServerState::Leader => self.quorum(metrics),
            ServerState::Learner
            | ServerState::Follower
            | ServerState::Candidate
            | ServerState::Shutdown => {
                self.inbound.led_at().is_some_and(|at| at.elapsed() < self.silence())
            }
        };
        metrics.current_leader.filter(|_| is_here)
    }
}

fn state_of(metrics: &Metrics, heard: &Heard) -> LeadershipState {
    let vote = metrics.vote;
    let leads = metrics.state == ServerState::Leader
        && vote.committed
        && vote.leader_id.node_id == metrics.id
        && metrics.running_state.is_ok();
    let ready = metrics.last_applied.is_some_and(|id| id.leader_id == vote.leader_id);
    if leads && ready && heard.quorum(metrics) {
        let term = Term(vote.leader_id.term);
        return LeadershipState::Leader(Leadership { term, token: vote.leader_id });
    }
    // Not ready yet is nobody, not itself.
    let known = heard.leader(metrics);
    let leader =
        Inner::leader_of(metrics).filter(|(id, _)| *id != metrics.id && Some(*id) == known);
    LeadershipState::Follower { leader }
}

/// Elections and leaderships, counted as they come by.
struct Counted {
    meters: Meters,
    /// For whom this master voted last.
    vote: LeaderId,
    led: Option<(u64, NodeId)>,
}

impl Counted {
    fn new(meters: Meters, metrics: &Metrics) -> Self {
        // What it voted before its start was counted then.
        Self { meters, vote: metrics.vote.leader_id, led: None }
    }

    fn see(&mut self, metrics: &Metrics) {
        let vote = metrics.vote.leader_id;
        if vote != self.vote && vote.node_id == metrics.id {
            self.meters.stood();
        }
        self.vote = vote;
        let led = metrics.current_leader.map(|leader| (metrics.current_term, leader));
        if led.is_some() && led != self.led {
            self.meters.leader_changed();
            self.led = led;
        }
    }
}

/// Keeps the watch up to date until Raft ends.
pub(crate) fn follow(
    raft: &Raft,
    meters: Meters,
    heard: Arc<Heard>,
) -> watch::Receiver<LeadershipState> {
    let (state, states) = watch::channel(LeadershipState::Follower { leader: None });
    let mut metrics = raft.metrics();
    let mut counted = Counted::new(meters, &metrics.borrow_watched());
    tokio::spawn(async move {
        let mut was_elected = false;
        loop {
            let (now, elected) = {
                let metrics = metrics.borrow_and_update();
                counted.see(&metrics);
                (state_of(&metrics, &heard), metrics.state == ServerState::Leader)
            };
            if elected && !was_elected {
                points::pass(Point::LeaderElected);
            }
            was_elected = elected;
            let led = matches!(*state.borrow(), LeadershipState::Leader(_));
            match (led, matches!(now, LeadershipState::Leader(_))) {
                (false, true) => points::pass(Point::LeaderReady),
                (true, false) => points::pass(Point::LeaderSteppedDown),
                (false, false) | (true, true) => {}
            }
            state.send_if_modified(|old| {
                let changed = *old != now;
                *old = now;
                changed
            });
            // That nothing is heard any more changes nothing by itself.
            let changed = tokio::time::timeout(heard.timing.election_max / 2, metrics.changed());
            if let Ok(Err(_)) = changed.await {
                state.send_replace(LeadershipState::Follower { leader: None });
                return;
            }
        }
    });
    states
}
