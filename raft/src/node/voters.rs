//! Who votes: learners are promoted, voters demoted, replaced or taken out, each in one step through a joint
//! configuration. What is begun goes on when its caller gives up; what a dead leader left half done is finished by the
//! next one (`membership::finish_joint`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use quorate_mutants::{self as mutants, Mutant};
use quorate_points::{self as points, Point};
use tokio::time::Instant;

use super::health::{Healthy, knows_standbys, lacks_quorum};
use super::status::MemberStatus;
use super::{Inner, OnStop, RaftNode};
use crate::error::{Fatal, MembershipError};
use crate::limits::{PROMOTE_LAG_MAX, PROMOTE_STABLE, PROMOTE_WAIT_MAX};
use crate::types::{Member, NodeId};

type Change = ChangeMembers<NodeId, Member>;

/// Between two looks.
const POLL: Duration = Duration::from_millis(25);

/// A change of who votes. It happens as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reform {
    /// Learners become voters, all in one step, so that a cluster grows from 1 to 3 without ever having 2. A standby
    /// among them is none any more.
    Promote(BTreeSet<NodeId>),
    /// The same, without anybody's wish: of those that are learners still, and no standbys.
    Graduate(BTreeSet<NodeId>),
    /// A voter votes no more, and goes on as a standby; a learner is made a standby.
    Demote(NodeId),
    /// A master is taken out, and ends by itself.
    Remove(NodeId),
    /// The same, without anybody's wish, of one that is silent: not when it answers, or is not what it was, or when
    /// fewer voters than that would be left.
    Forget {
        /// Who.
        node: NodeId,
        /// Whether it votes, as far as is known.
        voter: bool,
        /// How many voters must be left when a voter goes.
        voters_min: usize,
    },
    /// One is taken out, and another votes in its place.
    Replace {
        /// Who goes.
        old: NodeId,
        /// Who votes then: a learner, a standby, or a voter already.
        new: NodeId,
    },
}

/// How a [`Reform`] is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Go {
    /// It is refused as it would be, and else nothing happens: what Kubernetes calls a dry run.
    pub dry_run: bool,
    /// Who answers and is behind counts as one that is up to date. Nothing is lost by that: what was decided stays
    /// decided, but the change, and all writes, may wait until they have caught up.
    pub force: bool,
}

impl Go {
    /// It is done, when nothing speaks against it.
    pub const AHEAD: Self = Self { dry_run: false, force: false };
    /// It is only looked at.
    pub const DRY_RUN: Self = Self { dry_run: true, force: false };
}

/// Raft's words for a [`Reform`].
struct Plan {
    /// `None`: all is as it should be.
    change: Option<Change>,
    /// Who votes no more stays as a learner.
    retain: bool,
    /// How many vote afterwards.
    voters: usize,
}

impl Reform {
    /// Who is to vote.
    fn comes(&self, members: &[MemberStatus]) -> BTreeSet<NodeId> {
        match self {
            Self::Promote(nodes) => nodes.clone(),
            Self::Graduate(nodes) => {
                let learns = |known: &&MemberStatus| {
                    nodes.contains(&known.id) && !known.voter && !known.member.standby
                };
                members.iter().filter(learns).map(|known| known.id).collect()
            }
            Self::Replace { new, .. } => BTreeSet::from([*new]),
            Self::Demote(_) | Self::Remove(_) | Self::Forget { .. } => BTreeSet::new(),
        }
    }

    /// Who is to vote no more.
    #[must_use]
    pub fn goes(&self) -> Option<NodeId> {
        match self {
            Self::Promote(_) | Self::Graduate(_) => None,
            Self::Demote(node)
            | Self::Remove(node)
            | Self::Forget { node, .. }
            | Self::Replace { old: node, .. } => Some(*node),
        }
    }

