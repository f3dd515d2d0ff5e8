//! Tests of the log as a whole: openraft's own suite, damage of every kind, sizes, failing disks.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use tokio::sync::watch;

use super::engine::{Batch, LogEngine, Visit};
use super::record::{self, STATE_KEY};
use super::sled_engine::SledEngine;
use super::storage::{LogStore, LogThread};
use super::witness::{self, Witness};
use super::{directory, open};
use crate::codec::DiskIdentity;
use crate::error::{Fatal, StartError};
use crate::host::{Host as _, Machine};
use crate::limits::{LOG_TAIL_BYTES_MAX, SNAPSHOT_LOG_BYTES_MIN};
use crate::machine::{LogEntry, RestoreError, SnapshotWriter, StateMachine};
use crate::machine_store::MachineStore;
use crate::raft_types::{AppData, Entry, LeaderId, TypeConfig, Vote, log_id};
use crate::snapshot::store::SnapshotStore;
use crate::types::NodeId;

fn identity() -> DiskIdentity {
    DiskIdentity { cluster_id: "c".to_owned(), node_id: 1 }
}

fn sled(path: &Path) -> io::Result<Box<dyn LogEngine>> {
    SledEngine::open(path).map(|engine| Box::new(engine) as Box<dyn LogEngine>)
}

pub(super) type Opened = (LogStore, LogThread, watch::Receiver<Option<Fatal>>);

async fn open_with(
    dir: &Path,
    engine: impl FnOnce(&Path) -> io::Result<Box<dyn LogEngine>>,
) -> Result<Opened, StartError> {
    directory::create(dir)?;
    let lock = directory::lock(dir)?;
    let (fatal, failed) = watch::channel(None);
    let space = Arc::new(
        crate::space::Space::open(dir, crate::DiskRule::default(), Arc::new(crate::host::Machine))
            .unwrap(),
    );
    let (log, thread) =
        LogStore::open(dir, lock, &identity(), space, fatal, engine, &Machine).await?;
    Ok((log, thread, failed))
}

pub(super) async fn open(dir: &Path) -> Result<Opened, StartError> {
    open_with(dir, sled).await
}

pub(super) async fn close(log: LogStore, thread: LogThread) {
    drop(log);
    let (done, ended) = tokio::sync::oneshot::channel();
    let stop = async move {
        thread.stop().await;
        done.send(()).unwrap();
    };
    Machine.start("close", Box::pin(stop)).unwrap();
    ended.await.unwrap();
}

pub(super) fn entry(index: u64, bytes: usize) -> Entry {
    let payload = EntryPayload::Normal(AppData(Bytes::from(vec![index.to_le_bytes()[0]; bytes])));
    Entry { log_id: log_id(1, NodeId(1), index), payload }
}

pub(super) fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: NodeId(1) }, committed: true }
}

pub(super) async fn append(log: &mut LogStore, entries: impl IntoIterator<Item = Entry> + Send) {
    let entries: Vec<Entry> = entries.into_iter().collect();
    log.blocking_append(entries).await.unwrap();
}

// === openraft's suite ===

struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, batch: Vec<LogEntry>) -> Vec<Bytes> {
        vec![Bytes::new(); batch.len()]
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> Result<(), RestoreError> {
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        0
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, MachineStore, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, MachineStore), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, _, _) = open(&dir.path().join("raft")).await.unwrap();
        let snapshots = SnapshotStore::open(&dir.path().join("snapshots"), "c", None).unwrap();
        let apply = crate::apply::start(Nothing, watch::Sender::new(None), &Machine).unwrap();
        let machine = MachineStore::new(
            apply.commands,
            apply.applied,
            Arc::new(snapshots),
            Arc::new(Machine),
            log.shared().meters.clone(),
        );
        Ok((dir, log, machine))
    }
}

#[test]
fn openrafts_suite_passes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}

// === sizes ===

#[tokio::test]
async fn large_entries_never_become_blob_files() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    for index in 0..40 {
        append(&mut log, [entry(index, 3 << 20)]).await;
    }
    log.purge(log_id(1, NodeId(1), 20)).await.unwrap();
    for index in 40..80 {
        append(&mut log, [entry(index, 100 + usize::try_from(index).unwrap() * 977)]).await;
    }
    close(log, thread).await;
    let blobs: Vec<_> = std::fs::read_dir(dir.path().join("blobs")).unwrap().collect();
    assert!(blobs.is_empty(), "{blobs:?}");
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    let entries = log.try_get_log_entries(21..80).await.unwrap();
    assert_eq!(entries.len(), 59);
    assert_eq!(entries[0], entry(21, 3 << 20));
    close(log, thread).await;
}

