//! The store's handle, and what a leader may do with it.

use std::sync::Arc;
use std::time::Duration;

use quorate_mutants::{self as mutants, Mutant};
use quorate_state_machine::{GroupResource, LogIndex, Op, Outcome, Revision, View};
use tokio::sync::watch as signal;
use tokio::time::Instant;

use crate::consensus::{Consensus, Fence, PublishedViews};
use crate::error::Error;
use crate::limits::{FUTURE_REVISION_TIMEOUT, READ_TIMEOUT, WRITE_TIMEOUT};
use crate::local::LocalConsensus;
use crate::watch::Watch;

pub use crate::consensus::{Leadership, Published};

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Everything that was acknowledged before the call is in the view, whichever master was asked
    /// (ReadIndex; Raft dissertation, section 6.4). Kubernetes: no resourceVersion given.
    Linearizable,
    /// The view has reached this revision. Kubernetes: `resourceVersion=N`, NotOlderThan.
    AtLeast(Revision),
    /// Whatever this master has. Kubernetes: `resourceVersion=0`.
    Any,
}

/// The replicated store as any master sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) consensus: Arc<dyn Consensus>,
}

impl Store {
    /// A store in this process alone, in memory, its own leader from the start: for tests and
    /// simulations.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { consensus: Arc::new(LocalConsensus::new()) }
    }

    /// The newest view that this master has published. Never waits.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.state().view()
    }

    /// A view that is as fresh as asked, waiting [`READ_TIMEOUT`] at most.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no leader confirms in time; [`Error::FutureRevision`] when the
    /// revision is not reached in time (after [`FUTURE_REVISION_TIMEOUT`]).
    pub async fn read(&self, consistency: Consistency) -> Result<Arc<View>, Error> {
        self.read_within(consistency, READ_TIMEOUT).await
    }

    /// As [`Store::read`], with the caller's own deadline.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_within(
        &self,
        consistency: Consistency,
        deadline: Duration,
    ) -> Result<Arc<View>, Error> {
        self.in_service()?;
        match consistency {
            Consistency::Any => self.consensus.caught_up_once(deadline).await?,
            Consistency::Linearizable if mutants::is(Mutant::StaleRead) => {}
            Consistency::Linearizable if mutants::is(Mutant::ReadBeforeApply) => {
                self.consensus.read_index(deadline).await?;
            }
            Consistency::Linearizable => {
                let index = self.consensus.read_index(deadline).await?;
                self.wait_index(index, deadline).await?;
            }
            Consistency::AtLeast(revision) => self.wait_revision(revision, deadline).await?,
        }
        self.in_service()?;
        Ok(self.view())
    }

    /// Whether what this master has may be shown.
    ///
    /// # Errors
    /// [`Error::Damaged`] when its state is not what was decided.
    pub fn in_service(&self) -> Result<(), Error> {
        match self.state().integrity.damage() {
            None => Ok(()),
            Some(reason) => Err(Error::Damaged { reason }),
        }
    }

    /// Whether somebody who was served in that epoch has to begin anew: what he was shown may not have been true.
    pub(crate) fn is_cut(&self, epoch: u64) -> bool {
        let integrity = &self.state().integrity;
        integrity.epoch() != epoch || integrity.is_damaged()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.state().integrity.epoch()
    }

    /// Independent operations, each with its own outcome, in the order given. On any master;
    /// exactly once, also across a leader change. Waits [`WRITE_TIMEOUT`] at most.
    ///
    /// # Errors
    /// See [`Error`]: each variant says whether something may have been written.
    pub async fn write(&self, ops: Vec<Op>) -> Result<Vec<Outcome>, Error> {
        self.consensus.write(ops, false, WRITE_TIMEOUT).await
    }

    /// As [`Store::write`] with the caller's own deadline.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_within(
        &self,
        ops: Vec<Op>,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        self.consensus.write(ops, false, deadline).await
    }

    /// All operations or none. Else as [`Store::write`].
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn transact(&self, ops: Vec<Op>) -> Result<Vec<Outcome>, Error> {
        self.consensus.write(ops, true, WRITE_TIMEOUT).await
    }

    /// As [`Store::transact`] with the caller's own deadline.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn transact_within(
        &self,
        ops: Vec<Op>,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error> {
        self.consensus.write(ops, true, deadline).await
    }

    /// Told after each batch of log entries that this master has applied.
    #[must_use]
    pub fn published(&self) -> signal::Receiver<Published> {
        self.state().subscribe()
    }

    /// A cursor into the changes of one resource after `after`.
    #[must_use]
    pub fn watch(&self, resource: GroupResource, after: Revision) -> Watch {
        Watch::new(self.clone(), resource, after)
    }

    /// Who leads, as this master knows. `Leader` only after the leader's own first entry is applied.
    #[must_use]
    pub fn leadership(&self) -> signal::Receiver<Leadership> {
        self.consensus.leadership()
    }

    /// The store under the leadership that this master holds now; `None` when it is not the leader.
    #[must_use]
    pub fn lead(&self) -> Option<LeaderStore> {
        let fence = self.consensus.fence()?;
        Some(LeaderStore { store: self.clone(), fence })
    }

    /// Told when a view was published in which this resource has changed.
    pub(crate) fn published_of(&self, resource: &GroupResource) -> signal::Receiver<Revision> {
        self.state().subscribe_to(resource)
    }

    fn state(&self) -> &PublishedViews {
        self.consensus.published()
    }

    async fn wait_index(&self, index: LogIndex, deadline: Duration) -> Result<(), Error> {
        let mut published = self.published();
        let reached = published.wait_for(|published| published.index >= index);
        match tokio::time::timeout(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(Error::Unavailable { waited_ms: millis(deadline), silence: None }),
        }
    }

    async fn wait_revision(&self, revision: Revision, deadline: Duration) -> Result<(), Error> {
        let mut published = self.published();
        let deadline = deadline.min(FUTURE_REVISION_TIMEOUT);
        let reached = published.wait_for(|published| published.revision >= revision);
        match tokio::time::timeout_at(Instant::now() + deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => {
                Err(Error::FutureRevision { asked: revision, current: self.view().revision() })
            }
        }
    }
}

