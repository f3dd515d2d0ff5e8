//! The apply thread: owns the state machine, calls it in log order, publishes how far it is, and
//! only then lets writers be answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::EntryPayload;
use openraft::storage::ApplyResponder;
use quorate_mutants::{self as mutants, Mutant};
use quorate_points::{self as points, Point};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::error::Fatal;
use crate::host::{Host, Worker as HostWorker};
use crate::limits::APPLY_BATCH_MAX;
use crate::machine::{LogEntry, RestoreError, SnapshotWriter, StateMachine};
use crate::raft_types::{Entry, LogId, Reply, StoredMembership, TypeConfig, term_of};
use crate::snapshot::file::SnapshotFile;
use crate::types::LogIndex;

/// Commands that wait for the thread: one at work, one prepared.
const QUEUE: usize = 2;

type Item = (Entry, Option<ApplyResponder<TypeConfig>>);

pub(crate) enum Command {
    Apply { batch: Vec<Item>, done: oneshot::Sender<()> },
    Snapshot { done: oneshot::Sender<View> },
    Restore { file: SnapshotFile, done: oneshot::Sender<Result<(), RestoreError>> },
    Hold(Hold),
}

/// What is put in the place of a damaged state.
pub(crate) struct Better {
    pub(crate) file: SnapshotFile,
    /// The entries that follow it, up to what was applied; none when it reaches further.
    pub(crate) entries: Vec<Entry>,
}

impl Command {
    /// What has to wait is done by the loop.
    fn or_hold(self) -> Result<Self, Hold> {
        if let Self::Hold(hold) = self { Err(hold) } else { Ok(self) }
    }
}

/// Nothing is applied until a better state has come, or nobody wants to bring one any more.
pub(crate) struct Hold {
    /// Told the last index that is applied.
    pub(crate) held: oneshot::Sender<u64>,
    /// A state, and what the log has between it and that index.
    pub(crate) better: oneshot::Receiver<Better>,
    pub(crate) done: oneshot::Sender<Result<(), RestoreError>>,
}

/// The state at one moment, ready to be encoded.
pub(crate) struct View {
    pub(crate) last_applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) state_bytes: u64,
    pub(crate) writer: SnapshotWriter,
}

/// How far the machine is; readable at any time.
#[derive(Debug)]
pub(crate) struct Applied {
    position: Mutex<(Option<LogId>, StoredMembership)>,
    state_bytes: AtomicU64,
    quota_bytes: AtomicU64,
    /// The last entry that Raft has handed over.
    handed: AtomicU64,
    /// This master's state is known to be damaged: nobody gets it.
    damaged: watch::Sender<bool>,
    /// Somebody has met with damage: the state is to be looked at.
    suspect: Notify,
    index: watch::Sender<LogIndex>,
}

impl Applied {
    fn new() -> Self {
        Self {
            position: Mutex::new((None, StoredMembership::default())),
            state_bytes: AtomicU64::new(0),
            quota_bytes: AtomicU64::new(0),
            handed: AtomicU64::new(0),
            damaged: watch::Sender::new(false),
            suspect: Notify::new(),
            index: watch::Sender::new(LogIndex(0)),
        }
    }

    pub(crate) fn position(&self) -> (Option<LogId>, StoredMembership) {
        self.position.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn state_bytes(&self) -> u64 {
        self.state_bytes.load(Ordering::Relaxed)
    }

    fn handed(&self, index: u64) {
        self.handed.fetch_max(index, Ordering::Relaxed);
    }

    /// Whether the state is one that was brought, of entries that Raft has not handed over yet. It must not hear of a
    /// snapshot of it: it may not even have them in its log.
    pub(crate) fn is_ahead(&self) -> bool {
        let reached = self.position().0.map_or(0, |id| id.index);
        reached > self.handed.load(Ordering::Relaxed)
    }

    /// Whether this master's own state may be given to others.
    pub(crate) fn is_damaged(&self) -> bool {
        *self.damaged.borrow()
    }

    pub(crate) fn set_damaged(&self, damaged: bool) {
        self.damaged.send_replace(damaged);
    }

    /// Waits until it is.
    pub(crate) async fn when_damaged(&self) {
        // The sender is here.
        drop(self.damaged.subscribe().wait_for(|damaged| *damaged).await);
    }

    pub(crate) fn suspect(&self) -> &Notify {
        &self.suspect
    }

    /// See [`StateMachine::quota_bytes`].
    pub(crate) fn quota_bytes(&self) -> u64 {
        self.quota_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<LogIndex> {
        self.index.subscribe()
    }

    fn publish(&self, last: Option<LogId>, membership: StoredMembership, bytes: [u64; 2]) {
        let [state_bytes, quota_bytes] = bytes;
        self.quota_bytes.store(quota_bytes, Ordering::Relaxed);
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = (last, membership);
        self.state_bytes.store(state_bytes, Ordering::Relaxed);
        self.index.send_replace(LogIndex(last.map_or(0, |id| id.index)));
    }
}

/// Handle to the thread.
pub(crate) struct ApplyThread {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) applied: Arc<Applied>,
    pub(crate) worker: HostWorker,
}

struct Worker<M> {
    machine: M,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    applied: Arc<Applied>,
}

/// Starts the thread. It ends when the last sender is gone, or when the machine panics.
pub(crate) fn start<M: StateMachine>(
    machine: M,
    fatal: watch::Sender<Option<Fatal>>,
    host: &dyn Host,
) -> std::io::Result<ApplyThread> {
    let (commands, mut queue) = mpsc::channel::<Command>(QUEUE);
    let applied = Arc::new(Applied::new());
    let mut worker = Worker {
        machine,
        last_applied: None,
        membership: StoredMembership::default(),
        applied: applied.clone(),
    };
    let work = async move {
        while let Some(command) = queue.recv().await {
            let command = match command.or_hold() {
                Ok(command) => command,
                Err(hold) => {
                    worker.hold(hold).await;
                    continue;
                }
            };
            if catch_unwind(AssertUnwindSafe(|| worker.handle(command))).is_err() {
                tracing::error!("the state machine panicked");
                let text = "the state machine panicked while it applied the log".to_owned();
                fatal.send_modify(|fatal| {
                    fatal.get_or_insert(Fatal(text));
                });
                return;
            }
        }
    };
    let worker = host.start("raft-apply", Box::pin(work))?;
    Ok(ApplyThread { commands, applied, worker })
}

impl<M: StateMachine> Worker<M> {
    fn handle(&mut self, command: Command) {
        // Receivers that are gone belong to a node that is stopping.
        match command {
            Command::Apply { batch, done } => {
                self.apply(batch);
                done.send(()).unwrap_or(());
            }
            Command::Snapshot { done } => {
                let view = View {
                    last_applied: self.last_applied,
                    membership: self.membership.clone(),
                    state_bytes: self.machine.state_bytes(),
                    writer: self.machine.snapshot(),
                };
                drop(done.send(view));
            }
            Command::Restore { file, done } => {
                // A state that was brought may be ahead of the leader's snapshot: nothing goes back.
                let reached = self.last_applied.map(|id| id.index);
                let restored = if reached.is_some() && file.last_index() < reached {
                    Ok(())
                } else {
                    self.restore(&file)
                };
                if restored.is_ok() {
                    self.applied.handed(file.last_index().unwrap_or_default());
                }
                drop(done.send(restored));
            }
            // Taken by the loop, since it waits.
            Command::Hold(_) => {}
        }
    }