#[tokio::test]
async fn what_left_memory_is_read_back_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    let each = 1 << 20;
    let count = (LOG_TAIL_BYTES_MAX / each + 20) as u64;
    for index in 0..count {
        append(&mut log, [entry(index, each)]).await;
    }
    assert!(log.shared().lock().memory_first() >= 20);
    let entries = log.try_get_log_entries(0..count).await.unwrap();
    assert!(entries.iter().cloned().eq((0..count).map(|index| entry(index, each))));
    // A step is bounded, and never empty.
    let some = log.limited_get_log_entries(3, count).await.unwrap();
    assert!((1..=5).contains(&some.len()), "{}", some.len());
    close(log, thread).await;
}

#[tokio::test]
async fn the_disk_stays_bounded_while_the_log_moves() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    let mut next = 0;
    for _ in 0..300 {
        append(&mut log, (next..next + 100).map(|index| entry(index, 10_000))).await;
        next += 100;
        if next > 1000 {
            log.purge(log_id(1, NodeId(1), next - 1000)).await.unwrap();
        }
    }
    close(log, thread).await;
    let used: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| {
            use std::os::unix::fs::MetadataExt;
            file.unwrap().metadata().unwrap().blocks() * 512
        })
        .sum();
    // 300 MB went through, 10 MB are live.
    assert!(used < 150 << 20, "{} MiB", used >> 20);
}

// === damage ===

/// Makes a log with some entries and a vote, and closes it.
async fn sample(dir: &Path) {
    let (mut log, thread, _) = open(dir).await.unwrap();
    log.save_vote(&vote(1)).await.unwrap();
    append(&mut log, (0..20).map(|index| entry(index, 100))).await;
    append(&mut log, [entry(20, 200_000)]).await;
    log.save_vote(&vote(3)).await.unwrap();
    close(log, thread).await;
}

/// Changes records as a fault would: past our envelope, through the store itself.
fn tamper(dir: &Path, change: impl FnOnce(&mut SledEngine)) {
    let mut engine = SledEngine::open(dir).unwrap();
    change(&mut engine);
    futures::executor::block_on(engine.sync()).unwrap();
}

fn flip(engine: &mut SledEngine, key: &[u8], byte: usize) {
    let mut value = engine.get(key).unwrap().unwrap();
    value[byte] ^= 0x10;
    let mut batch = Batch::default();
    batch.put(key.to_vec(), value);
    engine.apply(batch).unwrap();
}

fn remove(engine: &mut SledEngine, key: Vec<u8>) {
    let mut batch = Batch::default();
    batch.remove(key);
    engine.apply(batch).unwrap();
}

#[tokio::test]
async fn every_kind_of_damaged_record_is_named() {
    type Change = fn(&mut SledEngine);
    let cases: [(&str, Change, &str); 9] = [
        ("entry", |e| flip(e, &record::entry_key(7, 0), 40), "log entry 7 is damaged: checksum"),
        ("later part", |e| flip(e, &record::entry_key(20, 2), 9), "log entry 20 is damaged"),
        ("version", |e| flip(e, &record::entry_key(7, 0), 0), "log entry 7 is damaged: written by"),
        ("state", |e| flip(e, STATE_KEY, 8), "the state record (vote, committed) is damaged"),
        ("identity", |e| flip(e, record::IDENTITY_KEY, 8), "the identity is damaged"),
        ("hole", |e| remove(e, record::entry_key(7, 0)), "log entry 7 is damaged: it is missing"),
        ("part", |e| remove(e, record::entry_key(20, 1)), "log entry 20 is damaged: part 1"),
        ("no state", |e| remove(e, STATE_KEY.to_vec()), "the state record (vote, committed)"),
        ("no identity", |e| remove(e, record::IDENTITY_KEY.to_vec()), "the identity is damaged"),
    ];
    for (name, change, want) in cases {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path()).await;
        tamper(dir.path(), change);
        let error = open(dir.path()).await.err().expect(name);
        assert!(matches!(error, StartError::Corrupt(_)), "{name}: {error}");
        assert!(error.to_string().contains(want), "{name}: {error}");
        let path = dir.path().join("db").display().to_string();
        assert!(error.to_string().starts_with(&path), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_log_that_a_snapshot_has_replaced_is_dropped() {
    let snapshot = |term, index| Some(log_id(term, NodeId(2), index));
    // Term and end of the snapshot, and whether the log of term 1 with entries 0 to 9 goes.
    let cases = [
        (2, 5, true),
        (2, 9, true),
        (2, 10, false),
        (1, 5, false),
        (1, 9, false),
        // Never committed, though newer (Raft, figure 8).
        (0, 5, true),
    ];
    for (term, index, goes) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, thread, _) = open(dir.path()).await.unwrap();
        append(&mut log, (0..10).map(|index| entry(index, 10))).await;
        let snapshot = if term == 1 { Some(entry(index, 0).log_id) } else { snapshot(term, index) };
        log.drop_superseded(snapshot).await.unwrap();
        close(log, thread).await;
        let (mut log, thread, _) = open(dir.path()).await.unwrap();
        let last = log.get_log_state().await.unwrap().last_log_id.map(|id| id.index);
        assert_eq!(last, if goes { None } else { Some(9) }, "snapshot of {term} up to {index}");
        close(log, thread).await;
    }
}

