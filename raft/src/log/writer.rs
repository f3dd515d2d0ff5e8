//! The thread that owns the engine: takes what is queued, writes it as one atomic batch, syncs
//! once, answers all. What arrives during a sync waits for the next one.
//!
//! Order on disk is the order of the queue; votes and entries are never reordered. The first error
//! ends the thread: nobody knows then what is on disk, so the process has to start again.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::storage::IOFlushed;
use quorate_mutants::{self as mutants, Mutant};
use quorate_points::{self as points, Point};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::engine::{Batch, Closed, LogEngine, Opener};
use super::examine::Examiner;
use super::open::{Opened, sync_files};
use super::record::{self, Assembler};
use super::renewal;
use super::shared::Shared;
use super::witness::{Synced, Witness};
use crate::codec::{self, DiskIdentity, DiskState};
use crate::error::Fatal;
use crate::limits::{
    GROUP_COMMIT_BYTES_MAX, GROUP_COMMIT_COMMANDS_MAX, LOG_READ_BYTES_MAX, PURGE_STEP_RECORDS,
};
use crate::raft_types::{Entry, LogId, TypeConfig, Vote, entry_bytes};
use crate::space::Space;

/// What the thread is asked to do.
pub(crate) enum Command {
    Append {
        entries: Vec<Entry>,
        done: IOFlushed<TypeConfig>,
    },
    /// Removes all entries after this one.
    Truncate {
        last: Option<LogId>,
    },
    /// Removes all entries up to this one.
    Purge {
        upto: LogId,
    },
    SaveCommitted(Option<LogId>),
    SaveVote {
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Entries `from..to` from disk, at least one, then until `bytes_max`.
    Read {
        from: u64,
        to: u64,
        bytes_max: usize,
        done: oneshot::Sender<io::Result<Vec<Entry>>>,
    },
    /// Reads the records of entries `from..to` again. Gives the first that is damaged, with what is wrong.
    Check {
        from: u64,
        to: u64,
        done: oneshot::Sender<io::Result<Option<(u64, String)>>>,
    },
    /// Gives what reads the files of the store again.
    Examiner {
        done: oneshot::Sender<Option<Examiner>>,
    },
    /// Puts another store, with the same log, in the place of one whose files are damaged.
    Renew {
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Writes and syncs whatever is pending and ends the thread.
    Stop,
}

enum Waiter {
    Append(IOFlushed<TypeConfig>),
    Vote(Vote, oneshot::Sender<io::Result<()>>),
}

pub(crate) struct Writer {
    engine: Box<dyn LogEngine>,
    witness: Witness,
    identity: DiskIdentity,
    state: DiskState,
    first: u64,
    parts: VecDeque<u16>,
    shared: Arc<Shared>,
    space: Arc<Space>,
    directory: PathBuf,
    fatal: watch::Sender<Option<Fatal>>,
    /// Of the group that is being made.
    batch: Batch,
    bytes: usize,
    waiters: Vec<Waiter>,
    /// The state record differs from the one on disk.
    dirty: bool,
    /// ... and must be there before anything else happens.
    urgent: bool,
    /// As in the shared tail.
    truncations: u64,
}

impl Writer {
    pub(crate) fn new(
        opened: Opened,
        directory: PathBuf,
        space: Arc<Space>,
        fatal: watch::Sender<Option<Fatal>>,
    ) -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared::new(opened.tail));
        let writer = Self {
            engine: opened.engine,
            witness: opened.witness,
            identity: opened.identity,
            state: opened.state,
            first: opened.first,
            parts: opened.parts,
            shared: shared.clone(),
            space,
            directory,
            fatal,
            batch: Batch::default(),
            bytes: 0,
            waiters: Vec::new(),
            dirty: false,
            urgent: false,
            truncations: 0,
        };
        (writer, shared)
    }

