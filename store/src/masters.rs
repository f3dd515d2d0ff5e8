//! The masters as a group: starting one on Raft, admitting and removing others, handing leadership over, what they tell
//! each other beside the log.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quorate_raft::{
    CallError, Config, Fatal, Go, Handler, LeadershipState, Member, MembershipError, NodeId,
    PeerTls, RaftNode, Reform, Refused, Route, StartError, Status, TransferError, WeakRaftNode,
};
use quorate_state_machine::codec;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::change;
use crate::consensus::PublishedViews;
use crate::error;
use crate::limits::{ALARMS_TIMEOUT, LEADER_KNOWN_TIMEOUT, MEMBERSHIP_TIMEOUT};
use crate::replicated::Replicated;
use crate::replicated::applier::Applier;
use crate::replicated::forward::{self, method};
use crate::scrub::{Scrubber, Told};
use crate::store::Store;
use crate::vip::Vips;

/// What other masters may ask of this one beside the log; given by the binary.
#[async_trait]
pub trait Relay: Send + Sync + 'static {
    /// Heartbeats of nodes, as another master knows them; the answer is what this one knows.
    async fn heartbeats(&self, from: NodeId, body: Bytes) -> Bytes;

    /// Whether this master gets through to where somebody wants to join; the binary's own words.
    async fn reach(&self, body: Bytes) -> Bytes;

    /// What another master asks about certificates and keys of this one; the binary's own words. Private keys go this
    /// way: `from` has proved to have a certificate of that master, which may have been removed since.
    async fn certificates(&self, from: NodeId, body: Bytes) -> Bytes;
}

/// Why the group did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// There is no leader now, or it cannot do it at the moment; nothing was done. Asking again may help.
    #[error("this cannot be done at the moment: {0}")]
    Unavailable(String),
    /// The leader refused; asking again does not help.
    #[error("{0}")]
    Refused(String),
    /// No master of that name.
    #[error("no master is named {0:?}")]
    UnknownMaster(String),
    /// It may have been done. The status of the masters tells.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
}

/// What a master says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Of its program.
    pub version: String,
    /// Its virtual addresses; nothing from a version that knows none.
    #[serde(default)]
    pub vips: Vips,
    /// Its state is damaged, and not healed yet.
    #[serde(default)]
    pub damaged: bool,
}

impl About {
    fn own(published: &PublishedViews) -> Self {
        let vips = published.vips.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let damaged = published.integrity.is_damaged();
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), vips, damaged }
    }
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Masters {
    pub(crate) raft: RaftNode,
    pub(crate) published: Arc<PublishedViews>,
}

/// The handler's view of what is made after it.
#[derive(Default)]
struct Calls {
    /// Which holds the handler.
    raft: OnceLock<WeakRaftNode>,
    relay: OnceLock<Weak<dyn Relay>>,
    published: Arc<PublishedViews>,
    /// To the scrubber of this master; one is enough to wake it.
    differs: Option<mpsc::Sender<Told>>,
}

struct CallsHandler(Arc<Calls>);

/// A started master: the store, and the group of masters.
#[derive(Debug)]
pub struct Started {
    /// The store on this master.
    pub store: Store,
    /// The group.
    pub masters: Masters,
    scrubber: Option<Scrubber>,
    calls: RelaySlot,
}

struct RelaySlot(Arc<Calls>);

impl std::fmt::Debug for RelaySlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RelaySlot")
    }
}

impl Started {
    /// Looks after what this master has in memory and on disk, once it is run; there is one.
    pub fn scrubber(&mut self) -> Option<Scrubber> {
        self.scrubber.take()
    }

    /// Who answers what other masters ask beside the log. Until then they are told to ask again.
    pub fn serve(&self, relay: &Arc<dyn Relay>) {
        drop(self.calls.0.relay.set(Arc::downgrade(relay)));
    }
}

impl Masters {
    /// Starts this master's store on Raft.
    ///
    /// # Errors
    /// [`StartError`]: nothing runs then.
    pub async fn start(config: Config) -> Result<Started, StartError> {
        Self::start_routed(config, None).await
    }

