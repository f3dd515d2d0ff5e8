//! Changes of the membership. One at a time, on the leader only; what a dead leader left half done
//! is finished by the next one (`finish_joint`, called by the upkeep). Who votes is in `voters`.

use std::collections::{BTreeMap, BTreeSet};

use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Precondition, ServerState};
use quorate_mutants::{self as mutants, Mutant};
use quorate_points::{self as points, Point};

use super::health::knows_standbys;
use super::leadership::LeadershipState;
use super::{Inner, Metrics, RaftNode};
use crate::error::MembershipError;
use crate::limits::{
    LEADER_READY_MAX, MEMBERS_MAX, MEMBERSHIP_CHANGE_MAX, MEMBERSHIP_TURN_MAX, READ_ROUND_MAX,
};
use crate::raft_types::TypeConfig;
use crate::types::{Member, NodeId};

type ChangeError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

impl RaftNode {
    /// Adds a master that receives the log but does not vote. Gives its number: the index of a log
    /// entry written for it, so that no two masters ever had the same. When a learner of exactly this name
    /// and these addresses has never answered this leader (it died before it could keep its number), it goes, and
    /// the new one gets a number of its own.
    ///
    /// # Errors
    /// `Duplicate` when its name or an address is taken; `NotLeader`; `Unknown`, after which
    /// `members()` tells.
    pub async fn add_learner(&self, member: Member) -> Result<NodeId, MembershipError> {
        let inner = self.inner.clone();
        self.on_runtime(async move {
            let Turn { metrics, .. } = &inner.turn().await?;
            let known = inner.members_of(metrics).into_iter().find(|known| known.member == member);
            if let Some(known) = known.filter(|_| mutants::is(Mutant::ReuseNodeId)) {
                return Ok(known.id);
            }
            let stillborn = inner.never_answered(metrics, &member);
            inner.check_addresses(metrics, stillborn, &member)?;
            if member.standby {
                let members = inner.members_of(metrics);
                knows_standbys(&members, &inner.layouts(&members).await)?;
            }
            let committed_leader_id = metrics.vote.leader_id;
            let same = [Precondition::CommittedLeaderId { committed_leader_id }];
            if let Some(id) = stillborn {
                tracing::info!(%id, %member, "a learner that never answered is replaced");
                let change = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
                inner.limited(inner.raft.change_membership_if(change, true, same.clone())).await?;
            }
            let blank = inner.limited(inner.raft.write_blank()).await?;
            let id = NodeId(blank.log_id.index);
            points::pass(Point::MembershipNumbered);
            let change = ChangeMembers::AddNodes(BTreeMap::from([(id, member.clone())]));
            // Under this leadership no membership comes between the two, so a later one that lacks it says that it
            // was removed.
            inner.limited(inner.raft.change_membership_if(change, true, same)).await?;
            points::pass(Point::MembershipLearner);
            if mutants::is(Mutant::LearnerVotes) {
                let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
                inner.limited(inner.raft.change_membership(change, true)).await?;
            }
            tracing::info!(%id, name = member.name, "added a learner");
            Ok(id)
        })
        .await
    }

    /// Replaces what the members know of one of them: its addresses, after it moved. Does nothing when
    /// it is known like that. Peers prove who they are, so a wrong address cannot make another master
    /// count as this one.
    ///
    /// # Errors
    /// `UnknownNode`; `Duplicate` when another one has an address; `NotLeader`; `Unknown`, after which
    /// `members()` tells.
    pub async fn update_member(&self, node: NodeId, member: Member) -> Result<(), MembershipError> {
        let inner = self.inner.clone();
        self.on_runtime(async move {
            let turn = inner.turn().await?;
            let metrics = &turn.metrics;
            let known = metrics.membership_config.membership().get_node(&node).cloned();
            // Where it is it says itself; whether it is to vote is for others to say.
            let standby = known.as_ref().is_some_and(|known| known.standby);
            let member = Member { standby, ..member };
            match known {
                None => return Err(MembershipError::UnknownNode(node)),
                Some(known) if known == member => return Ok(()),
                Some(_) => {}
            }
            inner.check_addresses(metrics, Some(node), &member)?;
            tracing::info!(%node, %member, "a master has moved");
            let change = ChangeMembers::SetNodes(BTreeMap::from([(node, member)]));
            let change = inner.raft.change_membership_if(change, true, turn.unchanged());
            inner.limited(change).await?;
            Ok(())
        })
        .await
    }
}

/// The right to change the members, which one has at a time.
pub(crate) struct Turn<'a> {
    _one_at_a_time: tokio::sync::MutexGuard<'a, ()>,
    /// What the leader knew when a quorum had confirmed that it is the leader: of a membership that is whole.
    pub(crate) metrics: Metrics,
}

impl Turn<'_> {
    /// What was looked at is what is changed.
    pub(crate) fn unchanged(&self) -> [Precondition<TypeConfig>; 2] {
        let last_membership_log_id = *self.metrics.membership_config.log_id();
        let committed_leader_id = self.metrics.vote.leader_id;
        [
            Precondition::CommittedLeaderId { committed_leader_id },
            Precondition::LastMembershipLogId { last_membership_log_id },
        ]
    }
}