    fn plan(&self, members: &[MemberStatus]) -> Result<Plan, MembershipError> {
        let (comes, goes) = (self.comes(members), self.goes());
        for node in comes.iter().chain(&goes) {
            find(members, *node)?;
        }
        let mut changes = Vec::new();
        let of = |standby: bool, wanted: &dyn Fn(&MemberStatus) -> bool| {
            let differ =
                members.iter().filter(|known| wanted(known) && known.member.standby != standby);
            let set: BTreeMap<_, _> = differ
                .map(|known| (known.id, Member { standby, ..known.member.clone() }))
                .collect();
            (!set.is_empty()).then_some(Change::SetNodes(set))
        };
        changes.extend(of(false, &|known| comes.contains(&known.id)));
        let joins: BTreeSet<NodeId> = members
            .iter()
            .filter(|known| comes.contains(&known.id) && !known.voter)
            .map(|known| known.id)
            .collect();
        if !joins.is_empty() {
            changes.push(Change::AddVoterIds(joins));
        }
        let retain = matches!(self, Self::Demote(_));
        if retain {
            changes.extend(of(true, &|known| Some(known.id) == goes));
        }
        if let Some(gone) = goes {
            let ids = BTreeSet::from([gone]);
            match (find(members, gone)?.voter, retain) {
                (true, true) if mutants::is(Mutant::DemotedVotes) => {}
                (true, _) => changes.push(Change::RemoveVoters(ids)),
                (false, true) => {}
                (false, false) => changes.push(Change::RemoveNodes(ids)),
            }
        }
        let voters = goal(&comes, goes, members).len();
        let change = if changes.len() > 1 { Some(Change::Batch(changes)) } else { changes.pop() };
        Ok(Plan { change, retain, voters })
    }
}

fn find(members: &[MemberStatus], node: NodeId) -> Result<&MemberStatus, MembershipError> {
    members.iter().find(|known| known.id == node).ok_or(MembershipError::UnknownNode(node))
}

/// Who votes afterwards.
fn goal<'a>(
    comes: &BTreeSet<NodeId>,
    goes: Option<NodeId>,
    members: &'a [MemberStatus],
) -> Vec<&'a MemberStatus> {
    let votes = |known: &&MemberStatus| {
        (known.voter || comes.contains(&known.id)) && Some(known.id) != goes
    };
    members.iter().filter(votes).collect()
}

impl RaftNode {
    /// Changes who votes. Gives how many do afterwards. Does nothing when all is as it should be.
    ///
    /// # Errors
    /// `UnknownNode`; `Leads` when this master is to vote no more (not of a dry run); `LastVoter`, `Needed` and
    /// `NoQuorum` when nothing could be decided on the way or afterwards; `NotCaughtUp` and `Silent` for who is to
    /// vote and cannot yet; `InProgress` while another change is not finished; `NotLeader`; `Unknown`, after which
    /// `members()` tells.
    pub async fn reform(&self, reform: Reform, go: Go) -> Result<usize, MembershipError> {
        let inner = self.inner.clone();
        let work = self.inner.runtime.spawn(async move { inner.reform(&reform, go).await });
        // Not ended with its caller: half of a change helps nobody.
        work.await.unwrap_or_else(|error| {
            OnStop::on_stop(Fatal(format!("raft's runtime has ended: {error}")))
        })
    }

    /// Makes a learner a voter, once it has caught up (waits for that). Does nothing when it votes already.
    ///
    /// # Errors
    /// As [`RaftNode::reform`].
    pub async fn promote(&self, node: NodeId) -> Result<(), MembershipError> {
        self.promote_all(&[node]).await
    }

    /// Makes several learners voters in one step.
    ///
    /// # Errors
    /// As [`RaftNode::reform`].
    pub async fn promote_all(&self, nodes: &[NodeId]) -> Result<(), MembershipError> {
        let nodes = nodes.iter().copied().collect();
        self.reform(Reform::Promote(nodes), Go::AHEAD).await.map(drop)
    }

    /// Takes a master out of the group. It ends by itself, as soon as it asks any other.
    ///
    /// # Errors
    /// As [`RaftNode::reform`].
    pub async fn remove(&self, node: NodeId) -> Result<(), MembershipError> {
        self.reform(Reform::Remove(node), Go::AHEAD).await.map(drop)
    }
}