    /// As [`Masters::start`], with other ways to the other masters than their addresses: for tests that
    /// put a faulty network between them.
    ///
    /// # Errors
    /// As [`Masters::start`].
    pub async fn start_routed(config: Config, route: Option<Route>) -> Result<Started, StartError> {
        let applier = Applier::default();
        let published = applier.published();
        let (differs, told) = mpsc::channel(1);
        let calls = Arc::new(Calls {
            published: published.clone(),
            differs: Some(differs),
            ..Calls::default()
        });
        let handler = Arc::new(CallsHandler(calls.clone()));
        let raft = RaftNode::start_routed(config, applier, handler, route).await?;
        drop(calls.raft.set(raft.downgrade()));
        let scrubber = Scrubber::new(raft.clone(), published.clone(), told);
        let replicated = Replicated::new(raft.clone(), published.clone());
        let store = Store { consensus: Arc::new(replicated) };
        let masters = Self { raft, published };
        Ok(Started { store, masters, scrubber: Some(scrubber), calls: RelaySlot(calls) })
    }

    /// Makes this master the first of a new cluster. Does nothing when it has a log already.
    ///
    /// # Errors
    /// [`Fatal`] when Raft has stopped.
    pub async fn initialize(&self) -> Result<(), Fatal> {
        self.raft.initialize().await
    }

    /// Everything about Raft on this master at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.raft.status()
    }

    /// This master's number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.raft.id()
    }

    /// Becomes `Some` when the process must exit.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.raft.fatal()
    }

    /// Admits another master as a learner, wherever the leader is; gives its number.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn admit(&self, member: &Member) -> Result<NodeId, GroupError> {
        let Some(leader) = self.leader_elsewhere().await? else {
            return add_learner(&self.raft, member.clone()).await;
        };
        let reply = ask(&self.raft, leader, method::JOIN, member).await?;
        match codec::decode::<Result<u64, String>>(&reply) {
            Ok(Ok(id)) => Ok(NodeId(id)),
            Ok(Err(why)) => Err(GroupError::Refused(why)),
            Err(error) => Err(GroupError::Unavailable(error.to_string())),
        }
    }

    /// Tells the members where this master is now, wherever the leader is.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn announce(&self, member: &Member) -> Result<(), GroupError> {
        match self.leader_elsewhere().await? {
            None => moved(&self.raft, self.id(), member.clone()).await,
            Some(leader) => ask(&self.raft, leader, method::MOVED, member).await.map(drop),
        }
    }

    /// Who leads, when it is another master; `None` when it is this one. Between two leaders it waits for the next.
    pub(crate) async fn leader_elsewhere(&self) -> Result<Option<NodeId>, GroupError> {
        let mut leadership = self.raft.leadership();
        let known =
            leadership.wait_for(|now| !matches!(now, LeadershipState::Follower { leader: None }));
        let known = tokio::time::timeout(LEADER_KNOWN_TIMEOUT, known).await;
        let known = known.ok().and_then(Result::ok).map(|known| known.clone());
        match known {
            Some(LeadershipState::Leader(_)) => Ok(None),
            Some(LeadershipState::Follower { leader: Some((leader, _)) }) => Ok(Some(leader)),
            Some(LeadershipState::Follower { leader: None }) | None => {
                let silence = self.raft.silence().await;
                let why = match &silence {
                    Some(silence) => error::what_next(silence),
                    None => "no leader is known here yet: ask again in a moment".to_owned(),
                };
                Err(GroupError::Unavailable(why))
            }
        }
    }

    /// Lets another master try whether it gets through to somewhere; what it said, or why it said nothing.
    ///
    /// # Errors
    /// In words for people.
    pub async fn reach_from(
        &self,
        node: NodeId,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, String> {
        let reply = self.raft.call(node, method::REACH, body, deadline).await;
        reply.map_err(|error| error.to_string())
    }

    /// What a master says of itself; `None` when it does not answer, or is of a version that cannot.
    pub async fn about(&self, node: NodeId) -> Option<About> {
        about_of(&self.raft, &self.published, node).await
    }

    /// Asks another master about its certificates and keys; the binary's own words.
    ///
    /// # Errors
    /// In words for people.
    pub async fn certificates_of(
        &self,
        node: NodeId,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, String> {
        let reply = self.raft.call(node, method::CERTIFICATES, body, deadline).await;
        reply.map_err(|error| error.to_string())
    }

    /// Connections to and from other masters that begin from now on have this material; those that are open stay.
    ///
    /// # Errors
    /// When it is not of this master, or does not parse; then nothing is changed.
    pub fn renew_tls(&self, tls: &PeerTls) -> Result<(), StartError> {
        self.raft.renew_tls(tls)
    }

    /// Becomes `Some`, with what to do, when the others have removed this master: it must end.
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<Option<String>> {
        self.raft.removed()
    }

    /// Whether the member of that number was removed, as far as this master knows.
    #[must_use]
    pub fn has_removed(&self, node: NodeId) -> bool {
        self.raft.has_removed(node)
    }

    /// Makes learners that have caught up voters, in one step, but not standbys. On the leader only.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn promote(&self, nodes: BTreeSet<NodeId>) -> Result<(), MembershipError> {
        self.raft.reform(Reform::Graduate(nodes), Go::AHEAD).await.map(drop)
    }

    /// Takes out a master that is silent; not when it answers, has become something else than a voter or a learner, or
    /// when fewer voters than that would be left. On the leader only; who means it asks with [`Masters::change`].
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn forget(
        &self,
        node: NodeId,
        voter: bool,
        voters_min: usize,
    ) -> Result<(), MembershipError> {
        let forget = Reform::Forget { node, voter, voters_min };
        self.raft.reform(forget, Go::AHEAD).await.map(drop)
    }

    /// Hands leadership over to another voter.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        self.raft.transfer_leader(to).await
    }

    /// Sends heartbeats to the leader and gets what it knows; `None` when this master leads, or no
    /// leader answers.
    pub async fn relay_heartbeats(&self, body: Bytes, deadline: Duration) -> Option<Bytes> {
        let LeadershipState::Follower { leader: Some((leader, _)) } =
            self.raft.leadership().borrow().clone()
        else {
            return None;
        };
        self.raft.call(leader, method::HEARTBEATS, body, deadline).await.ok()
    }

    /// Stops Raft at once, without handing leadership over: what a crash looks like to the others.
    pub async fn abort(&self) {
        self.raft.abort().await;
    }

    /// Hands leadership over when it has it, syncs, and stops Raft.
    pub async fn shutdown(&self) {
        self.raft.shutdown().await;
    }
}