impl Inner {
    /// Waits for the turn of a change, not long: who gave up must not be served much later. A joint membership is
    /// finished first, by the upkeep: any other change would end it in another way.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, MembershipError> {
        let lock = tokio::time::timeout(MEMBERSHIP_TURN_MAX, self.membership_lock.lock()).await;
        let _one_at_a_time = lock.map_err(|_| MembershipError::InProgress)?;
        self.leader_metrics()?;
        // One that was deposed and does not know would refuse for reasons of the past.
        if let Err(reason) = self.reads.leader_index(READ_ROUND_MAX).await {
            tracing::debug!(reason, "not confirmed as the leader");
            return Err(MembershipError::NotLeader { leader: None });
        }
        let mut leadership = self.leadership.clone();
        let ready = leadership.wait_for(|now| matches!(now, LeadershipState::Leader(_)));
        // Who has lost it meanwhile says so below.
        drop(tokio::time::timeout(LEADER_READY_MAX, ready).await);
        let metrics = self.leader_metrics()?;
        if metrics.membership_config.membership().get_joint_config().len() > 1 {
            return Err(MembershipError::InProgress);
        }
        Ok(Turn { _one_at_a_time, metrics })
    }

    pub(crate) fn leader_metrics(&self) -> Result<Metrics, MembershipError> {
        let metrics = self.metrics();
        if metrics.state == ServerState::Leader {
            return Ok(metrics);
        }
        let leader = Self::leader_of(&metrics).filter(|(id, _)| *id != self.id);
        Err(MembershipError::NotLeader { leader })
    }

    /// A learner of exactly this name and these addresses that has never answered this leader.
    fn never_answered(&self, metrics: &Metrics, new: &Member) -> Option<NodeId> {
        let members = self.members_of(metrics);
        let same = members.into_iter().find(|known| known.member.is_same_place(new))?;
        (!same.voter && same.matched.is_none()).then_some(same.id)
    }

    /// No other member (than `own`) may have the name or an address.
    fn check_addresses(
        &self,
        metrics: &Metrics,
        own: Option<NodeId>,
        new: &Member,
    ) -> Result<(), MembershipError> {
        let membership = metrics.membership_config.membership();
        for (id, member) in membership.nodes().filter(|(id, _)| Some(**id) != own) {
            let same = [
                ("name", &member.name, &new.name),
                ("peer address", &member.peer_address, &new.peer_address),
                ("API address", &member.api_address, &new.api_address),
            ];
            if let Some((what, value, _)) = same.into_iter().find(|(_, a, b)| a == b) {
                let (value, name) = (value.clone(), member.name.clone());
                return Err(MembershipError::Duplicate { what, value, node: *id, name });
            }
        }
        let count = membership.nodes().count();
        if own.is_none() && count >= MEMBERS_MAX {
            Err(MembershipError::TooMany(count))
        } else {
            Ok(())
        }
    }

    /// Waits for one change, with a limit.
    pub(crate) async fn limited<T>(
        &self,
        change: impl Future<Output = Result<T, ChangeError>>,
    ) -> Result<T, MembershipError> {
        match tokio::time::timeout(MEMBERSHIP_CHANGE_MAX, change).await {
            Err(_) => Err(MembershipError::Unknown { reason: "deadline".to_owned() }),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(RaftError::Fatal(error))) => Err(self.fatal_error(&error).into()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                let leader = forward.leader_id.zip(forward.leader_node);
                Err(MembershipError::NotLeader { leader })
            }
            Ok(Err(RaftError::APIError(error))) => {
                Err(MembershipError::Unknown { reason: error.to_string() })
            }
        }
    }

    /// Finishes a joint configuration that nobody works on. Undoing it needs the same two
    /// majorities, so going forward is never worse.
    pub(crate) async fn finish_joint(&self) {
        if mutants::is(Mutant::JointLeft) {
            return;
        }
        let Ok(_one_at_a_time) = self.membership_lock.try_lock() else { return };
        let Ok(metrics) = self.leader_metrics() else { return };
        let configs = metrics.membership_config.membership().get_joint_config();
        let [_, .., goal] = configs.as_slice() else { return };
        if *metrics.membership_config.log_id() > metrics.last_applied {
            // Nothing can be done before a majority has it.
            return;
        }
        points::pass(Point::MembershipFinish);
        let going: Vec<NodeId> =
            configs.iter().flatten().filter(|id| !goal.contains(id)).copied().collect();
        let goal = ChangeMembers::ReplaceAllVoters(goal.clone());
        let last_membership_log_id = *metrics.membership_config.log_id();
        let unchanged = Precondition::LastMembershipLogId { last_membership_log_id };
        // Who is not in the goal was being demoted, which the change says as well, or removed.
        let membership = metrics.membership_config.membership();
        let retain = going.iter().all(|id| membership.get_node(id).is_some_and(|m| m.standby));
        let change = self.raft.change_membership_if(goal, retain, [unchanged]);
        match self.limited(change).await {
            Ok(_) => tracing::info!("finished a half-done membership change"),
            Err(error) => {
                tracing::warn!(%error, "a half-done membership change is not finished yet")
            }
        }
    }
}