    /// What the thread does.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut next = None;
        loop {
            let command = match next.take() {
                Some(command) => command,
                None if self.garbage() > 0 => match commands.try_recv() {
                    Ok(command) => command,
                    Err(mpsc::error::TryRecvError::Empty) => {
                        if let Err(error) = self.sweep() {
                            return self.fail(&error);
                        }
                        continue;
                    }
                    Err(mpsc::error::TryRecvError::Disconnected) => break,
                },
                None => match commands.recv().await {
                    Some(command) => command,
                    None => break,
                },
            };
            match self.group(command, &mut commands).await {
                Ok(Flow::Continue) => {}
                Ok(Flow::Then(command)) => next = Some(command),
                Ok(Flow::Stop) => break,
                Err(error) => return self.fail(&error),
            }
        }
        if let Err(error) = self.commit(true).await {
            self.fail(&error);
        }
    }

    /// One group commit: the given command and what else is queued.
    async fn group(
        &mut self,
        first: Command,
        commands: &mut mpsc::Receiver<Command>,
    ) -> io::Result<Flow> {
        let mut next = Some(first);
        let mut count = 0;
        let mut flow = Flow::Continue;
        while let Some(command) = next.take() {
            match self.take(command) {
                Flow::Continue => {}
                other @ (Flow::Then(_) | Flow::Stop) => {
                    flow = other;
                    break;
                }
            }
            count += 1;
            if self.bytes < GROUP_COMMIT_BYTES_MAX && count < GROUP_COMMIT_COMMANDS_MAX {
                next = commands.try_recv().ok();
            }
        }
        match flow {
            // Reads see everything that was queued before them.
            Flow::Then(Command::Read { from, to, bytes_max, done }) => {
                self.commit(false).await?;
                let entries = self.read(from, to, bytes_max);
                let failed = entries
                    .as_ref()
                    .err()
                    .map(|error| io::Error::new(error.kind(), error.to_string()));
                drop(done.send(entries));
                failed.map_or(Ok(Flow::Continue), Err)
            }
            Flow::Then(Command::Check { from, to, done }) => {
                self.commit(false).await?;
                drop(done.send(self.check(from, to)));
                Ok(Flow::Continue)
            }
            Flow::Then(Command::Renew { done }) => {
                self.commit(true).await?;
                // Before the old one is given up, nothing is lost but the attempt.
                let opener = self.engine.opener().ok_or(io::ErrorKind::Unsupported);
                let made = match opener {
                    Ok(opener) => self.make_anew(opener).await.map(|parts| (opener, parts)),
                    Err(kind) => Err(kind.into()),
                };
                let result = match made {
                    Ok((opener, parts)) => {
                        self.replace_store(opener, parts).await?;
                        Ok(())
                    }
                    Err(error) => renewal::abandon(&self.directory).and(Err(error)),
                };
                drop(done.send(result));
                Ok(Flow::Continue)
            }
            Flow::Stop => Ok(Flow::Stop),
            Flow::Continue | Flow::Then(_) => {
                self.commit(false).await?;
                Ok(Flow::Continue)
            }
        }
    }

    fn take(&mut self, command: Command) -> Flow {
        match command {
            Command::Append { entries, done } => {
                for entry in &entries {
                    self.append(entry);
                }
                self.waiters.push(Waiter::Append(done));
            }
            Command::Truncate { last } => self.truncate(last),
            Command::Purge { upto } => self.purge(upto),
            Command::SaveCommitted(committed) => {
                // Written with the next group: after a crash an older value only means more
                // entries that wait to be committed again.
                self.state.committed = committed.map(Into::into);
                self.dirty = true;
            }
            Command::SaveVote { vote, done } => {
                self.state.vote = Some(vote.into());
                self.dirty = true;
                self.waiters.push(Waiter::Vote(vote, done));
            }
            Command::Examiner { done } => drop(done.send(self.engine.examiner())),
            other @ (Command::Read { .. } | Command::Check { .. } | Command::Renew { .. }) => {
                return Flow::Then(other);
            }
            Command::Stop => return Flow::Stop,
        }
        Flow::Continue
    }

    fn append(&mut self, entry: &Entry) {
        let index = entry.log_id.index;
        if self.parts.is_empty() {
            self.first = index;
        }
        debug_assert_eq!(self.first + self.parts.len() as u64, index, "hole in the log");
        let encoded = codec::encode_entry(entry);
        self.bytes += encoded.len();
        self.parts.push_back(record::put_entry(&mut self.batch, index, &encoded));
        self.state.last = Some(entry.log_id.into());
        self.dirty = true;
    }

    /// Removes from the end backwards, so that no state in between would have a hole.
    fn truncate(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |id| id.index + 1).saturating_sub(self.first);
        while self.parts.len() as u64 > keep {
            let index = self.first + self.parts.len() as u64 - 1;
            let parts = self.parts.pop_back().unwrap_or(0);
            for part in (0..parts).rev() {
                self.batch.remove(record::entry_key(index, part));
            }
        }
        self.state.last = last.map(Into::into);
        self.truncations += 1;
        self.urgent = true;
        points::pass(Point::LogTruncation);
    }

    /// Marks as purged; the records go later, a few at a time, unless all of them go.
    fn purge(&mut self, upto: LogId) {
        self.state.purged = Some(upto.into());
        // No record may go before the marker is on disk.
        self.urgent = true;
        if self.first + self.parts.len() as u64 <= upto.index + 1 {
            // The log starts again after a snapshot: nothing old may stay before a gap.
            while !self.parts.is_empty() {
                self.remove_first();
            }
            self.first = upto.index + 1;
            self.state.last = Some(upto.into());
        }
        points::pass(Point::LogPurge);
    }

    fn remove_first(&mut self) {
        let parts = self.parts.pop_front().unwrap_or(0);
        for part in 0..parts {
            self.batch.remove(record::entry_key(self.first, part));
        }
        self.first += 1;
    }

    /// Entries that are purged and still have records.
    fn garbage(&self) -> u64 {
        self.state.purged.map_or(0, |id| id.index + 1).saturating_sub(self.first)
    }

    /// Removes some purged records. Not synced by itself: the marker is what counts.
    fn sweep(&mut self) -> io::Result<()> {
        self.collect_garbage();
        let batch = std::mem::take(&mut self.batch);
        self.engine.apply(batch)?;
        points::pass(Point::LogSweep);
        Ok(())
    }

    fn collect_garbage(&mut self) {
        // Twice what is added, so that removing always catches up with a busy log.
        let mut budget = PURGE_STEP_RECORDS.max(self.batch.changes.len() * 2);
        while self.garbage() > 0 && budget > 0 && !self.parts.is_empty() {
            budget = budget.saturating_sub(usize::from(self.parts[0]));
            self.remove_first();
        }
    }

    /// Writes the group; syncs when somebody waits for it (or when `all`).
    async fn commit(&mut self, all: bool) -> io::Result<()> {
        let sync = !self.waiters.is_empty() || self.urgent || (all && self.dirty);
        if !sync {
            return Ok(());
        }
        if self.bytes > 0 {
            self.space.check_write()?;
        }
        self.collect_garbage();
        self.state.sequence += 1;
        let mut batch = std::mem::take(&mut self.batch);
        record::put_state(&mut batch, &self.state);
        self.bytes = 0;
        self.dirty = false;
        let marks = std::mem::take(&mut self.urgent);
        let votes = self.waiters.iter().any(|waiter| matches!(waiter, Waiter::Vote(..)));
        points::pass(Point::LogBeforeWrite);
        if votes {
            points::pass(Point::VoteBeforeWrite);
        }
        let started = Instant::now();
        self.shared.lock().pace.begins(started);
        self.engine.apply(batch)?;
        points::pass(Point::LogBeforeSync);
        if votes {
            points::pass(Point::VoteBeforeSync);
        }
        if marks {
            points::pass(Point::LogMarkerWritten);
        }
        let lax = if votes { Mutant::VoteBeforeSync } else { Mutant::AckBeforeSync };
        if !mutants::is(lax) {
            let began = Instant::now();
            self.engine.sync().await?;
            self.shared.meters.synced(began.elapsed());
            points::pass(Point::LogAfterSync);
            self.witness.write(Synced { sequence: self.state.sequence, vote: self.state.vote })?;
        }
        points::pass(Point::LogBeforeAnswer);
        if votes {
            points::pass(Point::VoteBeforeAnswer);
        }
        let took = started.elapsed();
        self.shared.meters.committed(took);
        let mut tail = self.shared.lock();
        tail.record_sync(took);
        tail.sequence = self.state.sequence;
        tail.synced(self.state.last.map_or(0, |id| id.index + 1), self.truncations);
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in &waiters {
            if let Waiter::Vote(vote, _) = waiter {
                tail.vote = Some(*vote);
            }
        }
        drop(tail);
        for waiter in waiters {
            match waiter {
                Waiter::Append(done) => done.io_completed(Ok(())),
                Waiter::Vote(_, done) => drop(done.send(Ok(()))),
            }
        }
        Ok(())
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (start, end) = record::entry_range(from, to);
        let damaged = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
        let mut assembler = Assembler::default();
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut full = false;
        let scanned = self.engine.scan(&start, &end, &mut |key, value| {
            if full {
                return Err(io::Error::other("enough"));
            }
            let assembled = assembler
                .push(key, value)
                .map_err(|e| damaged(format!("log entry {}: {e}", assembler.index())))?;
            if let Some(assembled) = assembled {
                let entry = codec::decode_entry(assembled.encoded)
                    .map_err(|e| damaged(format!("log entry {}: {e}", assembled.index)))?;
                bytes += entry_bytes(&entry);
                full = bytes >= bytes_max;
                entries.push(entry);
            }
            Ok(())
        });
        match scanned {
            Err(error) if !full || error.kind() == io::ErrorKind::InvalidData => Err(error),
            _ => Ok(entries),
        }
    }

    fn check(&self, from: u64, to: u64) -> io::Result<Option<(u64, String)>> {
        let (start, end) = record::entry_range(from.max(self.first), to);
        let mut damaged = None;
        let scanned = self.engine.scan(&start, &end, &mut |key, value| {
            let (Ok((index, _)), Err(problem)) =
                (record::parse_entry_key(key), record::open(key, value))
            else {
                return Ok(());
            };
            damaged = Some((index, problem.to_string()));
            Err(io::Error::other("enough"))
        });
        match (damaged, scanned) {
            (None, Err(error)) => Err(error),
            (damaged, _) => Ok(damaged),
        }
    }

    /// Writes all that counts into another store, beside this one. Gives how many records each entry has there.
    async fn make_anew(&mut self, open: Opener) -> io::Result<VecDeque<u16>> {
        self.space.check_write()?;
        let made = renewal::begin(&self.directory)?;
        let mut engine = open(&made)?;
        let mut parts = VecDeque::new();
        let (mut from, end) = (self.first + self.garbage(), self.first + self.parts.len() as u64);
        while from < end {
            let entries = self.known(from, end)?;
            let Some(last) = entries.last() else {
                return Err(io::Error::other(format!("log entry {from} cannot be read")));
            };
            from = last.log_id.index + 1;
            let mut batch = Batch::default();
            for entry in &entries {
                let encoded = codec::encode_entry(entry);
                parts.push_back(record::put_entry(&mut batch, entry.log_id.index, &encoded));
            }
            engine.apply(batch)?;
        }
        self.state.sequence += 1;
        let mut batch = Batch::default();
        record::put_identity(&mut batch, &self.identity);
        record::put_state(&mut batch, &self.state);
        engine.apply(batch)?;
        engine.sync().await?;
        drop(engine);
        renewal::closed(&made)?;
        Ok(parts)
    }

    /// From memory where they are there, else from the store; some of those from `from` to `end`.
    fn known(&self, from: u64, end: u64) -> io::Result<Vec<Entry>> {
        let memory_first = {
            let tail = self.shared.lock();
            // What is in memory may be newer than what this thread was told to write.
            if tail.truncations() != self.truncations {
                end
            } else if from >= tail.memory_first() {
                return Ok(tail.read(from, end, LOG_READ_BYTES_MAX));
            } else {
                tail.memory_first()
            }
        };
        self.read(from, end.min(memory_first), LOG_READ_BYTES_MAX)
    }

    /// The one that was made is the log from here on. An error leaves nothing that could go on: the next start finishes
    /// it, or has the old one.
    async fn replace_store(&mut self, open: Opener, parts: VecDeque<u16>) -> io::Result<()> {
        renewal::complete(&self.directory)?;
        self.engine = Box::new(Closed);
        renewal::closed(&self.directory)?;
        renewal::finish(&self.directory)?;
        self.engine = open(&self.directory)?;
        sync_files(&self.directory)?;
        self.first += self.garbage();
        self.parts = parts;
        self.dirty = true;
        self.commit(true).await
    }

    fn fail(self, error: &io::Error) {
        let text = format!("the log in {} failed: {error}", self.directory.display());
        tracing::error!(directory = %self.directory.display(), %error, "the log failed");
        self.shared.lock().failed = Some(text.clone());
        let again = || io::Error::new(error.kind(), text.clone());
        for waiter in self.waiters {
            match waiter {
                Waiter::Append(done) => done.io_completed(Err(again())),
                Waiter::Vote(_, done) => drop(done.send(Err(again()))),
            }
        }
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            fatal.get_or_insert_with(|| Fatal(text.clone()));
            first
        });
    }
}

enum Flow {
    Continue,
    Then(Command),
    Stop,
}