/// See [`Masters::about`].
pub(crate) async fn about_of(
    raft: &RaftNode,
    published: &PublishedViews,
    node: NodeId,
) -> Option<About> {
    if node == raft.id() {
        return Some(About::own(published));
    }
    let said = raft.call(node, method::ABOUT, Bytes::new(), ALARMS_TIMEOUT).await.ok()?;
    serde_json::from_slice(&said).ok()
}

pub(crate) async fn ask(
    raft: &RaftNode,
    leader: NodeId,
    method: u32,
    what: &impl Serialize,
) -> Result<Bytes, GroupError> {
    let body = serde_json::to_vec(what).map_err(|error| GroupError::Refused(error.to_string()))?;
    let reply = raft.call(leader, method, body.into(), MEMBERSHIP_TIMEOUT).await;
    reply.map_err(|error| match error {
        CallError::Refused(why) => GroupError::Unavailable(why),
        CallError::Unknown { reason } => GroupError::Unknown(reason),
        CallError::ToSelf
        | CallError::UnknownNode(_)
        | CallError::TooLarge { .. }
        | CallError::Unreachable { .. }
        | CallError::Fatal(_) => GroupError::Unavailable(error.to_string()),
    })
}

async fn add_learner(raft: &RaftNode, member: Member) -> Result<NodeId, GroupError> {
    raft.add_learner(member).await.map_err(of_membership)
}

async fn moved(raft: &RaftNode, node: NodeId, member: Member) -> Result<(), GroupError> {
    raft.update_member(node, member).await.map_err(of_membership)
}

