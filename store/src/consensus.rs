//! What the store needs of whoever decides: Raft in production, one process in tests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use quorate_state_machine::{GroupResource, LogIndex, Op, Outcome, Revision, SessionId, View};
use tokio::sync::watch as signal;

use crate::error::Error;
use crate::integrity::Integrity;
use crate::vip::Vips;

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// This master, and all that was committed before it is applied.
    Leader {
        /// Raft's term.
        term: u64,
    },
    /// Another master, or nobody known.
    Follower {
        /// Name of the leader.
        leader: Option<String>,
    },
}

/// How far this master has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Last applied log index.
    pub index: LogIndex,
    /// Last revision.
    pub revision: Revision,
}

/// Marks one leadership. Not equal to any other, also of the same master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// The only one there ever is.
    Local,
    /// Of a Raft leader.
    Raft(quorate_raft::Leadership),
}

impl Fence {
    pub(crate) fn term(&self) -> u64 {
        match self {
            Self::Local => 1,
            Self::Raft(leadership) => leadership.term.0,
        }
    }
}

/// Views that were published, newest first. Written by whoever applies, read by all.
#[derive(Debug)]
pub struct PublishedViews {
    view: ArcSwap<View>,
    sessions: Mutex<Vec<SessionId>>,
    signal: signal::Sender<Published>,
    /// Who waits for changes of one resource is not woken by those of the others.
    resources: Mutex<BTreeMap<GroupResource, signal::Sender<Revision>>>,
    /// Whether what is published is what was decided.
    pub(crate) integrity: Integrity,
    /// What this master says of its virtual addresses.
    pub(crate) vips: Mutex<Vips>,
}

impl Default for PublishedViews {
    fn default() -> Self {
        Self {
            view: ArcSwap::default(),
            sessions: Mutex::default(),
            signal: signal::channel(Published::default()).0,
            resources: Mutex::default(),
            integrity: Integrity::default(),
            vips: Mutex::default(),
        }
    }
}

impl PublishedViews {
    /// Makes a view the newest. Called after each applied batch and before its writers are answered.
    pub fn publish(&self, view: &View) {
        let published = Published { index: view.index(), revision: view.revision() };
        let before = self.view.swap(Arc::new(view.clone()));
        self.signal.send_replace(published);
        // Whoever subscribes after this sees the new view at once.
        let resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        for (resource, signal) in &*resources {
            let same = match (before.resource(resource), view.resource(resource)) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !same {
                signal.send_replace(published.revision);
            }
        }
    }

    /// Out of service, or back. All who watch are woken, and see it.
    pub(crate) fn set_damage(&self, damage: Option<String>) {
        self.integrity.set_damage(damage);
        self.signal.send_modify(|_| {});
        let revision = self.view().revision();
        let resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        for signal in resources.values() {
            signal.send_replace(revision);
        }
    }

    /// Notes which sessions are open.
    pub(crate) fn note_sessions(&self, open: impl Iterator<Item = SessionId> + Clone) {
        let mut known = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.clone().eq(known.iter().copied()) {
            *known = open.collect();
        }
    }

    /// The open sessions, in order.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    pub(crate) fn subscribe(&self) -> signal::Receiver<Published> {
        self.signal.subscribe()
    }

    /// Told the revision of each published view in which this resource is not as it was before.
    pub(crate) fn subscribe_to(&self, resource: &GroupResource) -> signal::Receiver<Revision> {
        let mut resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signal) = resources.get(resource) {
            return signal.subscribe();
        }
        resources.retain(|_, signal| signal.receiver_count() > 0);
        let (signal, receiver) = signal::channel(Revision(0));
        resources.insert(resource.clone(), signal);
        receiver
    }
}

/// Who decides.
#[async_trait]
pub trait Consensus: fmt::Debug + Send + Sync + 'static {
    /// What was published here.
    fn published(&self) -> &PublishedViews;
    /// Who leads.
    fn leadership(&self) -> signal::Receiver<Leadership>;
    /// The leadership that is held now.
    fn fence(&self) -> Option<Fence>;
    /// Everything acknowledged before the call is at or below the index that this gives.
    async fn read_index(&self, deadline: Duration) -> Result<LogIndex, Error>;
    /// Waits until this master has been level with a leader once since it started.
    async fn caught_up_once(&self, deadline: Duration) -> Result<(), Error>;
    /// Decides operations, wherever the leader is, exactly once.
    async fn write(
        &self,
        ops: Vec<Op>,
        all_or_nothing: bool,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error>;
    /// Decides operations here, under the given leadership only.
    async fn write_fenced(
        &self,
        fence: &Fence,
        ops: Vec<Op>,
        all_or_nothing: bool,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error>;
    /// As `write_fenced`, each operation for itself, also when the disk is nearly full.
    async fn write_reserved(
        &self,
        fence: &Fence,
        ops: Vec<Op>,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Error>;
    /// Forgets history, under the given leadership only.
    async fn compact(
        &self,
        fence: &Fence,
        bounds: Vec<(GroupResource, Revision)>,
        deadline: Duration,
    ) -> Result<(), Error>;
}
