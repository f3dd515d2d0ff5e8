//! The node: a cheap handle to everything that runs for it.
//!
//! `start` puts it together; `propose`, `read`, `leadership`, `membership`, `transfer` and
//! `status` are its operations; `election` and `upkeep` are what it does by itself.

pub(crate) mod election;
pub mod heal;
mod health;
pub mod leadership;
pub(crate) mod membership;
pub mod propose;
pub(crate) mod read;
pub(crate) mod removal;
mod start;
pub mod status;
pub(crate) mod stop;
mod transfer;
pub(crate) mod upkeep;
pub mod voters;

pub use health::Silence;
pub use start::OPENER_THREAD;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use quorate_proto::raft as pb;
use tokio::sync::{mpsc, watch};

use crate::apply::{self, Applied};
use crate::config::{PeerTls, SnapshotRule, Timing};
use crate::error::{CallError, Fatal, StartError};
use crate::host::Host;
use crate::limits::CALL_BYTES_MAX;
use crate::log::shared::Shared;
use crate::log::storage::LogStore;
use crate::machine_store::MachineStore;
use crate::peer::client::{Peers, Purpose};
use crate::peer::network::{describe, not_delivered};
use crate::peer::past::Past;
use crate::peer::server::Inbound;
use crate::raft_types::{OpenraftFatal, TypeConfig};
use crate::snapshot::store::SnapshotStore;
use crate::space::Space;
use crate::types::{LogIndex, Member, NodeId};

pub(crate) type Raft = openraft::Raft<TypeConfig, MachineStore>;
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;

/// A running master's Raft. Clones are handles to the same node.
#[derive(Clone)]
pub struct RaftNode {
    pub(crate) inner: Arc<Inner>,
}

/// A [`RaftNode`] that goes with its last real handle: for what the node itself holds.
#[derive(Debug, Clone)]
pub struct WeakRaftNode {
    inner: Weak<Inner>,
}

impl WeakRaftNode {
    /// The node, if there still is one.
    #[must_use]
    pub fn upgrade(&self) -> Option<RaftNode> {
        self.inner.upgrade().map(|inner| RaftNode { inner })
    }
}

impl RaftNode {
    /// A handle that does not keep the node.
    #[must_use]
    pub fn downgrade(&self) -> WeakRaftNode {
        WeakRaftNode { inner: Arc::downgrade(&self.inner) }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("id", &self.id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) id: NodeId,
    pub(crate) member: Member,
    pub(crate) raft: Raft,
    pub(crate) log: Arc<Shared>,
    pub(crate) log_store: LogStore,
    pub(crate) applied: Arc<Applied>,
    /// The thread that applies.
    pub(crate) applying: mpsc::WeakSender<apply::Command>,
    pub(crate) snapshots: Arc<SnapshotStore>,
    pub(crate) peers: Peers,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) reads: read::Reads,
    pub(crate) proposals: propose::Gate,
    pub(crate) leadership: watch::Receiver<leadership::LeadershipState>,
    pub(crate) membership_lock: tokio::sync::Mutex<()>,
    pub(crate) fatal: watch::Sender<Option<Fatal>>,
    /// What to do, once the others have removed this master.
    pub(crate) removed: watch::Sender<Option<String>>,
    /// Somebody has said that it was removed.
    pub(crate) leaving: AtomicBool,
    /// The data directory.
    pub(crate) directory: PathBuf,
    pub(crate) heard: Arc<leadership::Heard>,
    pub(crate) space: Arc<Space>,
    pub(crate) past: Arc<Past>,
    pub(crate) snapshot_rule: SnapshotRule,
    pub(crate) timing: Timing,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) peer_address: SocketAddr,
    pub(crate) stopping: stop::Stopping,
    pub(crate) host: Arc<dyn Host>,
}

impl Inner {
    pub(crate) fn metrics(&self) -> Metrics {
        // Cloned at once: openraft's core waits for whoever holds the borrow.
        self.raft.metrics().borrow_watched().clone()
    }

    /// Who leads, with its description.
    pub(crate) fn leader_of(metrics: &Metrics) -> Option<(NodeId, Member)> {
        let id = metrics.current_leader?;
        let member = metrics.membership_config.membership().get_node(&id)?;
        Some((id, member.clone()))
    }