pub(crate) fn of_membership(error: MembershipError) -> GroupError {
    match error {
        MembershipError::Duplicate { .. }
        | MembershipError::TooMany(_)
        | MembershipError::Leads(_)
        | MembershipError::LastVoter { .. }
        | MembershipError::Needed { .. }
        | MembershipError::NoQuorum { .. }
        | MembershipError::NoStandbys { .. }
        | MembershipError::Alive { .. }
        | MembershipError::UnknownNode(_) => GroupError::Refused(error.to_string()),
        MembershipError::NotLeader { .. }
        | MembershipError::NotCaughtUp { .. }
        | MembershipError::Silent { .. }
        | MembershipError::InProgress => GroupError::Unavailable(error.to_string()),
        MembershipError::Unknown { reason } => GroupError::Unknown(reason),
        MembershipError::Fatal(fatal) => GroupError::Unknown(fatal.to_string()),
    }
}

#[async_trait]
impl Handler for CallsHandler {
    async fn call(
        &self,
        from: NodeId,
        number: u32,
        body: Bytes,
        _deadline: Duration,
    ) -> Result<Bytes, Refused> {
        let starting = || Refused("this master is starting".to_owned());
        let raft = self.0.raft.get().ok_or_else(starting)?.upgrade();
        let raft = &raft.ok_or_else(|| Refused("this master is stopping".to_owned()))?;
        match number {
            method::PROPOSE => forward::serve(raft, false, body).await.map_err(Refused),
            method::PROPOSE_FREEING => forward::serve(raft, true, body).await.map_err(Refused),
            method::JOIN => {
                let member = serde_json::from_slice(&body)
                    .map_err(|error| Refused(format!("member does not decode: {error}")))?;
                let answer = match add_learner(raft, member).await {
                    Ok(id) => Ok(id.0),
                    Err(GroupError::Refused(why)) => Err(why),
                    Err(error) => return Err(Refused(error.to_string())),
                };
                codec::encode(&answer).map(Bytes::from).map_err(|e| Refused(e.to_string()))
            }
            method::MOVED => {
                let member = serde_json::from_slice(&body)
                    .map_err(|error| Refused(format!("member does not decode: {error}")))?;
                let answer = moved(raft, from, member).await;
                answer.map(|()| Bytes::new()).map_err(|error| Refused(error.to_string()))
            }
            method::ALARMS => Ok(crate::alarms::serve(raft, &self.0.published)),
            method::HASHES => {
                // Who is being healed has nothing to compare.
                let samples = if self.0.published.integrity.is_damaged() {
                    Vec::new()
                } else {
                    self.0.published.integrity.samples(&self.0.published.view())
                };
                serde_json::to_vec(&samples).map(Bytes::from).map_err(|e| Refused(e.to_string()))
            }
            method::DIFFERS => {
                let told: Told = serde_json::from_slice(&body)
                    .map_err(|error| Refused(format!("what differs does not decode: {error}")))?;
                // One that waits already says the same.
                if let Some(differs) = &self.0.differs {
                    drop(differs.try_send(told));
                }
                Ok(Bytes::new())
            }
            method::ABOUT => serde_json::to_vec(&About::own(&self.0.published))
                .map(Bytes::from)
                .map_err(|error| Refused(error.to_string())),
            method::CHANGE => change::serve(raft, &self.0.published, &body).await,
            method::HEARTBEATS => {
                let relay = self.0.relay.get().and_then(Weak::upgrade).ok_or_else(starting)?;
                Ok(relay.heartbeats(from, body).await)
            }
            method::REACH => {
                let relay = self.0.relay.get().and_then(Weak::upgrade).ok_or_else(starting)?;
                Ok(relay.reach(body).await)
            }
            method::CERTIFICATES => {
                let relay = self.0.relay.get().and_then(Weak::upgrade).ok_or_else(starting)?;
                Ok(relay.certificates(from, body).await)
            }
            other => Err(Refused(format!("method {other} is not served: upgrade this master"))),
        }
    }
}
