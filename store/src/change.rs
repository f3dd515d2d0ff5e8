//! Changes of the group of masters, as an operator asks any master for them: who votes, who goes, who leads. The leader
//! carries them out; one that is to vote no more itself hands over first.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use quorate_raft::limits::TRANSFER_LAG_MAX;
use quorate_raft::{
    Go, LeadershipState, MemberStatus, MembershipError, NodeId, RaftNode, Reform, Refused,
    TransferError,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::alarms::{self, Alarm};
use crate::consensus::PublishedViews;
use crate::limits::{LEADER_KNOWN_TIMEOUT, MEMBERSHIP_TIMEOUT};
use crate::masters::{GroupError, Masters, about_of, ask, of_membership};
use crate::replicated::forward::method;

/// Between two tries to have leadership handed over.
const PAUSE: Duration = Duration::from_millis(100);

/// A change of the group that any master can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Takes a master out, wherever it is and whether it lives. A leader hands over first.
    Remove {
        /// Its name.
        name: String,
    },
    /// Hands leadership over.
    Lead {
        /// To whom; to one that is up to date and has no alarm when nobody is named.
        to: Option<String>,
    },
    /// Makes a learner a voter, a standby too. Refused when it has not caught up.
    Promote {
        /// Its name.
        name: String,
    },
    /// Makes a voter a standby, which gets the log and does not vote. A leader hands over first.
    Demote {
        /// Its name.
        name: String,
    },
    /// Takes one master out, and another votes in its place, in one step. A leader hands over first.
    Replace {
        /// The name of the one that goes.
        old: String,
        /// The name of the other, which must be a member.
        new: String,
    },
    /// Looks whether it could be done, and does nothing: a dry run.
    Try(Box<Self>),
    /// Also where somebody on whom it depends is behind, or has a full or a slow disk: writes may wait then, and
    /// nothing is lost. Who is silent, or damaged, is no help with it either.
    Force(Box<Self>),
}

impl Change {
    /// What is to change, and how it is meant.
    fn meant(&self) -> (&Self, Go) {
        match self {
            Self::Try(change) => {
                let (meant, go) = change.meant();
                (meant, Go { dry_run: true, ..go })
            }
            Self::Force(change) => {
                let (meant, go) = change.meant();
                (meant, Go { force: true, ..go })
            }
            change => (change, Go::AHEAD),
        }
    }

    /// Who votes no more after it.
    fn goes(&self) -> Option<&str> {
        match self.meant().0 {
            Self::Remove { name } | Self::Demote { name } | Self::Replace { old: name, .. } => {
                Some(name)
            }
            _ => None,
        }
    }
}

/// What came of a [`Change`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Who leads now, as far as is known; after a dry run, who would.
    pub leader: Option<String>,
    /// How many vote now; after a dry run, how many would.
    #[serde(default)]
    pub voters: Option<usize>,
}

/// What the leader says to a [`Change`], on the wire.
type Said = Result<Changed, Denied>;

/// See [`GroupError`]. What is not here is no answer at all.
#[derive(Debug, Serialize, Deserialize)]
enum Denied {
    Refused(String),
    UnknownMaster(String),
    Unknown(String),
}

