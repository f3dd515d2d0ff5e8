//! Shortens the time without a leader: when every connection from the leader breaks (its process
//! died), or nothing has come from it for longer than its lease (it hangs, or is cut off), the most
//! advanced of the other voters asks for votes as soon as the lease is over, instead of after a
//! further random wait. Safety is Raft's own: this only says "now", with a
//! pre-vote, and everybody's lease still holds.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use quorate_proto::raft as pb;
use tokio::time::Instant;

use super::Raft;
use crate::config::Timing;
use crate::limits::{PROBE_MAX, SILENCE_PAUSE_MAX};
use crate::log::shared::Shared;
use crate::peer::client::{Peers, Purpose};
use crate::peer::server::Inbound;
use crate::peer::wire;
use crate::raft_types::LogId;
use crate::types::{Member, NodeId};

/// Between two tries while leases run out one by one.
const RETRY: Duration = Duration::from_millis(20);

/// What the watcher needs.
pub(crate) struct Watcher {
    pub(crate) raft: Raft,
    pub(crate) log: Arc<Shared>,
    pub(crate) peers: Peers,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) timing: Timing,
}

/// A silence of the leader that was acted on.
struct Acted {
    /// When it began.
    heard: Instant,
    /// Before then it is left alone.
    again_at: Instant,
    pause: Duration,
}

impl Watcher {
    /// Runs until Raft ends.
    pub(crate) async fn run(self) {
        let mut lost = self.inbound.lost.subscribe();
        let mut look_at = Instant::now() + self.silence();
        let mut acted = None;
        loop {
            tokio::select! {
                changed = lost.changed() => {
                    let node = lost.borrow_and_update().1;
                    let goes_on = match (changed, node) {
                        (Err(_), _) => false,
                        (Ok(()), Some(node)) => self.lost(node, Instant::now()).await,
                        (Ok(()), None) => true,
                    };
                    if !goes_on {
                        return;
                    }
                }
                () = tokio::time::sleep_until(look_at) => {
                    match self.look(look_at, &mut acted).await {
                        Some(next) => look_at = next,
                        None => return,
                    }
                }
            }
        }
    }

    /// Stands for election when the leader has been silent for too long. When to look again; `None`: Raft has ended.
    async fn look(&self, due: Instant, acted: &mut Option<Acted>) -> Option<Instant> {
        let (now, silence) = (Instant::now(), self.silence());
        if now.saturating_duration_since(due) > self.timing.heartbeat {
            // It was this master that slept: what the leader has sent meanwhile is read first.
            return Some(now + 2 * self.timing.heartbeat);
        }
        let Some(heard) = self.inbound.led_at() else { return Some(now + silence) };
        if heard + silence > now {
            return Some(heard + silence);
        }
        // Of the same silence, more and more seldom: who is cut off would do nothing else.
        let before = acted.as_ref().filter(|acted| acted.heard == heard);
        if before.is_some_and(|acted| now < acted.again_at) {
            return Some(now + silence);
        }
        let pause = before.map_or(silence, |acted| (2 * acted.pause).min(SILENCE_PAUSE_MAX));
        if let Some(leader) = self.follows()
            && !self.lost(leader, heard).await
        {
            return None;
        }
        let now = Instant::now();
        *acted = Some(Acted { heard, again_at: now + pause, pause });
        Some(now + silence)
    }

    /// A leader from whom nothing has come for so long has lost its lease for certain.
    fn silence(&self) -> Duration {
        self.timing.election_max + self.timing.heartbeat
    }

    /// Whom this master follows.
    fn follows(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.current_leader.filter(|leader| *leader != self.peers.own_id())
    }

    /// Whether there is nobody at the other end any more, or nobody who speaks.
    fn is_gone(&self, leader: NodeId) -> bool {
        let speaks = |at: Instant| at.elapsed() < self.silence();
        !self.inbound.present(leader) || !self.inbound.led_at().is_some_and(speaks)
    }

    /// Whether Raft goes on.
    async fn lost(&self, node: NodeId, at: Instant) -> bool {
        let Some(others) = self.other_voters(node) else { return true };
        if !self.is_best(others).await {
            return true;
        }
        tracing::info!(leader = %node, "the leader is gone or silent; standing for election");
        let Timing { heartbeat, election_min, election_max } = self.timing;
        // The last heartbeat came at most one interval before; the lease runs from there.
        tokio::time::sleep_until(at + election_max.saturating_sub(heartbeat)).await;
        let until = (at + election_max).max(Instant::now()) + election_min;
        while Instant::now() < until && self.other_voters(node).is_some() {
            if self.raft.trigger().elect(true).await.is_err() {
                return false;
            }
            tokio::time::sleep(RETRY).await;
        }
        true
    }

    /// The voters beside this master and the lost leader; none when there is nothing to do.
    fn other_voters(&self, lost: NodeId) -> Option<Vec<(NodeId, Member)>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let own = self.peers.own_id();
        let follows = metrics.current_leader == Some(lost)
            && metrics.state == ServerState::Follower
            && membership.voter_ids().any(|id| id == own)
            && self.is_gone(lost);
        let others = membership.voter_ids().filter(|id| *id != own && *id != lost);
        let describe = |id: NodeId| membership.get_node(&id).map(|member| (id, member.clone()));
        follows.then(|| others.filter_map(describe).collect())
    }

    /// Whether no other voter that answers has a longer log (or an equal one and a lower number).
    async fn is_best(&self, others: Vec<(NodeId, Member)>) -> bool {
        let own = (self.log.lock().last, std::cmp::Reverse(self.peers.own_id()));
        let probes = others.into_iter().map(|(id, member)| self.probe(id, member));
        join_all(probes).await.into_iter().flatten().all(|other| other < own)
    }

    async fn probe(
        &self,
        id: NodeId,
        member: Member,
    ) -> Option<(Option<LogId>, std::cmp::Reverse<NodeId>)> {
        let mut client = self.peers.client(id, &member.peer_address, Purpose::Pulse);
        let reply = tokio::time::timeout(PROBE_MAX, client.probe(pb::ProbeRequest {})).await;
        let last = reply.ok()?.ok()?.into_inner().last_log_id.map(wire::id_in);
        Some((last, std::cmp::Reverse(id)))
    }
}