impl Inner {
    async fn reform(&self, reform: &Reform, go: Go) -> Result<usize, MembershipError> {
        let goes = reform.goes();
        let comes = reform.comes(&self.members_of(&self.leader_metrics()?));
        match self.wait_caught_up(&comes, PROMOTE_WAIT_MAX).await {
            Err(MembershipError::NotCaughtUp { .. }) if go.force => {}
            level => level?,
        }
        let mut turn = self.turn().await?;
        let members = self.members_of(&turn.metrics);
        // What was heard a second ago is not enough: when one of those who stay has just died, a change that needs it
        // would take the quorum away until it is back.
        let layouts = self.layouts(&members).await;
        let answer: BTreeSet<NodeId> = layouts.keys().copied().collect();
        // A new leader has to hear first how far the others are.
        turn.metrics = self.when_level(&answer).await?;
        let members = self.members_of(&turn.metrics);
        let comes = reform.comes(&members);
        let plan = reform.plan(&members)?;
        let would = Healthy { answer: &answer, force: go.force };
        would_decide(&comes, goes, &members, would)?;
        if let Reform::Forget { node, voter, voters_min } = reform {
            still_silent((*node, *voter, *voters_min), &members, &answer)?;
        }
        if matches!(reform, Reform::Demote(_)) {
            knows_standbys(&members, &layouts)?;
        }
        let Some(change) = plan.change.filter(|_| !go.dry_run) else { return Ok(plan.voters) };
        if goes == Some(self.id) {
            return Err(MembershipError::Leads(self.id));
        }
        if goes.is_some() {
            points::pass(Point::MembershipBeforeRemoval);
        } else {
            points::pass(Point::MembershipBeforePromotion);
        }
        let change = self.raft.change_membership_if(change, plan.retain, turn.unchanged());
        let changed = self.limited(change).await;
        if let Err(MembershipError::NotLeader { .. }) = changed {
            // Of its second step perhaps.
            let reason = "leadership was lost meanwhile".to_owned();
            return Err(MembershipError::Unknown { reason });
        }
        changed?;
        tracing::info!(?reform, voters = plan.voters, "the voters have changed");
        // Who was removed sees that, and asks.
        self.follow_members();
        Ok(plan.voters)
    }

