//! A directory with which a new cluster of one master begins: a state, as a snapshot, and a log that goes on after it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::codec::{
    self, DiskIdentity, DiskLogId, DiskMembership, DiskState, DiskVote, Kind, SnapshotHeader,
};
use crate::error::StartError;
use crate::limits::SEED_INDEX_MIN;
use crate::log::directory;
use crate::log::engine::{Batch, LogEngine};
use crate::log::open;
use crate::log::record::{self, STATE_KEY};
use crate::log::sled_engine::SledEngine;
use crate::log::witness::Synced;
use crate::machine::SnapshotWriter;
use crate::snapshot::file;
use crate::types::{LogIndex, Member, NodeId, Term};

/// With what a cluster begins.
#[derive(Debug)]
pub struct Seed<'a> {
    /// The data directory; `raft/` and `snapshots/` are made in it.
    pub data_dir: &'a Path,
    /// The new cluster's name: no other may ever have had it.
    pub cluster_id: &'a str,
    /// Its only master.
    pub member: Member,
    /// The log entry that the state is of. After all that the former cluster can have written: no master of that one
    /// has, and none of the new one gets, the same number as another.
    pub index: LogIndex,
    /// After all that the former cluster can have had.
    pub term: Term,
    /// The state's own estimate, bytes.
    pub state_bytes: u64,
}

/// Makes the directory, and syncs all of it. Gives the master's number: the index, as that of any master is the index
/// of the log entry that was written for it. Blocks.
///
/// # Errors
/// [`StartError`]: the directory is of no use then.
pub fn seed(seed: &Seed<'_>, state: SnapshotWriter) -> Result<NodeId, StartError> {
    let engine = |path: &Path| Ok(Box::new(SledEngine::open(path)?) as Box<dyn LogEngine>);
    futures::executor::block_on(seed_on(seed, state, engine))
}

/// The same, with the log on another engine.
///
/// # Errors
/// As [`seed`].
pub async fn seed_on(
    seed: &Seed<'_>,
    state: SnapshotWriter,
    open_engine: impl FnOnce(&Path) -> io::Result<Box<dyn LogEngine>>,
) -> Result<NodeId, StartError> {
    if seed.index.0 < SEED_INDEX_MIN {
        let problem = format!("a new cluster cannot begin at log entry {}", seed.index);
        return Err(StartError::Config(problem));
    }
    let node = seed.index.0;
    let begin = DiskLogId { term: seed.term.0, node, index: seed.index.0 };
    write_snapshot(seed, begin, state)?;
    let raft = seed.data_dir.join("raft");
    let io = |action| {
        let path = raft.clone();
        move |source| StartError::Io { path, action, source }
    };
    directory::create(&raft)?;
    let lock = directory::lock(&raft)?;
    let identity = DiskIdentity { cluster_id: seed.cluster_id.to_owned(), node_id: node };
    {
        let opened = open::open(&raft, &identity, open_engine).await?;
        let mut engine = opened.engine;
        // As if all had been decided under its leadership: the next one has a higher term.
        let vote = Some(DiskVote { term: seed.term.0, node, committed: true });
        let state = DiskState {
            sequence: opened.state.sequence + 1,
            vote,
            committed: Some(begin),
            purged: Some(begin),
            last: Some(begin),
        };
        let mut batch = Batch::default();
        let encoded = codec::encode(Kind::State, &state);
        batch.put(STATE_KEY.to_vec(), record::seal(STATE_KEY, &encoded));
        engine.apply(batch).map_err(io("write"))?;
        engine.sync().await.map_err(io("sync"))?;
        let synced = Synced { sequence: state.sequence, vote };
        let written = opened.witness.write(synced).and_then(|()| opened.witness.sync());
        written.map_err(io("write"))?;
    }
    // The store writes more when it is closed.
    open::sync_files(&raft).map_err(io("sync"))?;
    drop(lock);
    Ok(NodeId(node))
}

fn write_snapshot(
    seed: &Seed<'_>,
    begin: DiskLogId,
    state: SnapshotWriter,
) -> Result<(), StartError> {
    let snapshots = seed.data_dir.join("snapshots");
    directory::create(&snapshots)?;
    let header = SnapshotHeader {
        cluster_id: seed.cluster_id.to_owned(),
        last_log_id: Some(begin),
        membership_log_id: Some(begin),
        membership: DiskMembership {
            configs: vec![BTreeSet::from([begin.node])],
            members: BTreeMap::from([(begin.node, seed.member.clone())]),
        },
        state_bytes: seed.state_bytes,
    };
    let path = snapshots.join(file::name(Some(begin.into())));
    let io = |action| {
        let path = path.clone();
        move |source| StartError::Io { path, action, source }
    };
    file::write(&path, &header, state).map_err(io("write"))?;
    directory::sync(&snapshots).map_err(io("sync"))?;
    // Read back: what the disk did not take is noticed now and not at the start.
    file::verify(&path, seed.cluster_id)?;
    Ok(())
}