#[tokio::test]
async fn a_lost_tail_is_noticed() {
    // The store comes back in an older, in itself consistent state.
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let old = tempfile::tempdir().unwrap();
    for name in ["db", "conf"] {
        std::fs::copy(dir.path().join(name), old.path().join(name)).unwrap();
    }
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    append(&mut log, [entry(21, 10)]).await;
    close(log, thread).await;
    std::fs::copy(Witness::path(dir.path()), Witness::path(old.path())).unwrap();
    let error = open(old.path()).await.err().expect("refused").to_string();
    assert!(error.contains("was synced"), "{error}");
    // All of it gone.
    let empty = tempfile::tempdir().unwrap();
    std::fs::copy(Witness::path(dir.path()), Witness::path(empty.path())).unwrap();
    let error = open(empty.path()).await.err().expect("refused").to_string();
    assert!(error.contains("the identity is damaged: it is gone"), "{error}");
}

#[tokio::test]
async fn a_damaged_witness_is_named() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let path = Witness::path(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = open(dir.path()).await.err().expect("refused").to_string();
    assert!(error.contains(witness::FILE_NAME), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = open(dir.path()).await.err().expect("refused").to_string();
    assert!(error.contains("the file is missing"), "{error}");
}

/// Bits flipped anywhere in sled's own file. What it stores more than once may survive; whatever
/// is not refused must be complete.
#[tokio::test]
async fn flipped_bits_in_the_file_never_pass_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let good = std::fs::read(dir.path().join("db")).unwrap();
    let used = good.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    for step in 0..60 {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        let mut bad = good.clone();
        let at = used * step / 60 + step;
        bad[at.min(used)] ^= 1 << (step % 8);
        std::fs::write(copy.path().join("db"), bad).unwrap();
        match open(copy.path()).await {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("db"), "{error}");
            }
            Ok((mut log, thread, _)) => {
                let entries = log.try_get_log_entries(0..100).await.unwrap();
                let want = (0..20).map(|index| entry(index, 100)).chain([entry(20, 200_000)]);
                assert!(entries.into_iter().eq(want), "bit at {at}");
                assert_eq!(log.read_vote().await.unwrap(), Some(vote(3)), "bit at {at}");
                close(log, thread).await;
            }
        }
    }
    assert!(refused > 10, "only {refused} of 60 were refused");
}

#[tokio::test]
async fn one_process_and_one_master_for_each_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (log, thread, _) = open(dir.path()).await.unwrap();
    let error = open(dir.path()).await.err().expect("refused");
    assert!(matches!(&error, StartError::DirectoryInUse { path } if path == dir.path()), "{error}");
    close(log, thread).await;
    let other = DiskIdentity { cluster_id: "other".to_owned(), node_id: 2 };
    let error = open::open(dir.path(), &other, sled).await.err().expect("refused").to_string();
    assert!(error.contains("belongs to master 1 of cluster c, not to master 2 of"), "{error}");
}

// === a failing disk ===

/// Works until it is told to fail.
struct Failing {
    engine: SledEngine,
    fail: Arc<AtomicBool>,
}