    async fn wait_caught_up(
        &self,
        nodes: &BTreeSet<NodeId>,
        wait: Duration,
    ) -> Result<(), MembershipError> {
        let until = Instant::now() + wait;
        let mut level_since = None;
        if nodes.is_empty() {
            return Ok(());
        }
        loop {
            let members = self.members_of(&self.leader_metrics()?);
            let mut behind = None;
            for node in nodes {
                let member = find(&members, *node)?;
                let lag = member.lag.unwrap_or(u64::MAX);
                if !member.voter && (lag > PROMOTE_LAG_MAX || member.matched.is_none()) {
                    behind = Some((*node, lag));
                }
            }
            let now = Instant::now();
            match behind {
                None if now.duration_since(*level_since.get_or_insert(now)) >= PROMOTE_STABLE => {
                    return Ok(());
                }
                None => {}
                Some((node, lag)) if now >= until => {
                    return Err(MembershipError::NotCaughtUp { node, lag });
                }
                Some(_) => level_since = None,
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Nobody is taken out for his silence who has come back, or has become something else meanwhile.
fn still_silent(
    (node, voter, voters_min): (NodeId, bool, usize),
    members: &[MemberStatus],
    answer: &BTreeSet<NodeId>,
) -> Result<(), MembershipError> {
    let known = find(members, node)?;
    let left = members.iter().filter(|one| one.voter && one.id != node).count();
    let same = known.voter == voter && !known.member.standby && (!voter || left >= voters_min);
    if answer.contains(&node) || !same {
        return Err(MembershipError::Alive { name: known.member.name.clone() });
    }
    Ok(())
}

/// Those who are to vote must be there. When somebody votes no more, a majority of all and one of those who stay must
/// answer and be level, which is what the change takes and what all goes on with; else one of all with the new ones.
/// A learner that has died looks level for as long as nobody writes.
fn would_decide(
    comes: &BTreeSet<NodeId>,
    goes: Option<NodeId>,
    members: &[MemberStatus],
    healthy: Healthy<'_>,
) -> Result<(), MembershipError> {
    let silent = |known: &&MemberStatus| {
        !known.voter && comes.contains(&known.id) && !healthy.answer.contains(&known.id)
    };
    if let Some(silent) = members.iter().find(silent) {
        return Err(MembershipError::Silent { name: silent.member.name.clone() });
    }
    let after = goal(comes, goes, members);
    let no_quorum = |voters: &[&MemberStatus]| {
        lacks_quorum(voters, healthy).map_or(Ok(()), |(quorum, ill)| {
            Err(MembershipError::NoQuorum { voters: voters.len(), quorum, ill })
        })
    };
    let gone = goes.map(|node| find(members, node)).transpose()?.filter(|known| known.voter);
    let Some(gone) = gone else {
        // A learner may always go.
        return if comes.is_empty() { Ok(()) } else { no_quorum(&after) };
    };
    let name = gone.member.name.clone();
    if after.is_empty() {
        return Err(MembershipError::LastVoter { name });
    }
    no_quorum(&members.iter().filter(|known| known.voter).collect::<Vec<_>>())?;
    if let Some((quorum, ill)) = lacks_quorum(&after, healthy) {
        return Err(MembershipError::Needed { name, stay: after.len(), quorum, ill });
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

    fn learner(id: u64, standby: bool) -> MemberStatus {
        let mut learner = MemberStatus { voter: false, ..voter(id, 0) };
        learner.member.standby = standby;
        learner
    }

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn go(members: &[MemberStatus], answer: &[u64], gone: u64) -> Result<(), MembershipError> {
        would_decide(&BTreeSet::new(), Some(NodeId(gone)), members, only(&ids(answer)))
    }

    fn only(answer: &BTreeSet<NodeId>) -> Healthy<'_> {
        Healthy { answer, force: false }
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
        // By force it does, and who is silent never.
        let forced = |answer: &[u64]| {
            let answer = ids(answer);
            let healthy = Healthy { answer: &answer, force: true };
            would_decide(&BTreeSet::new(), Some(NodeId(2)), &behind, healthy)
        };
        assert_eq!(forced(&[1, 2, 3]), Ok(()));
        assert!(matches!(forced(&[1, 2]), Err(MembershipError::Needed { .. })));
        let five = [1, 2, 3, 4, 5].map(|id| voter(id, 0));
        assert_eq!(go(&five, &[1, 2, 3, 4, 5], 4), Ok(()));
        assert_eq!(go(&five, &[1, 2, 3], 4), Ok(()));
        assert!(matches!(go(&five, &[1, 2, 3], 3), Err(MembershipError::Needed { .. })));
    }

    #[test]
    fn a_learner_may_always_go_and_the_last_voter_never() {
        let silent = MemberStatus { matched: None, lag: None, ..learner(9, false) };
        let members = [voter(1, 0), silent];
        assert_eq!(go(&members, &[1], 9), Ok(()));
        assert!(matches!(go(&members, &[1, 9], 1), Err(MembershipError::LastVoter { .. })));
        let two = [voter(1, 0), voter(2, 0)];
        assert_eq!(go(&two, &[1, 2], 2), Ok(()));
        // Of two voters the dead one could only go with its own vote.
        let error = go(&two, &[1], 2).unwrap_err();
        assert!(matches!(error, MembershipError::NoQuorum { voters: 2, quorum: 2, .. }), "{error}");
    }

    #[test]
    fn who_is_to_vote_must_be_there() {
        let members = [voter(1, 0), voter(2, 0), voter(3, 0), learner(4, false)];
        let decide = |answer: &[u64], goes: Option<u64>| {
            would_decide(&ids(&[4]), goes.map(NodeId), &members, only(&ids(answer)))
        };
        assert_eq!(decide(&[1, 2, 3, 4], None), Ok(()));
        assert!(matches!(decide(&[1, 2, 3], None), Err(MembershipError::Silent { .. })));
        // A dead voter is replaced: two of three, then three of three.
        assert_eq!(decide(&[1, 2, 4], Some(3)), Ok(()));
        assert_eq!(decide(&[1, 2, 4], Some(2)), Ok(()), "two of the other three answer");
        assert!(matches!(decide(&[1, 4], Some(3)), Err(MembershipError::NoQuorum { .. })));
    }

    #[test]
    fn nobody_is_forgotten_who_came_back_or_became_something_else() {
        let members = [voter(1, 0), voter(2, 0), voter(3, 0), voter(4, 0), learner(5, false)];
        let gone = |node: u64, voter: bool, members: &[MemberStatus], answer: &[u64]| {
            still_silent((NodeId(node), voter, 3), members, &ids(answer)).is_ok()
        };
        assert!(gone(4, true, &members, &[1, 2, 3, 5]));
        assert!(!gone(4, true, &members, &[1, 2, 3, 4]), "it answers");
        assert!(!gone(3, true, &members[..3], &[1, 2]), "three stay");
        assert!(gone(5, false, &members, &[1, 2, 3]));
        assert!(!gone(4, false, &members, &[1, 2, 3]), "it votes by now");
        assert!(!gone(5, false, &[voter(1, 0), learner(5, true)], &[1]), "it is a standby by now");
        let graduate = Reform::Graduate(ids(&[4, 5, 9]));
        assert_eq!(graduate.comes(&members), ids(&[5]));
        assert_eq!(graduate.comes(&[voter(1, 0), learner(5, true)]), ids(&[]));
    }

    #[test]
    fn the_first_standby_waits_for_masters_that_know_of_none() {
        let members = [voter(1, 0), voter(2, 0)];
        let layouts = |second: Option<u32>| {
            BTreeMap::from_iter(
                [(NodeId(1), 2)].into_iter().chain(second.map(|layout| (NodeId(2), layout))),
            )
        };
        assert_eq!(knows_standbys(&members, &layouts(Some(2))), Ok(()));
        assert_eq!(knows_standbys(&members, &layouts(None)), Ok(()), "it may be dead");
        let error = knows_standbys(&members, &layouts(Some(0))).unwrap_err();
        assert!(error.to_string().contains("master \"m2\" is of a version that knows"), "{error}");
        let with = [voter(1, 0), voter(2, 0), learner(3, true)];
        assert_eq!(knows_standbys(&with, &layouts(Some(0))), Ok(()), "they read of one already");
    }

    #[test]
    fn each_reform_is_one_change() {
        let members = [voter(1, 0), voter(2, 0), learner(4, true), learner(5, false)];
        let plan = |reform: Reform| {
            let plan = reform.plan(&members).unwrap();
            (plan.change, plan.retain, plan.voters)
        };
        let set = |id: u64, standby: bool| {
            let known = members.iter().find(|known| known.id == NodeId(id)).unwrap();
            let member = Member { standby, ..known.member.clone() };
            Change::SetNodes(BTreeMap::from([(NodeId(id), member)]))
        };
        let (add, out) =
            (|id| Change::AddVoterIds(ids(&[id])), |id| Change::RemoveVoters(ids(&[id])));
        let batch = |changes: Vec<Change>| Some(Change::Batch(changes));
        assert_eq!(plan(Reform::Promote(ids(&[5]))), (Some(add(5)), false, 3));
        assert_eq!(plan(Reform::Promote(ids(&[1]))), (None, false, 2));
        assert_eq!(
            plan(Reform::Promote(ids(&[4]))),
            (batch(vec![set(4, false), add(4)]), false, 3)
        );
        assert_eq!(plan(Reform::Demote(NodeId(2))), (batch(vec![set(2, true), out(2)]), true, 1));
        assert_eq!(plan(Reform::Demote(NodeId(5))), (Some(set(5, true)), true, 2));
        assert_eq!(plan(Reform::Demote(NodeId(4))), (None, true, 2));
        assert_eq!(plan(Reform::Remove(NodeId(2))), (Some(out(2)), false, 1));
        let leaves = Change::RemoveNodes(ids(&[5]));
        assert_eq!(plan(Reform::Remove(NodeId(5))), (Some(leaves), false, 2));
        let replace = Reform::Replace { old: NodeId(2), new: NodeId(4) };
        assert_eq!(plan(replace), (batch(vec![set(4, false), add(4), out(2)]), false, 2));
        let known = Reform::Replace { old: NodeId(2), new: NodeId(1) };
        assert_eq!(plan(known), (Some(out(2)), false, 1));
        let unknown = Reform::Replace { old: NodeId(2), new: NodeId(7) };
        assert!(matches!(unknown.plan(&members), Err(MembershipError::UnknownNode(NodeId(7)))));
    }
}
