//! The masters as a group: starting one on Raft, admitting another, what they tell each other beside
//! the log.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quorate_raft::{
    CallError, Config, Fatal, Handler, LeadershipState, Member, MembershipError, NodeId, RaftNode,
    Refused, Route, StartError, Status, TransferError, WeakRaftNode,
};
use quorate_state_machine::codec;
use tokio::sync::watch;

use crate::limits::MEMBERSHIP_TIMEOUT;
use crate::replicated::Replicated;
use crate::replicated::applier::Applier;
use crate::replicated::forward::{self, method};
use crate::store::Store;

/// What other masters may ask of this one beside the log; given by the binary.
#[async_trait]
pub trait Relay: Send + Sync + 'static {
    /// Heartbeats of nodes, as another master knows them; the answer is what this one knows.
    async fn heartbeats(&self, from: NodeId, body: Bytes) -> Bytes;
}

/// Why another master was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no leader now, or it did not answer: ask again.
    #[error("no leader answers at the moment: {0}")]
    Unavailable(String),
    /// The leader refused; asking again does not help.
    #[error("{0}")]
    Refused(String),
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Masters {
    pub(crate) raft: RaftNode,
}

/// The handler's view of what is made after it.
#[derive(Default)]
struct Calls {
    /// Which holds the handler.
    raft: OnceLock<WeakRaftNode>,
    relay: OnceLock<Weak<dyn Relay>>,
}

struct CallsHandler(Arc<Calls>);

/// A started master: the store, and the group of masters.
#[derive(Debug)]
pub struct Started {
    /// The store on this master.
    pub store: Store,
    /// The group.
    pub masters: Masters,
    calls: RelaySlot,
}

struct RelaySlot(Arc<Calls>);

impl std::fmt::Debug for RelaySlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RelaySlot")
    }
}

impl Started {
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
        let calls = Arc::new(Calls::default());
        let handler = Arc::new(CallsHandler(calls.clone()));
        let raft = RaftNode::start_routed(config, applier, handler, route).await?;
        drop(calls.raft.set(raft.downgrade()));
        let store = Store { consensus: Arc::new(Replicated::new(raft.clone(), published)) };
        Ok(Started { store, masters: Self { raft }, calls: RelaySlot(calls) })
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
    /// [`JoinError`].
    pub async fn admit(&self, member: &Member) -> Result<NodeId, JoinError> {
        let state = self.raft.leadership().borrow().clone();
        match state {
            LeadershipState::Leader(_) => add_learner(&self.raft, member.clone()).await,
            LeadershipState::Follower { leader: None } => {
                Err(JoinError::Unavailable("none is known".to_owned()))
            }
            LeadershipState::Follower { leader: Some((leader, _)) } => {
                let body = serde_json::to_vec(member)
                    .map_err(|error| JoinError::Refused(error.to_string()))?;
                let call = self.raft.call(leader, method::JOIN, body.into(), MEMBERSHIP_TIMEOUT);
                let reply = match call.await {
                    Ok(reply) => reply,
                    Err(CallError::Refused(why)) => return Err(JoinError::Unavailable(why)),
                    Err(error) => return Err(JoinError::Unavailable(error.to_string())),
                };
                match codec::decode::<Result<u64, String>>(&reply) {
                    Ok(Ok(id)) => Ok(NodeId(id)),
                    Ok(Err(why)) => Err(JoinError::Refused(why)),
                    Err(error) => Err(JoinError::Unavailable(error.to_string())),
                }
            }
        }
    }

    /// Tells the members where this master is now, wherever the leader is.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn announce(&self, member: &Member) -> Result<(), JoinError> {
        let state = self.raft.leadership().borrow().clone();
        match state {
            LeadershipState::Leader(_) => moved(&self.raft, self.id(), member.clone()).await,
            LeadershipState::Follower { leader: None } => {
                Err(JoinError::Unavailable("none is known".to_owned()))
            }
            LeadershipState::Follower { leader: Some((leader, _)) } => {
                let body = serde_json::to_vec(member)
                    .map_err(|error| JoinError::Refused(error.to_string()))?;
                let call = self.raft.call(leader, method::MOVED, body.into(), MEMBERSHIP_TIMEOUT);
                let answer = call.await;
                answer.map(|_| ()).map_err(|error| JoinError::Unavailable(error.to_string()))
            }
        }
    }

    /// Makes a learner that has caught up a voter. On the leader only.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn promote(&self, node: NodeId) -> Result<(), MembershipError> {
        self.raft.promote(node).await
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

async fn add_learner(raft: &RaftNode, member: Member) -> Result<NodeId, JoinError> {
    raft.add_learner(member).await.map_err(of_membership)
}

async fn moved(raft: &RaftNode, node: NodeId, member: Member) -> Result<(), JoinError> {
    raft.update_member(node, member).await.map_err(of_membership)
}

fn of_membership(error: MembershipError) -> JoinError {
    match error {
        MembershipError::Duplicate { .. }
        | MembershipError::TooMany(_)
        | MembershipError::UnknownNode(_) => JoinError::Refused(error.to_string()),
        MembershipError::NotLeader { .. }
        | MembershipError::NotCaughtUp { .. }
        | MembershipError::Unknown { .. }
        | MembershipError::Fatal(_) => JoinError::Unavailable(error.to_string()),
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
                    Err(JoinError::Refused(why)) => Err(why),
                    Err(JoinError::Unavailable(why)) => return Err(Refused(why)),
                };
                codec::encode(&answer).map(Bytes::from).map_err(|e| Refused(e.to_string()))
            }
            method::MOVED => {
                let member = serde_json::from_slice(&body)
                    .map_err(|error| Refused(format!("member does not decode: {error}")))?;
                let answer = moved(raft, from, member).await;
                answer.map(|()| Bytes::new()).map_err(|error| Refused(error.to_string()))
            }
            method::HEARTBEATS => {
                let relay = self.0.relay.get().and_then(Weak::upgrade).ok_or_else(starting)?;
                Ok(relay.heartbeats(from, body).await)
            }
            other => Err(Refused(format!("method {other} is not served: upgrade this master"))),
        }
    }
}
