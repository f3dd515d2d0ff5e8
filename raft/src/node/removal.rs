//! Taking a master out of the group, and how it learns that: a removed master gets no more of the log, so it
//! hears nothing from a leader, asks the others, and is told. It marks its directory and ends.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{ChangeMembers, ServerState};
use quorate_points::{self as points, Point};
use tokio::sync::watch;

use super::health::lacks_quorum;
use super::status::MemberStatus;
use super::{Inner, Metrics, OnStop, RaftNode};
use crate::error::{Fatal, MembershipError};
use crate::host::in_background;
use crate::limits::MEMBER_ANSWER_MAX;
use crate::mark::Mark;
use crate::types::{Member, NodeId};

impl RaftNode {
    /// Takes a master out of the group: a voter through a joint configuration, a learner in one step. What is
    /// begun goes on when the caller gives up, and when this master dies the next leader finishes it. The removed
    /// master ends by itself, as soon as it asks any other.
    ///
    /// # Errors
    /// `UnknownNode`; `Leads` for this master; `LastVoter` and `Needed` when those who stay could not decide
    /// anything; `InProgress` while another change is not finished; `NotLeader`; `Unknown`, after which
    /// `members()` tells.
    pub async fn remove(&self, node: NodeId) -> Result<(), MembershipError> {
        let inner = self.inner.clone();
        let work = self.inner.runtime.spawn(async move { inner.take_out(node).await });
        // Not ended with its caller: half of a change helps nobody.
        work.await.unwrap_or_else(|error| {
            OnStop::on_stop(Fatal(format!("raft's runtime has ended: {error}")))
        })
    }

    /// Becomes `Some`, with what to do, when the others have removed this master: it must end. Its directory is
    /// marked by then.
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<Option<String>> {
        self.inner.removed.subscribe()
    }
}

impl Inner {
    async fn take_out(&self, node: NodeId) -> Result<(), MembershipError> {
        let mut turn = self.turn().await?;
        let members = self.members_of(&turn.metrics);
        // What was heard a second ago is not enough: when one of those who stay has just died, a change that needs it
        // would take the quorum away until it is back.
        let answer = self.who_answers(&members).await;
        // A new leader has to hear first how far the others are.
        turn.metrics = self.when_level(&answer).await?;
        let members = self.members_of(&turn.metrics);
        let gone = members.iter().find(|member| member.id == node);
        let gone = gone.ok_or(MembershipError::UnknownNode(node))?;
        may_go(gone, &members, &answer)?;
        if node == self.id {
            return Err(MembershipError::Leads(node));
        }
        let ids = BTreeSet::from([node]);
        let change = if gone.voter {
            ChangeMembers::RemoveVoters(ids)
        } else {
            ChangeMembers::RemoveNodes(ids)
        };
        points::pass(Point::MembershipBeforeRemoval);
        let change = self.raft.change_membership_if(change, false, turn.unchanged());
        let changed = self.limited(change).await;
        if let Err(MembershipError::NotLeader { .. }) = changed {
            // Of its second step perhaps.
            let reason = "leadership was lost meanwhile".to_owned();
            return Err(MembershipError::Unknown { reason });
        }
        changed?;
        tracing::info!(id = %node, member = %gone.member, "removed a master");
        // It sees that, and asks.
        self.follow_members();
        Ok(())
    }

    /// Asks the others whether this master is still one of them, when no leader is connected to it, or sends anything.
    pub(crate) async fn ask_whether_removed(self: &Arc<Self>) {
        let metrics = self.metrics();
        let silent = 2 * self.timing.election_max;
        let hears = metrics.current_leader.is_some_and(|leader| self.inbound.present(leader))
            && self.inbound.led_at().is_some_and(|at| at.elapsed() <= silent);
        if metrics.state == ServerState::Leader || hears || self.removed.borrow().is_some() {
            return;
        }
        let members = metrics.membership_config.membership().nodes();
        let others: Vec<(NodeId, Member)> =
            members.filter(|(id, _)| **id != self.id).map(|(id, m)| (*id, m.clone())).collect();
        let asked = others.iter().map(|(id, member)| self.says_removed(*id, member));
        if join_all(asked).await.contains(&true) {
            self.leave().await;
        }
    }

    async fn says_removed(&self, id: NodeId, member: &Member) -> bool {
        self.probe(id, member, MEMBER_ANSWER_MAX).await.is_some_and(|reply| reply.removed)
    }

    /// The directory first: a master that ended and does not know why would be started again.
    async fn leave(&self) {
        if self.leaving.swap(true, Ordering::Relaxed) {
            return;
        }
        let problem = advice(self.id, &self.member, &self.directory);
        let (directory, text) = (self.directory.join("raft"), problem.clone());
        let marked = move || Mark::Removed.set(&directory, &text);
        if let Err(error) = in_background(&*self.host, "raft-mark", marked).await {
            tracing::error!(%error, "the directory of this master cannot be marked");
        }
        tracing::warn!("the other masters have removed this one");
        self.removed.send_replace(Some(problem));
    }
}

