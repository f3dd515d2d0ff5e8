//! What one master's directory has: as far as it goes, whether or not it was ever decided.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use quorate_mutants::{self as mutants, Mutant};

use crate::codec::{self, DiskIdentity, DiskState};
use crate::error::{Corruption, StartError};
use crate::limits::APPLY_BATCH_MAX;
use crate::log::engine::LogEngine;
use crate::log::open;
use crate::log::record::{self, Assembler};
use crate::log::renewal;
use crate::log::sled_engine::SledEngine;
use crate::machine::{LogEntry, StateMachine};
use crate::mark::Mark;
use crate::raft_types::{Entry, Membership, term_of};
use crate::snapshot::file::{self, SnapshotFile};
use crate::types::{LogIndex, Member, NodeId, Term};

/// How far a master had come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The highest term that it has seen.
    pub term: Term,
    /// The last entry of its log.
    pub last: LogIndex,
    /// The term of that entry. Of two survivors the one with the higher has more; if they are equal, the one whose log
    /// is longer.
    pub last_term: Term,
    /// The last entry that it knew to be decided. It applied no further.
    pub committed: LogIndex,
    /// The last entry of its newest snapshot.
    pub snapshot: Option<LogIndex>,
    /// When its directory was last written.
    pub written: Option<SystemTime>,
    /// The members that it knows, and whether each votes.
    pub members: Vec<(NodeId, Member, bool)>,
    /// Why it must not start again, if others have told it so: then others knew more.
    pub refused: Option<String>,
}

/// A master's directory, open for reading.
pub struct Survivor {
    standing: Standing,
    engine: Box<dyn LogEngine>,
    snapshot: Option<SnapshotFile>,
    /// Of the log, which entries count: after the snapshot, unless the snapshot replaced them.
    from: Option<u64>,
}

impl std::fmt::Debug for Survivor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Survivor").field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl Survivor {
    /// Opens a directory that no master holds. Nothing in it is changed: the log is read from a copy in `scratch`,
    /// which must not exist and is the caller's to remove, since the store under it writes when it is opened. Blocks.
    ///
    /// # Errors
    /// [`StartError`], as a start on this directory.
    pub fn open(
        data_dir: &Path,
        cluster_id: &str,
        node_id: NodeId,
        scratch: &Path,
    ) -> Result<Self, StartError> {
        let engine = |path: &Path| Ok(Box::new(SledEngine::open(path)?) as Box<dyn LogEngine>);
        let opening = Self::open_on(data_dir, (cluster_id, node_id), scratch, engine);
        futures::executor::block_on(opening)
    }

    /// The same, with the log on another engine, which opens the copy.
    ///
    /// # Errors
    /// As [`Survivor::open`].
    pub async fn open_on(
        data_dir: &Path,
        (cluster_id, node_id): (&str, NodeId),
        scratch: &Path,
        open_engine: impl FnOnce(&Path) -> io::Result<Box<dyn LogEngine>>,
    ) -> Result<Self, StartError> {
        let raft = data_dir.join("raft");
        let identity = DiskIdentity { cluster_id: cluster_id.to_owned(), node_id: node_id.0 };
        let io = |path: &Path, action| {
            let path = path.to_owned();
            move |source| StartError::Io { path, action, source }
        };
        let refused = Mark::refuse_any(&raft).err().map(|error| error.to_string());
        let written = last_written(&raft).map_err(io(&raft, "read"))?;
        copy_log(&raft, scratch).map_err(io(scratch, "copy the log to"))?;
        let opened = open::open(scratch, &identity, open_engine).await;
        // Who reads of damage wants to know where it is, not where it was copied to.
        let opened = opened.map_err(|error| named_after(error, scratch, &raft))?;
        let purged = opened.state.purged.map(|id| id.index);
        let snapshot = newest_snapshot(&data_dir.join("snapshots"), cluster_id, purged)?;
        let mut survivor = Self {
            standing: standing(&opened.state, snapshot.as_ref(), written, refused),
            engine: opened.engine,
            snapshot,
            from: None,
        };
        survivor.look_through()?;
        Ok(survivor)
    }

    /// How far it had come.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Gives the machine everything: the newest snapshot, and every entry of the log after it, also those of which
    /// this master did not know whether they were decided. Blocks.
    ///
    /// # Errors
    /// [`StartError`]: when the snapshot or an entry cannot be read.
    pub fn replay(&self, machine: &mut impl StateMachine) -> Result<(), StartError> {
        if let Some(snapshot) = &self.snapshot {
            let path = || snapshot.path.clone();
            let mut state = snapshot.read_state().map_err(|source| StartError::Io {
                path: path(),
                action: "read",
                source,
            })?;
            let index = LogIndex(snapshot.last_index().unwrap_or_default());
            machine.restore(&mut state).map_err(|source| StartError::Restore { index, source })?;
        }
        if mutants::is(Mutant::RecoverSnapshotOnly) {
            return Ok(());
        }
        let mut batch = Vec::new();
        self.entries(&mut |entry| {
            let payload = match entry.payload {
                openraft::EntryPayload::Normal(data) => Some(data.0),
                openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => None,
            };
            let (index, term) = (LogIndex(entry.log_id.index), term_of(&entry.log_id));
            batch.push(LogEntry { index, term, payload });
            if batch.len() == APPLY_BATCH_MAX {
                machine.apply(std::mem::take(&mut batch));
            }
        })?;
        machine.apply(batch);
        Ok(())
    }

    /// Finds out from where on the log counts, and who the members are.
    fn look_through(&mut self) -> Result<(), StartError> {
        let snapshot = self.snapshot.as_ref().and_then(SnapshotFile::last_log_id);
        self.from = Some(snapshot.map_or(0, |id| id.index + 1));
        let mut members = match &self.snapshot {
            Some(snapshot) => Some(snapshot.meta()?.last_membership.membership().clone()),
            None => None,
        };
        let (mut last, mut conflict) = (snapshot, false);
        self.scan(snapshot.map_or(0, |id| id.index), &mut |entry| {
            // Another entry where the snapshot ends: what is there and behind it can never have been decided.
            conflict |=
                snapshot.is_some_and(|id| id.index == entry.log_id.index && id != entry.log_id);
            if conflict || Some(entry.log_id) <= snapshot {
                return;
            }
            last = Some(entry.log_id);
            if let openraft::EntryPayload::Membership(membership) = entry.payload {
                members = Some(membership);
            }
        })?;
        if conflict {
            self.from = None;
        }
        if let Some(last) = last {
            self.standing.last = LogIndex(last.index);
            self.standing.last_term = term_of(&last);
        }
        self.standing.members = members.map(|members| listed(&members)).unwrap_or_default();
        Ok(())
    }

    fn entries(&self, visit: &mut dyn FnMut(Entry)) -> Result<(), StartError> {
        match self.from {
            Some(from) => self.scan(from, visit),
            None => Ok(()),
        }
    }

    /// Shows the entries from an index on. They were checked when the log was opened.
    fn scan(&self, from: u64, visit: &mut dyn FnMut(Entry)) -> Result<(), StartError> {
        let (start, end) = record::entry_range(from, u64::MAX);
        let mut assembler = Assembler::default();
        let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
        let scanned = self.engine.scan(&start, &end, &mut |key, value| {
            let assembled =
                assembler.push(key, value).map_err(|error| invalid(error.to_string()))?;
            if let Some(assembled) = assembled {
                let entry = codec::decode_entry(assembled.encoded)
                    .map_err(|error| invalid(error.to_string()))?;
                visit(entry);
            }
            Ok(())
        });
        scanned.map_err(|error| {
            StartError::Corrupt(Corruption {
                path: PathBuf::from("raft/db"),
                record: format!("log entry {}", assembler.index()),
                problem: error.to_string(),
            })
        })
    }
}