impl Failing {
    fn check(&self) -> io::Result<()> {
        if self.fail.load(Ordering::Relaxed) { Err(io::Error::other("injected")) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl LogEngine for Failing {
    fn apply(&mut self, batch: Batch) -> io::Result<()> {
        self.engine.apply(batch)
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        self.engine.sync().await
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.engine.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> io::Result<()> {
        self.engine.scan(from, to, visit)
    }
}

#[tokio::test]
async fn the_first_error_is_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let fail = Arc::new(AtomicBool::new(false));
    let failing = fail.clone();
    let engine = |path: &Path| {
        let engine = SledEngine::open(path)?;
        Ok(Box::new(Failing { engine, fail: failing }) as Box<dyn LogEngine>)
    };
    let (mut log, thread, failed) = open_with(dir.path(), engine).await.unwrap();
    append(&mut log, [entry(0, 10)]).await;
    fail.store(true, Ordering::Relaxed);
    log.blocking_append([entry(1, 10)]).await.unwrap_err();
    fail.store(false, Ordering::Relaxed);
    // Also when the disk seems to work again.
    let error = log.save_vote(&vote(9)).await.unwrap_err().to_string();
    assert!(error.contains("injected"), "{error}");
    assert!(failed.borrow().clone().expect("fatal").0.contains("injected"));
    close(log, thread).await;
}

/// A disk whose syncs take as long as the test wants.
struct Slow {
    engine: SledEngine,
    /// One for each sync that has begun.
    begun: std::sync::mpsc::SyncSender<()>,
    /// One for each that may end.
    allowed: std::sync::mpsc::Receiver<()>,
}

#[async_trait::async_trait]
impl LogEngine for Slow {
    fn apply(&mut self, batch: Batch) -> io::Result<()> {
        self.engine.apply(batch)
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.begun.send(()).map_err(io::Error::other)?;
        self.allowed.recv().map_err(io::Error::other)?;
        self.engine.sync().await
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.engine.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> io::Result<()> {
        self.engine.scan(from, to, visit)
    }
}

/// A vote that is answered before it is on disk can be given twice; an entry, lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_before_it_is_synced() {
    const SOON: std::time::Duration = std::time::Duration::from_millis(200);
    let dir = tempfile::tempdir().unwrap();
    let (begun, begins) = std::sync::mpsc::sync_channel(8);
    let (allow, allowed) = std::sync::mpsc::sync_channel(8);
    // The one that makes the log.
    allow.send(()).unwrap();
    let engine = |path: &Path| {
        let engine = SledEngine::open(path)?;
        Ok(Box::new(Slow { engine, begun, allowed }) as Box<dyn LogEngine>)
    };
    let (log, thread, _) = open_with(dir.path(), engine).await.unwrap();
    begins.recv().unwrap();
    let mut voter = log.clone();
    let mut saving = tokio::spawn(async move { voter.save_vote(&vote(4)).await });
    begins.recv().unwrap();
    assert!(tokio::time::timeout(SOON, &mut saving).await.is_err(), "the vote was not synced");
    assert_eq!(log.clone().read_vote().await.unwrap(), None);
    allow.send(()).unwrap();
    saving.await.unwrap().unwrap();
    assert_eq!(log.clone().read_vote().await.unwrap(), Some(vote(4)));
    let mut writer = log.clone();
    let mut appending = tokio::spawn(async move { append(&mut writer, [entry(0, 10)]).await });
    begins.recv().unwrap();
    assert!(tokio::time::timeout(SOON, &mut appending).await.is_err(), "it was not synced");
    allow.send(()).unwrap();
    appending.await.unwrap();
    drop(allow);
    close(log, thread).await;
}

/// The figure of a busy small cluster: a million updates of 1 KiB in small and in large groups,
/// snapshots as the rule says, the log kept back to the snapshot before the last.
#[tokio::test]
#[ignore = "takes some minutes"]
async fn a_million_updates_stay_below_200_mb() {
    for group in [64, 1000] {
        let most = churn(group, 500_000).await;
        eprintln!("groups of {group}: at most {} MB", most / 1_000_000);
        assert!(most < 200_000_000, "{most} bytes");
    }
}

/// Writes in groups; gives the most that the directory took.
async fn churn(group: u64, entries: u64) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let (mut log, thread, _) = open(dir.path()).await.unwrap();
    let used = || -> u64 {
        let files = std::fs::read_dir(dir.path()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum()
    };
    let (mut last, mut most, mut next) = (0, 0, 0);
    while next < entries {
        append(&mut log, (next..next + group).map(|index| entry(index, 1024))).await;
        next += group;
        if log.shared().lock().bytes_after(Some(last)) > SNAPSHOT_LOG_BYTES_MIN / 2 {
            if last > 0 {
                log.purge(log_id(1, NodeId(1), last)).await.unwrap();
            }
            last = next - 1;
        }
        most = most.max(used());
    }
    close(log, thread).await;
    most
}