    pub(crate) fn fatal_error(&self, error: &OpenraftFatal) -> Fatal {
        self.fatal.borrow().clone().unwrap_or_else(|| Fatal(error.to_string()))
    }

    pub(crate) fn member_of(&self, node: NodeId) -> Option<Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&node).cloned()
    }
}

impl RaftNode {
    /// This master's number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// Where the peer listener really listens (its port, when port 0 was asked for).
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.inner.peer_address
    }

    /// Makes this master the first of a new cluster. Does nothing when the node has a log already.
    ///
    /// # Errors
    /// `Fatal` when the node has stopped.
    pub async fn initialize(&self) -> Result<(), Fatal> {
        let node = self.clone();
        self.on_runtime(async move {
            let members = BTreeMap::from([(node.inner.id, node.inner.member.clone())]);
            match node.inner.raft.initialize(members).await {
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
                Err(RaftError::APIError(error @ InitializeError::NotInMembers(_))) => {
                    Err(Fatal(error.to_string()))
                }
                Err(RaftError::Fatal(error)) => Err(node.inner.fatal_error(&error)),
            }
        })
        .await
    }

    /// Whether this node has a log (its own or a leader's).
    #[must_use]
    pub fn is_initialized(&self) -> bool {
        self.inner.log.lock().last.is_some()
    }

    /// Becomes `Some` when the node cannot go on: the process must exit. (A disk that failed, a
    /// machine that panicked.) It never goes back.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.inner.fatal.subscribe()
    }

    /// The last index the local machine has applied and published.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.inner.applied.watch()
    }

    /// Connections to and from other masters that begin from now on have this material; those that are open stay.
    ///
    /// # Errors
    /// When it is not of this master, or does not parse; then nothing is changed.
    pub fn renew_tls(&self, tls: &PeerTls) -> Result<(), StartError> {
        self.inner.peers.tls().renew(tls)
    }

    /// Asks another master's [`crate::peer::Handler`]. Retrying is the caller's business.
    ///
    /// # Errors
    /// `Unreachable` means not delivered; `Unknown` that it may have been.
    pub async fn call(
        &self,
        node: NodeId,
        method: u32,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        if node == self.inner.id {
            return Err(CallError::ToSelf);
        }
        if body.len() > CALL_BYTES_MAX {
            return Err(CallError::TooLarge { bytes: body.len(), max: CALL_BYTES_MAX });
        }
        let member = self.inner.member_of(node).ok_or(CallError::UnknownNode(node))?;
        let inner = self.inner.clone();
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.on_runtime(async move {
            let mut client = inner.peers.client(node, &member.peer_address, Purpose::Call);
            let request = pb::CallRequest { method, body, deadline_ms };
            match tokio::time::timeout(deadline, client.call(request)).await {
                Err(_) => Err(CallError::Unknown { reason: "deadline".to_owned() }),
                Ok(Ok(reply)) => match reply.into_inner().outcome {
                    Some(pb::call_reply::Outcome::Body(body)) => Ok(body),
                    Some(pb::call_reply::Outcome::Refused(text)) => Err(CallError::Refused(text)),
                    None => Err(CallError::Unknown { reason: "an empty answer".to_owned() }),
                },
                Ok(Err(status)) if not_delivered(&status) => {
                    Err(CallError::Unreachable { reason: describe(&status) })
                }
                Ok(Err(status)) => Err(CallError::Unknown { reason: describe(&status) }),
            }
        })
        .await
    }

    /// Runs on Raft's own runtime, whichever the caller is on. Dropping the result cancels.
    pub(crate) async fn on_runtime<T>(&self, work: impl Future<Output = T> + Send + 'static) -> T
    where
        T: OnStop + Send + 'static,
    {
        let mut task = tokio_util::task::AbortOnDropHandle::new(self.inner.runtime.spawn(work));
        match (&mut task).await {
            Ok(value) => value,
            Err(error) => T::on_stop(Fatal(format!("raft's runtime has ended: {error}"))),
        }
    }
}

/// What an operation answers when the runtime ends under it.
pub(crate) trait OnStop {
    fn on_stop(fatal: Fatal) -> Self;
}

impl<T, E: From<Fatal>> OnStop for Result<T, E> {
    fn on_stop(fatal: Fatal) -> Self {
        Err(fatal.into())
    }
}
