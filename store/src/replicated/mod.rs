//! The store on Raft: proposals go to the leader wherever it is, views come from the local log.
//!
//! * [`applier`]: what the log drives on this master.
//! * [`session`]: numbers this master's proposals, so that a retry takes effect once.
//! * [`batch`]: many writers share one log entry.
//! * [`departed`]: closes the sessions of masters that are gone.
//! * [`silence`]: who does not answer, for the text of errors.
//! * [`forward`]: the call by which a proposal reaches the leader.

pub(crate) mod applier;
pub(crate) mod batch;
pub(crate) mod departed;
pub(crate) mod forward;
pub(crate) mod session;
mod silence;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use quorate_raft::{LeadershipState, ProposeError, RaftNode, ReadError};
use quorate_state_machine::{
    Command, Entry, GroupResource, LogIndex, Op, Outcome, Proposal, Reply, Revision, codec,
};
use tokio::sync::watch as signal;
use tokio_util::task::AbortOnDropHandle;

use crate::consensus::{Consensus, Fence, Leadership, PublishedViews};
use crate::error::Error;
use crate::limits::EXPLAINED_DEADLINE_MIN;
use crate::store::millis;

use batch::Batcher;
use silence::Silent;

/// See the module.
#[derive(Debug)]
pub(crate) struct Replicated {
    raft: RaftNode,
    published: Arc<PublishedViews>,
    leadership: signal::Sender<Leadership>,
    batcher: Batcher,
    caught_up: AtomicBool,
    silence: Silent,
    _departed: AbortOnDropHandle<()>,
}

impl Replicated {
    /// Starts the tasks that connect the store with a running node.
    pub(crate) fn new(raft: RaftNode, published: Arc<PublishedViews>) -> Self {
        let leadership = signal::channel(Leadership::Follower { leader: None }).0;
        follow_leadership(&raft, leadership.clone());
        let batcher = Batcher::start(raft.clone());
        let departed = departed::start(raft.clone(), published.clone());
        // State of its own says nothing: a learner may have stopped half way.
        let caught_up = AtomicBool::new(false);
        let silence = Silent::new(raft.clone());
        Self { raft, published, leadership, batcher, caught_up, silence, _departed: departed }
    }

    async fn fenced(
        &self,
        fence: &Fence,
        command: Command,
        freeing: bool,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        let Fence::Raft(leadership) = fence else {
            return Err(Error::Deposed);
        };
        let entry = Entry { proposals: vec![Proposal { session: None, command }] };
        let payload = codec::encode_entry(&entry).map_err(Error::TooLarge)?.into();
        match self.propose_fenced(leadership, payload, freeing, deadline).await? {
            Ok(proposed) => match batch::decode_replies(&proposed.reply)?.into_iter().next() {
                Some(Reply::Decided(outcomes)) => Ok(outcomes),
                other => Err(Error::Stopped { reason: format!("unexpected reply {other:?}") }),
            },
            Err(ProposeError::NotLeader { .. }) => Err(Error::Deposed),
            Err(ProposeError::Unknown { .. }) => {
                Err(Error::Unknown { waited_ms: millis(deadline) })
            }
            Err(ProposeError::Overloaded) => Err(Error::Overloaded),
            Err(error @ (ProposeError::DiskFull { .. } | ProposeError::OverQuota { .. })) => {
                Err(Error::NoSpace { reason: error.to_string() })
            }
            Err(ProposeError::TooLarge { bytes, .. }) => {
                Err(Error::TooLarge(codec::CodecError::TooLong(bytes)))
            }
            Err(ProposeError::Fatal(fatal)) => Err(Error::Stopped { reason: fatal.to_string() }),
        }
    }
}