fn advice(id: NodeId, member: &Member, directory: &Path) -> String {
    format!(
        "master {:?} was removed from the cluster (it was number {id}). To join again, move {} away or delete it, then \
         run `quorate server --join URL --token T` as on a new machine",
        member.name,
        directory.display(),
    )
}

/// Whether the member of that number was removed, as far as this master has applied. Numbers are indexes of log entries
/// directly before the one that makes a member: a membership behind it that lacks it has lost it, for ever.
pub(crate) fn was_removed(metrics: &Metrics, id: NodeId) -> bool {
    let membership = &metrics.membership_config;
    let committed = |at: &crate::raft_types::LogId| Some(*at) <= metrics.last_applied;
    membership.log_id().as_ref().is_some_and(|at| at.index > id.0 && committed(at))
        && membership.membership().get_node(&id).is_none()
}

/// The same, of a running node.
pub(crate) fn says_removed(raft: &super::Raft, id: NodeId) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    was_removed(&metrics, id)
}

/// A majority of all must answer and be level, which is what the change takes, and one of those who stay, which is what
/// all goes on with.
fn may_go(
    gone: &MemberStatus,
    members: &[MemberStatus],
    answer: &BTreeSet<NodeId>,
) -> Result<(), MembershipError> {
    if !gone.voter {
        return Ok(());
    }
    let stay: Vec<&MemberStatus> =
        members.iter().filter(|member| member.voter && member.id != gone.id).collect();
    if stay.is_empty() {
        return Err(MembershipError::LastVoter { name: gone.member.name.clone() });
    }
    let all: Vec<&MemberStatus> = members.iter().filter(|member| member.voter).collect();
    if let Some((quorum, ill)) = lacks_quorum(&all, answer) {
        return Err(MembershipError::NoQuorum { voters: all.len(), quorum, ill });
    }
    if let Some((quorum, ill)) = lacks_quorum(&stay, answer) {
        let (name, stay) = (gone.member.name.clone(), stay.len());
        return Err(MembershipError::Needed { name, stay, quorum, ill });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LogIndex;

    fn voter(id: u64, lag: u64) -> MemberStatus {
        let member = Member { name: format!("m{id}"), ..Member::default() };
        MemberStatus {
            id: NodeId(id),
            member,
            voter: true,
            matched: Some(LogIndex(7)),
            lag: Some(lag),
            last_contact: None,
        }
    }

    fn go(members: &[MemberStatus], answer: &[u64], gone: u64) -> Result<(), MembershipError> {
        let gone = members.iter().find(|member| member.id == NodeId(gone)).unwrap();
        may_go(gone, members, &answer.iter().copied().map(NodeId).collect())
    }

    #[test]
    fn who_is_needed_stays() {
        let three = [voter(1, 0), voter(2, 0), voter(3, 2)];
        assert_eq!(go(&three, &[1, 2, 3], 2), Ok(()));
        // One is dead: it may go, the other may not.
        assert_eq!(go(&three, &[1, 2], 3), Ok(()));
        let error = go(&three, &[1, 2], 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "without master \"m2\" the cluster would have no quorum: 2 of the other 2 voters must answer and be up to \
             date, and \"m3\" does not. Repair that first, or remove it instead"
        );
        // One that answers and has not caught up does not count either.
        let behind = [voter(1, 0), voter(2, 0), voter(3, 100_000)];
        assert!(matches!(go(&behind, &[1, 2, 3], 2), Err(MembershipError::Needed { .. })));
        let five = [1, 2, 3, 4, 5].map(|id| voter(id, 0));
        assert_eq!(go(&five, &[1, 2, 3, 4, 5], 4), Ok(()));
        assert_eq!(go(&five, &[1, 2, 3], 4), Ok(()));
        assert!(matches!(go(&five, &[1, 2, 3], 3), Err(MembershipError::Needed { .. })));
    }

    #[test]
    fn a_learner_may_always_go_and_the_last_voter_never() {
        let learner = MemberStatus { voter: false, matched: None, lag: None, ..voter(9, 0) };
        let members = [voter(1, 0), learner];
        assert_eq!(go(&members, &[1], 9), Ok(()));
        assert!(matches!(go(&members, &[1, 9], 1), Err(MembershipError::LastVoter { .. })));
        let two = [voter(1, 0), voter(2, 0)];
        assert_eq!(go(&two, &[1, 2], 2), Ok(()));
        // Of two voters the dead one could only go with its own vote.
        let error = go(&two, &[1], 2).unwrap_err();
        assert!(matches!(error, MembershipError::NoQuorum { voters: 2, quorum: 2, .. }), "{error}");
    }
}
