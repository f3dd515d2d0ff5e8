//! Opening the log: everything on disk is read once and checked before the node takes part.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quorate_mutants::{self as mutants, Mutant};

use super::engine::{Batch, LogEngine};
use super::record::{self, Assembler, IDENTITY_KEY, STATE_KEY};
use super::shared::Tail;
use super::witness::{Synced, Witness, WitnessError};
use crate::codec::{self, DiskIdentity, DiskLogId, DiskState, Kind};
use crate::error::{Corruption, StartError};
use crate::raft_types::{Entry, LogId};

/// An open, checked log.
pub(crate) struct Opened {
    pub(crate) engine: Box<dyn LogEngine>,
    pub(crate) witness: Witness,
    pub(crate) identity: DiskIdentity,
    pub(crate) state: DiskState,
    /// Index of the first entry whose records are in the engine.
    pub(crate) first: u64,
    /// How many records each entry from `first` on has.
    pub(crate) parts: VecDeque<u16>,
    pub(crate) tail: Tail,
}

/// Opens `directory` with the engine that `open_engine` makes in it.
pub(crate) async fn open(
    directory: &Path,
    identity: &DiskIdentity,
    open_engine: impl FnOnce(&Path) -> io::Result<Box<dyn LogEngine>>,
) -> Result<Opened, StartError> {
    let checker = Checker { directory };
    let io = |action| move |source| StartError::Io { path: directory.into(), action, source };
    super::renewal::finish(directory).map_err(io("finish the renewal of"))?;
    let (witness, synced) = checker.prepare()?;
    let engine = open_engine(directory).map_err(|error| checker.engine_error(error))?;
    // sled syncs neither its settings nor the names of its files.
    sync_files(directory).map_err(io("sync"))?;
    let mut opened = if synced.sequence == 0 {
        checker.create(engine, witness, identity).await?
    } else {
        let value = engine.get(IDENTITY_KEY).map_err(|error| checker.engine_error(error))?;
        let value = value.ok_or_else(|| checker.damaged("the identity", "it is missing"))?;
        checker.check_identity(&value, identity)?;
        checker.load(engine, witness, synced, identity)?
    };
    opened.tail.sequence = opened.state.sequence;
    opened.tail.vote = opened.state.vote.map(Into::into);
    if mutants::is(Mutant::ForgetVote) {
        opened.tail.vote = None;
    }
    opened.tail.committed = opened.state.committed.map(Into::into);
    Ok(opened)
}

/// Syncs the files of a directory, and the directory and those in it.
pub(crate) fn sync_files(directory: &Path) -> io::Result<()> {
    for item in fs::read_dir(directory)? {
        fs::File::open(item?.path())?.sync_all()?;
    }
    super::directory::sync(directory)
}

/// Removes what the engine made.
fn remove_engine(directory: &Path) -> io::Result<()> {
    for item in fs::read_dir(directory)? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "blobs" {
            fs::remove_dir_all(&path)?;
        } else if name == "db" || name == "conf" || name.starts_with("snap.") {
            fs::remove_file(&path)?;
        }
    }
    super::directory::sync(directory)
}

struct Checker<'a> {
    directory: &'a Path,
}

