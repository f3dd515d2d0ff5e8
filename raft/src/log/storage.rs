//! openraft's log storage on top of the writer thread and the shared tail.
//!
//! RaftCore awaits `append`, `truncate_after`, `purge` and `save_committed`; they only enqueue (in
//! order) and return. `save_vote` alone waits for the disk.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use futures::Stream;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use quorate_points::{self as points, Point};
use tokio::sync::{mpsc, oneshot, watch};

use super::directory::Lock;
use super::engine::LogEngine;
use super::examine::Examiner;
use super::open;
use super::shared::Shared;
use super::writer::{Command, Writer};
use crate::codec::DiskIdentity;
use crate::error::{Fatal, StartError};
use crate::host::{Host, Worker};
use crate::limits::{LOG_CHECK_ENTRIES, LOG_CHECK_PAUSE, LOG_QUEUE_MAX, LOG_READ_BYTES_MAX};
use crate::raft_types::{Entry, LogId, TypeConfig, Vote};
use crate::space::Space;

/// Handle to the log: openraft's storage and reader.
#[derive(Clone)]
pub(crate) struct LogStore {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// The log's thread.
pub(crate) struct LogThread {
    commands: mpsc::Sender<Command>,
    worker: Worker,
}

impl LogThread {
    /// Writes what is pending and waits for the thread. Blocks.
    pub(crate) async fn stop(self) {
        // The thread may have failed and gone already.
        drop(self.commands.send(Command::Stop).await);
        self.worker.ended().await;
    }
}

impl LogStore {
    /// Opens and checks the log in `directory`. Blocks: reads all of it.
    pub(crate) async fn open(
        directory: &Path,
        lock: Lock,
        identity: &DiskIdentity,
        space: Arc<Space>,
        fatal: watch::Sender<Option<Fatal>>,
        open_engine: impl FnOnce(&Path) -> io::Result<Box<dyn LogEngine>>,
        host: &dyn Host,
    ) -> Result<(Self, LogThread), StartError> {
        let opened = open::open(directory, identity, open_engine).await?;
        let (writer, shared) = Writer::new(opened, directory.to_owned(), space, fatal);
        let (commands, queue) = mpsc::channel(LOG_QUEUE_MAX);
        let work = async move {
            writer.run(queue).await;
            // Only now may another process open the directory.
            drop(lock);
        };
        let started = host.start("raft-log", Box::pin(work));
        let worker = started.map_err(|source| StartError::Io {
            path: directory.to_owned(),
            action: "start the log's thread",
            source,
        })?;
        Ok((Self { commands: commands.clone(), shared }, LogThread { commands, worker }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Drops a log that conflicts with the newest snapshot. A master that took a snapshot may have
    /// died when the snapshot was in place, and the removal of the conflicting entries before it not
    /// yet on disk. The snapshot holds only what is committed; another entry where it ends, and all
    /// behind that, can never be (Raft, section 7).
    pub(crate) async fn drop_superseded(&mut self, snapshot: Option<LogId>) -> io::Result<()> {
        let Some(snapshot) = snapshot else { return Ok(()) };
        let purged = {
            let tail = self.shared.lock();
            if snapshot.index < tail.first() || snapshot.index >= tail.end() {
                return Ok(());
            }
            tail.purged
        };
        let there = self.read(snapshot.index, snapshot.index + 1, LOG_READ_BYTES_MAX).await?;
        if there.first().is_none_or(|entry| entry.log_id == snapshot) {
            return Ok(());
        }
        tracing::warn!(?snapshot, "the log conflicts with the snapshot that replaced it: dropped");
        points::pass(Point::LogSuperseded);
        self.truncate_after(purged).await
    }

    fn failed(&self) -> io::Error {
        let reason = self.shared.lock().failed.clone();
        io::Error::other(reason.unwrap_or_else(|| "the log is closed".to_owned()))
    }

    async fn send(&self, command: Command) -> io::Result<()> {
        self.commands.send(command).await.map_err(|_| self.failed())
    }

    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let memory_first = {
            let tail = self.shared.lock();
            let (from, to) = (from.max(tail.first()), to.min(tail.end()));
            if from >= to {
                return Ok(Vec::new());
            }
            if from >= tail.memory_first() {
                return Ok(tail.read(from, to, bytes_max));
            }
            tail.memory_first()
        };
        let (done, entries) = oneshot::channel();
        let older = to.min(memory_first);
        self.send(Command::Read { from, to: older, bytes_max, done }).await?;
        let entries = entries.await.map_err(|_| self.failed())??;
        if entries.is_empty() && older < to {
            // A log that never had its first entries (openraft's suite makes such).
            return Ok(self.shared.lock().read(older, to, bytes_max));
        }
        Ok(entries)
    }

    /// Reads everything that is on disk again, a little at a time. Gives the first entry that is damaged.
    pub(crate) async fn check(&self) -> io::Result<Option<(u64, String)>> {
        let (mut from, end) = {
            let tail = self.shared.lock();
            (tail.first(), tail.end())
        };
        while from < end {
            let to = end.min(from + LOG_CHECK_ENTRIES);
            let (done, checked) = oneshot::channel();
            self.send(Command::Check { from, to, done }).await?;
            let damaged = checked.await.map_err(|_| self.failed())??;
            // What was purged meanwhile need not be right.
            if let Some(damaged) = damaged.filter(|(index, _)| *index >= self.shared.lock().first())
            {
                return Ok(Some(damaged));
            }
            from = to;
            tokio::time::sleep(LOG_CHECK_PAUSE).await;
        }
        Ok(None)
    }

    /// What reads the files of the store again; `None` when it has none.
    pub(crate) async fn examiner(&self) -> io::Result<Option<Examiner>> {
        let (done, examiner) = oneshot::channel();
        self.send(Command::Examiner { done }).await?;
        examiner.await.map_err(|_| self.failed())
    }

    /// Puts another store with the same log in the place of this one, whose files are damaged.
    pub(crate) async fn renew(&self) -> io::Result<()> {
        let (done, renewed) = oneshot::channel();
        self.send(Command::Renew { done }).await?;
        renewed.await.map_err(|_| self.failed())?
    }

    /// All entries of a range, in steps.
    pub(crate) async fn read_all(&self, mut from: u64, to: u64) -> io::Result<Vec<Entry>> {
        let mut all = Vec::new();
        while from < to {
            let some = self.read(from, to, LOG_READ_BYTES_MAX).await?;
            let Some(last) = some.last() else { break };
            from = last.log_id.index + 1;
            all.extend(some);
        }
        Ok(all)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&from) => from,
        Bound::Excluded(&from) => from + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&to) => to + 1,
        Bound::Excluded(&to) => to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (from, to) = bounds(&range);
        let from = from.max(self.shared.lock().first());
        self.read_all(from, to).await
    }