    async fn hold(&mut self, hold: Hold) {
        let applied = self.last_applied.map_or(0, |id| id.index);
        if hold.held.send(applied).is_err() {
            return;
        }
        // Nobody brings one: it goes on with what it has.
        let Ok(Better { file, entries }) = hold.better.await else { return };
        let before = self.last_applied.map(|id| id.index);
        let ends = entries.last().map(|entry| entry.log_id.index).max(file.last_index());
        let starts = entries.first().map(|entry| entry.log_id.index);
        let follows = starts.is_none() || starts == file.last_index().map(|index| index + 1);
        if ends < before || !follows {
            let why = "it does not reach to what was applied".to_owned();
            drop(hold.done.send(Err(RestoreError::Invalid(why))));
            return;
        }
        let restored = self.restore(&file);
        if restored.is_ok() {
            for some in entries.chunks(APPLY_BATCH_MAX) {
                self.apply(some.iter().map(|entry| (entry.clone(), None)).collect());
            }
        }
        drop(hold.done.send(restored));
    }

    fn apply(&mut self, batch: Vec<Item>) {
        points::pass(Point::ApplyBeforeBatch);
        if let Some((entry, _)) = batch.last() {
            self.applied.handed(entry.log_id.index);
        }
        // A state that was brought may be ahead of what Raft knows to be applied. What its proposers get is no answer.
        let reached = self.last_applied.map(|id| id.index);
        let batch: Vec<Item> =
            batch.into_iter().filter(|(entry, _)| Some(entry.log_id.index) > reached).collect();
        if batch.is_empty() {
            return;
        }
        let mut entries = Vec::with_capacity(batch.len());
        let mut responders = Vec::with_capacity(batch.len());
        for (entry, responder) in batch {
            let payload = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(_) if mutants::armed(Mutant::SkipAfterSnapshot) => None,
                EntryPayload::Normal(data) => Some(data.0),
                EntryPayload::Membership(membership) => {
                    points::pass(Point::MembershipApplied);
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    None
                }
            };
            entries.push(LogEntry {
                index: LogIndex(entry.log_id.index),
                term: term_of(&entry.log_id),
                payload,
            });
            responders.push(responder);
            self.last_applied = Some(entry.log_id);
        }
        let count = entries.len();
        let replies = self.machine.apply(entries);
        assert_eq!(replies.len(), count, "the machine must answer each entry");
        self.publish();
        points::pass(Point::ApplyBeforeAnswer);
        for (responder, reply) in responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(Reply(reply));
            }
        }
        points::pass(Point::ApplyAfterAnswer);
    }

    fn restore(&mut self, file: &SnapshotFile) -> Result<(), RestoreError> {
        let meta = file.meta().map_err(|error| RestoreError::Invalid(error.to_string()))?;
        let mut state = Counting { inner: file.read_state()?, bytes: 0 };
        self.machine.restore(&mut state)?;
        // The rest, if any, so that the decoder compares its checksum too.
        std::io::copy(&mut state, &mut std::io::sink())?;
        if state.bytes != file.state_bytes {
            let (found, expected) = (state.bytes, file.state_bytes);
            return Err(RestoreError::Invalid(format!("{found} bytes, {expected} were written")));
        }
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership;
        self.publish();
        mutants::arm(Mutant::SkipAfterSnapshot);
        Ok(())
    }

    fn publish(&self) {
        let (last, membership) = (self.last_applied, self.membership.clone());
        let bytes = [self.machine.state_bytes(), self.machine.quota_bytes()];
        self.applied.publish(last, membership, bytes);
    }
}

struct Counting<R> {
    inner: R,
    bytes: u64,
}

impl<R: std::io::Read> std::io::Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