impl Checker<'_> {
    fn db(&self) -> PathBuf {
        self.directory.join("db")
    }

    fn damaged(&self, record: impl Into<String>, problem: impl ToString) -> StartError {
        let (record, problem) = (record.into(), problem.to_string());
        StartError::Corrupt(Corruption { path: self.db(), record, problem })
    }

    /// What the engine reports while it opens or reads: damage, or the operating system's no.
    fn engine_error(&self, error: io::Error) -> StartError {
        let system =
            error.raw_os_error().is_some() || error.kind() == io::ErrorKind::PermissionDenied;
        if system {
            StartError::Io { path: self.db(), action: "open", source: error }
        } else {
            self.damaged("the store", error)
        }
    }

    fn io(&self, path: PathBuf, action: &'static str) -> impl FnOnce(io::Error) -> StartError {
        move |source| StartError::Io { path, action, source }
    }

    fn witness(&self, fresh: bool) -> Result<(Witness, Synced), StartError> {
        let path = Witness::path(self.directory);
        Witness::open(self.directory, fresh).map_err(|error| match error {
            WitnessError::Io(source) => StartError::Io { path, action: "open", source },
            WitnessError::Damaged(problem) => StartError::Corrupt(Corruption {
                path,
                record: "the record of the last sync".to_owned(),
                problem,
            }),
        })
    }

    /// Before the engine is opened: the witness says with sequence 0, and is on disk before
    /// anything else, that a log is being made. Until it says more nothing was acknowledged, so
    /// that what a power loss left of the first start may go.
    fn prepare(&self) -> Result<(Witness, Synced), StartError> {
        let io = |action| {
            let path = self.directory.to_owned();
            move |source| StartError::Io { path, action, source }
        };
        let started = self.db().exists() || self.directory.join("conf").exists();
        match self.witness(false) {
            Ok((_, synced)) if synced.sequence > 0 && !started => Err(self.damaged(
                "the identity",
                format!("it is gone, but group commit {} was synced", synced.sequence),
            )),
            Ok((witness, synced)) => {
                if synced.sequence == 0 {
                    remove_engine(self.directory).map_err(io("clear"))?;
                }
                Ok((witness, synced))
            }
            Err(StartError::Corrupt(_)) if !started => {
                let made = self.witness(true)?;
                super::directory::sync(self.directory).map_err(io("sync"))?;
                Ok(made)
            }
            Err(error) => Err(error),
        }
    }

    /// A new log: its identity is the first thing in it.
    async fn create(
        &self,
        mut engine: Box<dyn LogEngine>,
        witness: Witness,
        identity: &DiskIdentity,
    ) -> Result<Opened, StartError> {
        let mut batch = Batch::default();
        record::put_identity(&mut batch, identity);
        let state = DiskState { sequence: 1, ..DiskState::default() };
        record::put_state(&mut batch, &state);
        engine.apply(batch).map_err(self.io(self.db(), "write"))?;
        engine.sync().await.map_err(self.io(self.db(), "sync"))?;
        let synced = Synced { sequence: state.sequence, vote: None };
        let written = witness.write(synced).and_then(|()| witness.sync());
        written.map_err(self.io(Witness::path(self.directory), "write"))?;
        Ok(Opened {
            engine,
            witness,
            identity: identity.clone(),
            state,
            first: 0,
            parts: VecDeque::new(),
            tail: Tail::default(),
        })
    }

    fn check_identity(&self, value: &[u8], expected: &DiskIdentity) -> Result<(), StartError> {
        let name = "the identity";
        let body = record::open(IDENTITY_KEY, value).map_err(|e| self.damaged(name, e))?;
        let found: DiskIdentity =
            codec::decode(Kind::Identity, body).map_err(|e| self.damaged(name, e))?;
        if found == *expected {
            return Ok(());
        }
        let show =
            |id: &DiskIdentity| format!("master {} of cluster {}", id.node_id, id.cluster_id);
        Err(StartError::Foreign {
            path: self.directory.to_owned(),
            found: show(&found),
            expected: show(expected),
        })
    }

    fn load_state(&self, engine: &dyn LogEngine) -> Result<DiskState, StartError> {
        let name = "the state record (vote, committed)";
        let value = engine
            .get(STATE_KEY)
            .map_err(|error| self.engine_error(error))?
            .ok_or_else(|| self.damaged(name, "it is missing"))?;
        let body = record::open(STATE_KEY, &value).map_err(|e| self.damaged(name, e))?;
        codec::decode(Kind::State, body).map_err(|e| self.damaged(name, e))
    }

    fn check_witness(&self, state: &DiskState, synced: Synced) -> Result<(), StartError> {
        let name = "the state record (vote, committed)";
        if state.sequence < synced.sequence {
            return Err(self.damaged(
                name,
                format!(
                    "it is of group commit {}, but {} was synced",
                    state.sequence, synced.sequence
                ),
            ));
        }
        if state.sequence == synced.sequence && state.vote != synced.vote {
            return Err(self.damaged(name, "its vote is not the one that was synced"));
        }
        Ok(())
    }

    fn load(
        &self,
        engine: Box<dyn LogEngine>,
        witness: Witness,
        synced: Synced,
        identity: &DiskIdentity,
    ) -> Result<Opened, StartError> {
        let state = self.load_state(&*engine)?;
        self.check_witness(&state, synced)?;
        let mut loader = Loader { checker: self, state: &state, scan: Scan::default() };
        let (from, to) = record::entry_range(0, u64::MAX);
        let mut problem = None;
        let scanned = engine.scan(&from, &to, &mut |key, value| {
            loader.record(key, value).map_err(|error| {
                problem = Some(error);
                io::Error::other("stopped")
            })
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
        scanned.map_err(|error| self.engine_error(error))?;
        let scan = loader.finish()?;
        let mut tail = scan.tail;
        tail.purged = state.purged.map(Into::into);
        tail.last = state.last.map(Into::into);
        tail.synced(u64::MAX, 0);
        let identity = identity.clone();
        let (first, parts) = (scan.first, scan.parts);
        Ok(Opened { engine, witness, identity, state, first, parts, tail })
    }
}

#[derive(Default)]
struct Scan {
    assembler: Assembler,
    /// Of the first entry seen, purged ones included.
    first: u64,
    parts: VecDeque<u16>,
    last: Option<LogId>,
    tail: Tail,
}

struct Loader<'a> {
    checker: &'a Checker<'a>,
    state: &'a DiskState,
    scan: Scan,
}