/// The store under one leadership: what the scheduler and the controllers write through. When that
/// leadership ends, also if this master comes to lead again later, writes are refused with
/// [`Error::Deposed`] (design, section 1, rule 5).
#[derive(Debug, Clone)]
pub struct LeaderStore {
    store: Store,
    fence: Fence,
}

impl LeaderStore {
    /// The newest view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.store.view()
    }

    /// Told after each batch of log entries that this master has applied.
    #[must_use]
    pub fn published(&self) -> signal::Receiver<Published> {
        self.store.published()
    }

    /// A cursor into the changes of one resource after `after`.
    #[must_use]
    pub fn watch(&self, resource: GroupResource, after: Revision) -> Watch {
        self.store.watch(resource, after)
    }

    /// Raft's term of this leadership.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.fence.term()
    }

    /// Whether the leadership still holds as far as this master knows.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.store.consensus.fence().as_ref() == Some(&self.fence)
    }

    /// Independent operations, each with its own outcome. Never forwarded.
    ///
    /// # Errors
    /// [`Error::Deposed`] when the leadership has ended; else see [`Error`].
    pub async fn write(&self, ops: Vec<Op>) -> Result<Vec<Outcome>, Error> {
        self.store.consensus.write_fenced(&self.fence, ops, false, WRITE_TIMEOUT).await
    }

    /// As [`LeaderStore::write`], also when the disk is nearly full: for what is small, bounded in number, and tells of
    /// exactly that.
    ///
    /// # Errors
    /// As [`LeaderStore::write`].
    pub async fn write_reserved(&self, ops: Vec<Op>) -> Result<Vec<Outcome>, Error> {
        self.store.consensus.write_reserved(&self.fence, ops, WRITE_TIMEOUT).await
    }

    /// All operations or none. Never forwarded.
    ///
    /// # Errors
    /// As [`LeaderStore::write`].
    pub async fn transact(&self, ops: Vec<Op>) -> Result<Vec<Outcome>, Error> {
        self.store.consensus.write_fenced(&self.fence, ops, true, WRITE_TIMEOUT).await
    }

    /// Forgets history up to a revision, per resource. The leader's compactor calls this.
    ///
    /// # Errors
    /// As [`LeaderStore::write`].
    pub async fn compact(&self, bounds: Vec<(GroupResource, Revision)>) -> Result<(), Error> {
        self.store.consensus.compact(&self.fence, bounds, WRITE_TIMEOUT).await
    }
}

pub(crate) fn stopped() -> Error {
    Error::Stopped { reason: "the store is closed".to_owned() }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