fn standing(
    state: &DiskState,
    snapshot: Option<&SnapshotFile>,
    written: Option<SystemTime>,
    refused: Option<String>,
) -> Standing {
    let snapshot = snapshot.and_then(SnapshotFile::last_index);
    let term = state.vote.map(|vote| vote.term).max(state.last.map(|last| last.term));
    let committed = state.committed.map(|id| id.index).max(snapshot);
    Standing {
        term: Term(term.unwrap_or_default()),
        last: LogIndex(0),
        last_term: Term(0),
        committed: LogIndex(committed.unwrap_or_default()),
        snapshot: snapshot.map(LogIndex),
        written,
        members: Vec::new(),
        refused,
    }
}

fn listed(membership: &Membership) -> Vec<(NodeId, Member, bool)> {
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    membership.nodes().map(|(id, member)| (*id, member.clone(), voters.contains(id))).collect()
}

/// The newest snapshot that is whole, if the log goes on after it.
fn newest_snapshot(
    directory: &Path,
    cluster_id: &str,
    purged: Option<u64>,
) -> Result<Option<SnapshotFile>, StartError> {
    let io = |source| StartError::Io { path: directory.to_owned(), action: "read", source };
    let mut paths = Vec::new();
    for item in fs::read_dir(directory).map_err(io)? {
        let path = item.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "snap") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut damaged = None;
    for path in paths.iter().rev() {
        match file::verify(path, cluster_id) {
            Ok(file) if file.last_index() >= purged => return Ok(Some(file)),
            Ok(_) => break,
            Err(error) => damaged = damaged.or(Some(error)),
        }
    }
    match (purged, damaged) {
        (None, _) => Ok(None),
        (Some(_), Some(damaged)) => Err(StartError::Corrupt(damaged)),
        (Some(purged), None) => Err(StartError::Corrupt(Corruption {
            path: directory.to_owned(),
            record: format!("the snapshot at or after index {purged}"),
            problem: "it is missing, and the log before it is purged".to_owned(),
        })),
    }
}

/// When a file of the log was last written.
fn last_written(raft: &Path) -> io::Result<Option<SystemTime>> {
    let mut last = None;
    for item in fs::read_dir(raft)? {
        last = last.max(item?.metadata()?.modified().ok());
    }
    Ok(last)
}

/// Copies what the log is made of: not the ballast, and not who holds it.
fn copy_log(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for item in fs::read_dir(from)? {
        let item = item?;
        let name = item.file_name();
        if item.file_type()?.is_dir() && name == renewal::COMPLETE {
            // What counts, when it ended before this was in its place.
            copy_log(&item.path(), &to.join(name))?;
        } else if item.file_type()?.is_file() && name != "lock" && name != "ballast" {
            fs::copy(item.path(), to.join(name))?;
        }
    }
    Ok(())
}

fn named_after(error: StartError, scratch: &Path, raft: &Path) -> StartError {
    match error {
        StartError::Corrupt(corruption) => {
            let name = corruption.path.strip_prefix(scratch).map(Path::to_owned);
            let path = name.map_or(corruption.path, |name| raft.join(name));
            StartError::Corrupt(Corruption { path, ..corruption })
        }
        StartError::Foreign { path: _, found, expected } => {
            StartError::Foreign { path: raft.to_owned(), found, expected }
        }
        other @ (StartError::DirectoryInUse { .. }
        | StartError::Io { .. }
        | StartError::WentBack { .. }
        | StartError::Tls(_)
        | StartError::Config(_)
        | StartError::Restore { .. }
        | StartError::Removed { .. }
        | StartError::Fatal(_)) => other,
    }
}