impl Loader<'_> {
    fn purged_end(&self) -> u64 {
        self.state.purged.map_or(0, |id| id.index + 1)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), StartError> {
        let name = |index: u64| format!("log entry {index}");
        let assembled = self.scan.assembler.push(key, value).map_err(|error| {
            let index =
                record::parse_entry_key(key).map_or_else(|_| self.scan.assembler.index(), |k| k.0);
            self.checker.damaged(name(index), error)
        })?;
        let Some(assembled) = assembled else { return Ok(()) };
        let index = assembled.index;
        let damaged =
            |problem: &dyn ToString| self.checker.damaged(name(index), problem.to_string());
        let entry = codec::decode_entry(assembled.encoded).map_err(|error| damaged(&error))?;
        if entry.log_id.index != index {
            return Err(damaged(&format!("it says it is entry {}", entry.log_id.index)));
        }
        if self.scan.parts.is_empty() {
            self.scan.first = index;
        } else if self.scan.first + self.scan.parts.len() as u64 != index {
            let missing = self.scan.first + self.scan.parts.len() as u64;
            return Err(self.checker.damaged(name(missing), "it is missing"));
        }
        if self.scan.last.is_some_and(|last| last.leader_id.term > entry.log_id.leader_id.term) {
            return Err(damaged(&"its term is lower than that of the entry before"));
        }
        self.scan.parts.push_back(assembled.parts);
        self.keep(entry);
        Ok(())
    }

    fn keep(&mut self, entry: Entry) {
        self.scan.last = Some(entry.log_id);
        if entry.log_id.index >= self.purged_end() {
            self.scan.tail.push(entry);
            // On disk already: may leave memory again at once.
            self.scan.tail.synced(u64::MAX, 0);
        }
    }

    /// The entries must be exactly those that the state record speaks of.
    fn finish(self) -> Result<Scan, StartError> {
        let purged_end = self.purged_end();
        let (checker, state, mut scan) = (self.checker, self.state, self.scan);
        let name = |index: u64| format!("log entry {index}");
        scan.assembler.finish().map_err(|e| checker.damaged(name(scan.assembler.index()), e))?;
        let end = scan.first + scan.parts.len() as u64;
        let live = !scan.parts.is_empty() && end > purged_end;
        if live && scan.first > purged_end {
            return Err(checker.damaged(name(purged_end), "it is missing"));
        }
        let last = if live { scan.last.map(DiskLogId::from) } else { state.purged };
        if last != state.last {
            let index = state.last.map_or(0, |id| id.index).min(end.max(purged_end));
            return Err(checker.damaged(
                name(index),
                format!("the log ends with {last:?}, but {:?} was written", state.last),
            ));
        }
        if scan.parts.is_empty() {
            scan.first = purged_end;
        }
        Ok(scan)
    }
}