impl Replicated {
    /// Proposes under a leadership, for as long as it is held. A leader that has not heard of its
    /// quorum lately (a paused machine, an election that another one lost) takes nothing for a
    /// moment and yet leads on, in the same term: that is not the end of its leadership, and the
    /// roles that take it for the end would never start again.
    async fn propose_fenced(
        &self,
        leadership: &quorate_raft::Leadership,
        payload: bytes::Bytes,
        freeing: bool,
        deadline: Duration,
    ) -> Result<Result<quorate_raft::Proposed, ProposeError>, Error> {
        let ends = tokio::time::Instant::now() + deadline;
        let mut states = self.raft.leadership();
        loop {
            let left = ends.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Err(Error::Unavailable { waited_ms: millis(deadline), silence: None });
            }
            let payload = payload.clone();
            let proposed = if freeing {
                self.raft.propose_fenced_reserved(leadership, payload, left).await
            } else {
                self.raft.propose_fenced(leadership, payload, left).await
            };
            match proposed {
                Err(ProposeError::NotLeader { .. })
                    if *states.borrow_and_update() == LeadershipState::Leader(*leadership) =>
                {
                    batch::pause(&mut states, left).await?;
                }
                done => return Ok(done),
            }
        }
    }
}

/// Tells the store's readers who leads, in their terms.
fn follow_leadership(raft: &RaftNode, told: signal::Sender<Leadership>) {
    let mut states = raft.leadership();
    tokio::spawn(async move {
        loop {
            let state = match &*states.borrow_and_update() {
                LeadershipState::Leader(leadership) => {
                    Leadership::Leader { term: leadership.term.0 }
                }
                LeadershipState::Follower { leader } => Leadership::Follower {
                    leader: leader.as_ref().map(|(_, member)| member.name.clone()),
                },
            };
            told.send_if_modified(|told| {
                let changed = *told != state;
                *told = state;
                changed
            });
            if states.changed().await.is_err() {
                return;
            }
        }
    });
}

#[async_trait]
impl Consensus for Replicated {
    fn published(&self) -> &PublishedViews {
        &self.published
    }

    fn leadership(&self) -> signal::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn fence(&self) -> Option<Fence> {
        match &*self.raft.leadership().borrow() {
            LeadershipState::Leader(leadership) => Some(Fence::Raft(*leadership)),
            LeadershipState::Follower { .. } => None,
        }
    }

    async fn read_index(&self, deadline: Duration) -> Result<LogIndex, Error> {
        let unavailable = || Error::Unavailable { waited_ms: millis(deadline), silence: None };
        match self.raft.read_index(deadline).await {
            Ok(index) => {
                self.caught_up.store(true, Ordering::Relaxed);
                Ok(LogIndex(index.0))
            }
            // Whoever has little time, a probe for example, wants no reasons.
            Err(ReadError::Timeout { .. }) if deadline < EXPLAINED_DEADLINE_MIN => {
                Err(unavailable())
            }
            Err(ReadError::Timeout { .. }) => Err(self.silence.explained(unavailable()).await),
            Err(ReadError::Overloaded) => Err(Error::Overloaded),
            Err(error @ (ReadError::Removed | ReadError::Fatal(_))) => {
                Err(Error::Leaving { reason: error.to_string() })
            }
        }
    }

    async fn caught_up_once(&self, deadline: Duration) -> Result<(), Error> {
        if self.caught_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        // A master votes only after it was level with the leader as a learner.
        let id = self.raft.id();
        if self.raft.members().iter().any(|member| member.id == id && member.voter) {
            self.caught_up.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.read_index(deadline).await.map(|_| ())
    }

    async fn write(
        &self,
        ops: Vec<Op>,
        all_or_nothing: bool,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        let command = if all_or_nothing { Command::Txn(ops) } else { Command::Write(ops) };
        match self.batcher.propose(command, deadline).await {
            Err(error) => Err(self.silence.explained(error).await),
            done => done,
        }
    }

    async fn write_fenced(
        &self,
        fence: &Fence,
        ops: Vec<Op>,
        all_or_nothing: bool,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        let command = if all_or_nothing { Command::Txn(ops) } else { Command::Write(ops) };
        let freeing = command.frees_space();
        self.fenced(fence, command, freeing, deadline).await
    }

    async fn write_reserved(
        &self,
        fence: &Fence,
        ops: Vec<Op>,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        self.fenced(fence, Command::Write(ops), true, deadline).await
    }

    async fn compact(
        &self,
        fence: &Fence,
        bounds: Vec<(GroupResource, Revision)>,
        deadline: Duration,
    ) -> Result<(), Error> {
        self.fenced(fence, Command::Compact(bounds), true, deadline).await.map(|_| ())
    }
}