    /// For apply: in steps of bounded size, not the whole range at once.
    async fn entries_stream<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend {
        let (from, to) = bounds(&range);
        let store = self.clone();
        let steps = futures::stream::try_unfold((store, from), move |(store, from)| async move {
            if from >= to {
                return Ok(None);
            }
            let some = store.read(from, to, LOG_READ_BYTES_MAX).await?;
            let Some(last) = some.last() else {
                // Beyond the end there is nothing; before it everything must be there.
                let end = store.shared.lock().end();
                let missing = || io::Error::other(format!("log entry {from} is not there"));
                return if from < end { Err(missing()) } else { Ok(None) };
            };
            let next = last.log_id.index + 1;
            Ok(Some((futures::stream::iter(some.into_iter().map(Ok)), (store, next))))
        });
        Box::pin(futures::TryStreamExt::try_flatten(steps))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, LOG_READ_BYTES_MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let tail = self.shared.lock();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, saved) = oneshot::channel();
        self.send(Command::SaveVote { vote: *vote, done }).await?;
        saved.await.map_err(|_| self.failed())?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.lock().committed = committed;
        self.send(Command::SaveCommitted(committed)).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut tail = self.shared.lock();
            for entry in &entries {
                tail.push(entry.clone());
            }
        }
        self.send(Command::Append { entries, done: callback }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        {
            let mut tail = self.shared.lock();
            if last >= tail.last {
                return Ok(());
            }
            tail.truncate(last);
        }
        self.send(Command::Truncate { last }).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.shared.lock().purge(upto);
        self.send(Command::Purge { upto }).await
    }
}
