//! Which masters are there at this moment: looked at before a change of the members, since one that needs somebody who
//! has just died would take the quorum away until he is back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use quorate_proto::raft as pb;

use tokio::time::Instant;

use super::status::MemberStatus;
use super::{Inner, Metrics, RaftNode};
use crate::codec::VERSION_STANDBYS;
use crate::error::MembershipError;
use crate::limits::{LEADER_READY_MAX, MEMBER_ANSWER_MAX, PROMOTE_LAG_MAX};
use crate::peer::client::Purpose;
use crate::types::{Member, NodeId};

/// Between two looks.
const POLL: Duration = Duration::from_millis(25);

impl Inner {
    /// Asks another master how far it is.
    pub(crate) async fn probe(
        &self,
        id: NodeId,
        member: &Member,
        limit: Duration,
    ) -> Option<pb::ProbeReply> {
        let mut client = self.peers.client(id, &member.peer_address, Purpose::Call);
        let reply = tokio::time::timeout(limit, client.probe(pb::ProbeRequest {})).await;
        Some(reply.ok()?.ok()?.into_inner())
    }

    /// What the leader knows as soon as it has heard how far those are who answer, and they are level; not long.
    pub(crate) async fn when_level(
        &self,
        answer: &BTreeSet<NodeId>,
    ) -> Result<Metrics, MembershipError> {
        let until = Instant::now() + LEADER_READY_MAX;
        loop {
            let metrics = self.leader_metrics()?;
            let members = self.members_of(&metrics);
            let behind = |member: &MemberStatus| {
                member.voter && answer.contains(&member.id) && !is_level(member)
            };
            if !members.iter().any(behind) || Instant::now() >= until {
                return Ok(metrics);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Which members are there now; this one is.
    pub(crate) async fn who_answers(&self, members: &[MemberStatus]) -> BTreeSet<NodeId> {
        self.layouts(members).await.into_keys().collect()
    }

    /// The same, with the newest layout of memberships that each of them reads.
    pub(crate) async fn layouts(&self, members: &[MemberStatus]) -> BTreeMap<NodeId, u32> {
        let asked = members.iter().map(|member| async move {
            if member.id == self.id {
                return Some((member.id, u32::from(VERSION_STANDBYS)));
            }
            let reply = self.probe(member.id, &member.member, MEMBER_ANSWER_MAX).await?;
            Some((member.id, reply.membership_layout))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// Too few voters answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// How many masters vote.
    pub voters: usize,
    /// How many of them decide.
    pub quorum: usize,
    /// Those that do not answer this one.
    pub silent: Vec<String>,
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { voters, quorum, silent } = self;
        let verb = if silent.len() == 1 { "does" } else { "do" };
        write!(
            f,
            "no quorum: {quorum} of {voters} masters must answer, and {} {verb} not",
            silent.join(", ")
        )
    }
}

impl RaftNode {
    /// Asks the voters whether they are there. `None`: enough are, as far as this master hears.
    pub async fn silence(&self) -> Option<Silence> {
        let inner = self.inner.clone();
        let asking = self.inner.runtime.spawn(async move {
            let members = inner.members_of(&inner.metrics());
            let answer = inner.who_answers(&members).await;
            let voters: Vec<_> = members.iter().filter(|member| member.voter).collect();
            let quorum = voters.len() / 2 + 1;
            let silent = voters.iter().filter(|member| !answer.contains(&member.id));
            let silent: Vec<String> = silent.map(|member| member.member.name.clone()).collect();
            let lacks = voters.len() - silent.len() < quorum;
            lacks.then_some(Silence { voters: voters.len(), quorum, silent })
        });
        // Who stops has other things to say.
        asking.await.ok().flatten()
    }
}

/// Who counts for a change of the members.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Healthy<'a> {
    /// Those that answer.
    pub(crate) answer: &'a BTreeSet<NodeId>,
    /// Who is behind counts as well.
    pub(crate) force: bool,
}

impl Healthy<'_> {
    fn has(self, member: &MemberStatus) -> bool {
        self.answer.contains(&member.id) && (self.force || is_level(member))
    }
}

/// Whether a member has nearly all.
fn is_level(member: &MemberStatus) -> bool {
    member.matched.is_some() && member.lag.is_some_and(|lag| lag <= PROMOTE_LAG_MAX)
}

/// When too few of these are healthy: how many must be, and who is not.
pub(crate) fn lacks_quorum(
    voters: &[&MemberStatus],
    healthy: Healthy<'_>,
) -> Option<(usize, Vec<String>)> {
    let quorum = voters.len() / 2 + 1;
    let ill = voters.iter().filter(|member| !healthy.has(member));
    let ill: Vec<String> = ill.map(|member| member.member.name.clone()).collect();
    (voters.len() - ill.len() < quorum).then_some((quorum, ill))
}

/// The first standby of a cluster comes only when all who are there can read of it: who cannot would stop there, and
/// with enough of them all writes. Who is away may be dead, and the standby be meant for its place; were it of an older
/// version, it alone would stay behind until it is upgraded.
pub(crate) fn knows_standbys(
    members: &[MemberStatus],
    layouts: &BTreeMap<NodeId, u32>,
) -> Result<(), MembershipError> {
    if members.iter().any(|known| known.member.standby) {
        return Ok(());
    }
    let is_old = |known: &&MemberStatus| {
        layouts.get(&known.id).is_some_and(|layout| *layout < u32::from(VERSION_STANDBYS))
    };
    match members.iter().find(is_old) {
        None => Ok(()),
        Some(old) => Err(MembershipError::NoStandbys { name: old.member.name.clone() }),
    }
}