impl Masters {
    /// Changes the group, wherever the leader is. A leader that is to vote no more hands over first: it could end
    /// before it has said what came of it. What is begun goes on when who asked has gone.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn change(&self, change: &Change) -> Result<Changed, GroupError> {
        let (masters, change) = (self.clone(), change.clone());
        let work = tokio::spawn(async move { masters.change_it(&change).await });
        work.await.unwrap_or_else(|error| Err(GroupError::Unknown(error.to_string())))
    }

    async fn change_it(&self, change: &Change) -> Result<Changed, GroupError> {
        let until = Instant::now() + MEMBERSHIP_TIMEOUT;
        loop {
            if Instant::now() >= until {
                let why =
                    "leadership could not be handed over for good, and nothing else was changed";
                return Err(GroupError::Unavailable(why.to_owned()));
            }
            let leader = self.leader_elsewhere().await?.unwrap_or_else(|| self.id());
            let goes = change.goes().filter(|_| !change.meant().1.dry_run);
            if goes.is_none() || goes != name_of(&self.raft, leader).as_deref() {
                match self.ask_leader(leader, change).await {
                    // Nothing was done: another one leads by now, or nobody.
                    Err(GroupError::Unavailable(_)) if self.leads_no_more(leader) => {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    said => return said,
                }
            }
            // What is refused is refused before anything happens.
            self.ask_leader(leader, &Change::Try(Box::new(change.clone()))).await?;
            let lead = Change::Lead { to: None };
            let force = change.meant().1.force;
            let lead = if force { Change::Force(Box::new(lead)) } else { lead };
            match self.ask_leader(leader, &lead).await {
                Ok(changed) => {
                    tracing::info!(
                        heir = changed.leader,
                        "the leader is to vote no more: it handed over"
                    );
                }
                Err(GroupError::Unavailable(why) | GroupError::Unknown(why)) => {
                    tracing::info!(
                        why,
                        "the leader is to vote no more, and has perhaps not handed over"
                    );
                }
                Err(refused) => return Err(refused),
            }
            let mut leadership = self.raft.leadership();
            let own = self.id();
            let other = leadership.wait_for(|now| match now {
                LeadershipState::Leader(_) => leader != own,
                LeadershipState::Follower { leader: Some((now, _)) } => *now != leader,
                LeadershipState::Follower { leader: None } => false,
            });
            drop(tokio::time::timeout(LEADER_KNOWN_TIMEOUT, other).await);
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn leads_no_more(&self, leader: NodeId) -> bool {
        if leader == self.id() {
            !self.raft.holds_lease()
        } else {
            self.raft.status().leader != Some(leader)
        }
    }

    async fn ask_leader(&self, leader: NodeId, change: &Change) -> Result<Changed, GroupError> {
        if leader == self.id() {
            carry_out(&self.raft, &self.published, change).await
        } else {
            ask_for(&self.raft, leader, change).await
        }
    }

    /// Who could lead: it votes, answers, is up to date, and has no alarm that speaks against it; the one that is most
    /// up to date. On the leader only.
    pub async fn fit_to_lead(&self) -> Option<String> {
        let heirs = heirs(&self.raft, &self.published).await;
        let fit = heirs.into_iter().find(|heir| heir.against().is_none())?;
        name_of(&self.raft, fit.id)
    }
}

async fn ask_for(raft: &RaftNode, leader: NodeId, change: &Change) -> Result<Changed, GroupError> {
    let reply = ask(raft, leader, method::CHANGE, change).await?;
    let said: Said = serde_json::from_slice(&reply)
        .map_err(|error| GroupError::Unknown(format!("the answer does not decode: {error}")))?;
    said.map_err(|denied| match denied {
        Denied::Refused(why) => GroupError::Refused(why),
        Denied::UnknownMaster(name) => GroupError::UnknownMaster(name),
        Denied::Unknown(why) => GroupError::Unknown(why),
    })
}

/// On the leader.
async fn carry_out(
    raft: &RaftNode,
    published: &PublishedViews,
    change: &Change,
) -> Result<Changed, GroupError> {
    let (meant, go) = change.meant();
    let number = |name: &str| number_of(raft, name);
    let reform = match meant {
        Change::Lead { to } => return hand_over(raft, published, to.as_deref(), go).await,
        Change::Promote { name } => Reform::Promote(BTreeSet::from([number(name)?])),
        Change::Demote { name } => Reform::Demote(number(name)?),
        Change::Remove { name } => Reform::Remove(number(name)?),
        Change::Replace { old, new } if old == new => {
            let why = format!("{old:?} cannot replace itself: name another master");
            return Err(GroupError::Refused(why));
        }
        Change::Replace { old, new } => {
            let known = number(new);
            let (old, new) = (number(old)?, known.map_err(|_| not_joined(new))?);
            Reform::Replace { old, new }
        }
        // They were looked through.
        Change::Try(_) | Change::Force(_) => {
            return Err(GroupError::Refused("nothing is to change".to_owned()));
        }
    };
    match meant {
        Change::Promote { name } | Change::Replace { new: name, .. } => {
            fit(raft, published, (name, "vote"), go).await?;
        }
        _ => {}
    }
    if let Some(gone) = reform.goes() {
        others_are_sound(raft, published, gone).await?;
    }
    let leads_and_goes = reform.goes() == Some(raft.id());
    match raft.reform(reform.clone(), go).await {
        Ok(voters) => {
            let leader = if go.dry_run && leads_and_goes {
                hand_over(raft, published, None, go).await?.leader
            } else {
                name_of(raft, raft.id())
            };
            Ok(Changed { leader, voters: Some(voters) })
        }
        // Asked by a master that does not see to it itself.
        Err(MembershipError::Leads(_)) => {
            let leader = hand_over(raft, published, None, go).await?.leader.unwrap_or_default();
            tracing::info!(leader, "handed leadership over: this master is to vote no more");
            // Boxed: its answer is made by the same code, on the other master.
            Box::pin(ask_for(raft, number_of(raft, &leader)?, change)).await
        }
        Err(error) => {
            let forced = Go { dry_run: true, force: true };
            let hint = !go.force && depends(&error) && raft.reform(reform, forced).await.is_ok();
            Err(hinted(of_membership(error), hint))
        }
    }
}

/// Whether it is refused for those on whom it depends.
fn depends(error: &MembershipError) -> bool {
    matches!(
        error,
        MembershipError::Needed { .. }
            | MembershipError::NoQuorum { .. }
            | MembershipError::NotCaughtUp { .. }
    )
}

fn hinted(error: GroupError, hint: bool) -> GroupError {
    let more = |why: String| format!("{why}. {FORCE}");
    match error {
        GroupError::Refused(why) if hint => GroupError::Refused(more(why)),
        GroupError::Unavailable(why) if hint => GroupError::Unavailable(more(why)),
        error => error,
    }
}

/// What can be done about a refusal all the same.
const FORCE: &str =
    "With --force it is done all the same: nothing is lost by that, but writes may wait";

/// The alarm that speaks against leading, or voting.
fn against(alarms: &BTreeSet<Alarm>) -> Option<Alarm> {
    let mut ill = alarms.iter().filter(|alarm| alarm.unfit_to_lead() || **alarm == Alarm::Corrupt);
    ill.next_back().copied()
}

/// Refuses who is named to lead or to vote and is not fit for it.
async fn fit(
    raft: &RaftNode,
    published: &PublishedViews,
    (name, to): (&str, &str),
    go: Go,
) -> Result<(), GroupError> {
    let alarms = alarms::of(raft, published, number_of(raft, name)?).await.unwrap_or_default();
    let Some(alarm) = against(&alarms) else { return Ok(()) };
    let advice = alarm.advice();
    let why = format!("master {name:?} is not fit to {to}, it has the alarm {alarm}: {advice}");
    match alarm {
        Alarm::Corrupt => Err(GroupError::Refused(why)),
        _ if go.force => Ok(()),
        _ => Err(hinted(GroupError::Refused(why), true)),
    }
}

/// Nobody goes who has the last copy that is not damaged. Who is silent is none that anybody knows of.
async fn others_are_sound(
    raft: &RaftNode,
    published: &PublishedViews,
    gone: NodeId,
) -> Result<(), GroupError> {
    let members = raft.members();
    let asked = members.iter().map(|known| async move {
        Some((known, about_of(raft, published, known.id).await?.damaged))
    });
    let known: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    one_is_sound(gone, &known)
}

/// Each with whether its state is damaged.
fn one_is_sound(gone: NodeId, known: &[(&MemberStatus, bool)]) -> Result<(), GroupError> {
    let (gone, others): (Vec<_>, Vec<_>) = known.iter().partition(|(known, _)| known.id == gone);
    // With nobody there it is the quorum that is missing, or the last voter.
    let no_help = gone.iter().any(|(_, damaged)| *damaged) || others.is_empty();
    if no_help || others.iter().any(|(_, damaged)| !damaged) {
        return Ok(());
    }
    let quoted = |list: &[(&MemberStatus, bool)]| {
        let names = list.iter().map(|(known, _)| format!("{:?}", known.member.name));
        names.collect::<Vec<_>>().join(", ")
    };
    Err(GroupError::Refused(format!(
        "master {} has the only copy that is not damaged: {} have the alarm CORRUPT. Wait until they have taken its \
         state, `quorate masters list` shows their alarms; or let a new master join first",
        quoted(&gone),
        quoted(&others)
    )))
}

async fn hand_over(
    raft: &RaftNode,
    published: &PublishedViews,
    to: Option<&str>,
    go: Go,
) -> Result<Changed, GroupError> {
    let leads = raft.status().leader == Some(raft.id());
    let to = match to {
        Some(name) => {
            let to = number_of(raft, name)?;
            if !votes(raft, to) {
                return Err(GroupError::Refused(format!(
                    "master {name:?} does not vote, so it cannot lead: `quorate masters promote {name}` first"
                )));
            }
            if to != raft.id() || !leads {
                fit(raft, published, (name, "lead"), go).await?;
            }
            Some(to)
        }
        None => choose(raft, heirs(raft, published).await, go.force)?,
    };
    let leader = match to {
        Some(to) if to == raft.id() && leads => to,
        to if go.dry_run => raft.transfer_target(to).await.map_err(|e| of_transfer(raft, e))?,
        to => raft.transfer_leader(to).await.map_err(|e| of_transfer(raft, e))?,
    };
    Ok(Changed { leader: name_of(raft, leader), voters: Some(voters_of(raft)) })
}

/// A voter that is up to date, and could lead.
struct Heir {
    id: NodeId,
    /// `None`: it does not answer.
    alarms: Option<BTreeSet<Alarm>>,
}

impl Heir {
    /// What speaks against it.
    fn against(&self) -> Option<String> {
        let Some(alarms) = &self.alarms else { return Some("does not answer".to_owned()) };
        against(alarms).map(|alarm| format!("has the alarm {alarm}"))
    }
}

/// Those who are most up to date come first.
async fn heirs(raft: &RaftNode, published: &PublishedViews) -> Vec<Heir> {
    let members = raft.members();
    let level = |known: &&MemberStatus| {
        let lag = known.lag.is_some_and(|lag| lag <= TRANSFER_LAG_MAX);
        known.voter && known.id != raft.id() && known.matched.is_some() && lag
    };
    let mut level: Vec<_> = members.iter().filter(level).collect();
    level.sort_by_key(|known| known.lag);
    let asked = level.iter().map(|known| async move {
        Heir { id: known.id, alarms: alarms::of(raft, published, known.id).await }
    });
    join_all(asked).await
}

/// Whom leadership goes to when nobody is named. By force also somebody with a full or a slow disk; nobody who is
/// damaged. `None`: nobody is up to date, which Raft tells.
fn choose(raft: &RaftNode, heirs: Vec<Heir>, force: bool) -> Result<Option<NodeId>, GroupError> {
    let damaged =
        |heir: &Heir| heir.alarms.as_ref().is_none_or(|alarms| alarms.contains(&Alarm::Corrupt));
    let fit = heirs.iter().find(|heir| heir.against().is_none());
    let forced = || heirs.iter().find(|heir| force && !damaged(heir));
    if let Some(heir) = fit.or_else(forced) {
        return Ok(Some(heir.id));
    }
    if heirs.is_empty() {
        return Ok(None);
    }
    let why = heirs.iter().filter_map(|heir| {
        Some(format!("{:?} {}", name_of(raft, heir.id).unwrap_or_default(), heir.against()?))
    });
    let why = format!("nobody else is fit to lead: {}", why.collect::<Vec<_>>().join(", "));
    Err(hinted(GroupError::Refused(why), heirs.iter().any(|heir| !damaged(heir))))
}

fn voters_of(raft: &RaftNode) -> usize {
    raft.members().into_iter().filter(|known| known.voter).count()
}

fn not_joined(name: &str) -> GroupError {
    GroupError::Refused(format!(
        "master {name:?} has not joined yet: run `quorate server --join URL --token T --name {name} --standby` on its \
         machine first"
    ))
}

fn number_of(raft: &RaftNode, name: &str) -> Result<NodeId, GroupError> {
    let members = raft.members();
    let named = members.into_iter().find(|known| known.member.name == name);
    named.map(|known| known.id).ok_or_else(|| GroupError::UnknownMaster(name.to_owned()))
}

fn name_of(raft: &RaftNode, id: NodeId) -> Option<String> {
    raft.members().into_iter().find(|known| known.id == id).map(|known| known.member.name)
}

fn votes(raft: &RaftNode, id: NodeId) -> bool {
    raft.members().into_iter().any(|known| known.voter && known.id == id)
}

/// People know masters by their names.
fn of_transfer(raft: &RaftNode, error: TransferError) -> GroupError {
    let name = |node: NodeId| name_of(raft, node).unwrap_or_else(|| node.to_string());
    match error {
        TransferError::NoTarget => GroupError::Refused(
            "no other master votes: let one join, or promote one, then it can lead".to_owned(),
        ),
        TransferError::Silent { node } => GroupError::Refused(format!(
            "master {:?} does not answer: choose another one, or start it again first",
            name(node)
        )),
        TransferError::NotCaughtUp { node, lag } => GroupError::Refused(format!(
            "master {:?} is {lag} entries behind: wait until it has them (`quorate masters list` shows it), or choose \
             another one",
            name(node)
        )),
        TransferError::NotLeader { .. } | TransferError::Fatal(_) => {
            GroupError::Unavailable(error.to_string())
        }
        TransferError::NotTaken { node } => {
            GroupError::Unknown(format!("master {:?} did not take over in time", name(node)))
        }
    }
}

/// What another master asked of this one as the leader, for its wire.
pub(crate) async fn serve(
    raft: &RaftNode,
    published: &PublishedViews,
    body: &[u8],
) -> Result<Bytes, Refused> {
    let change = serde_json::from_slice(body).map_err(|error| {
        let own = name_of(raft, raft.id()).unwrap_or_default();
        Refused(format!("the change does not decode, upgrade master {own:?}: {error}"))
    })?;
    let said: Said = match carry_out(raft, published, &change).await {
        Ok(changed) => Ok(changed),
        Err(GroupError::Refused(why)) => Err(Denied::Refused(why)),
        Err(GroupError::UnknownMaster(name)) => Err(Denied::UnknownMaster(name)),
        Err(GroupError::Unknown(why)) => Err(Denied::Unknown(why)),
        Err(GroupError::Unavailable(why)) => return Err(Refused(why)),
    };
    serde_json::to_vec(&said).map(Bytes::from).map_err(|error| Refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::Member;

    #[test]
    fn what_is_meant_is_read_in_any_order() {
        let remove = Change::Remove { name: "m1".to_owned() };
        let (forced, tried) = (|c| Change::Force(Box::new(c)), |c| Change::Try(Box::new(c)));
        for both in [forced(tried(remove.clone())), tried(forced(remove.clone()))] {
            assert_eq!(both.meant(), (&remove, Go { dry_run: true, force: true }));
            assert_eq!(both.goes(), Some("m1"));
        }
        assert_eq!(remove.meant(), (&remove, Go::AHEAD));
        assert_eq!(tried(remove).meant().1, Go::DRY_RUN);
        let lead = Change::Lead { to: Some("m1".to_owned()) };
        assert_eq!(lead.goes(), None);
        let written = serde_json::to_string(&forced(lead.clone())).unwrap();
        assert_eq!(serde_json::from_str::<Change>(&written).unwrap(), forced(lead));
    }

    #[test]
    fn the_last_copy_that_is_not_damaged_stays() {
        let known = |id: u64| MemberStatus {
            id: NodeId(id),
            member: Member { name: format!("m{id}"), ..Member::default() },
            voter: true,
            matched: None,
            lag: None,
            last_contact: None,
        };
        let (first, second, third) = (known(1), known(2), known(3));
        let go = |known: &[(&MemberStatus, bool)]| one_is_sound(NodeId(1), known);
        assert!(go(&[(&first, false)]).is_ok());
        assert!(go(&[(&first, false), (&second, true), (&third, false)]).is_ok());
        assert!(go(&[(&first, true), (&second, true)]).is_ok(), "its copy is no better");
        let error = go(&[(&first, false), (&second, true), (&third, true)]).unwrap_err();
        let said = error.to_string();
        let why = "\"m1\" has the only copy that is not damaged: \"m2\", \"m3\" have";
        assert!(said.contains(why), "{said}");
    }

    #[test]
    fn force_is_offered_only_where_it_helps() {
        let refused = || GroupError::Refused("it is behind".to_owned());
        assert!(hinted(refused(), true).to_string().contains("With --force"));
        assert_eq!(hinted(refused(), false).to_string(), "it is behind");
        let depends_on = MembershipError::NotCaughtUp { node: NodeId(4), lag: 9 };
        assert!(depends(&depends_on));
        assert!(!depends(&MembershipError::LastVoter { name: "m1".to_owned() }));
    }
}
