//! sled 0.34 as the engine, with its traps closed.
//!
//! * `flush` only calls `sync_file_range`: neither metadata nor the disk's cache. Our own
//!   `fdatasync` of the same file follows it before anything is acknowledged.
//! * Its background flusher only logs errors, but it is also its only garbage collector: without it
//!   a million updates in groups of 1,000 took 2.4 GB for 130 MB of live log, and more with each.
//!   So it runs; nothing relies on it for durability. A sync error that it swallows is not lost:
//!   the kernel reports it once to each open file, so our own `fdatasync` fails too.
//! * Leaves over a quarter of a segment become blob files that are never synced: large segments
//!   and small records (`RECORD_BYTES_MAX`) keep every leaf (16 items) below that.
//! * It creates files without syncing their directory: `log::directory` does.
//! * A snapshot of its own that it was writing when the process or the machine ended keeps its unfinished name, and the
//!   next start takes that file for the newest snapshot, and the store for damaged (sled #1533): [`tidy_snapshots`].
//! * A snapshot of its own is synced, and the log that it is of is not: after a power loss it may be ahead of the log,
//!   and the store counts as damaged: [`set_aside`].

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use quorate_points::{self as points, Point};

use super::engine::{Batch, LogEngine, Opener, Visit};
use super::examine::Examiner;
use crate::limits::{
    ENGINE_CACHE_BYTES, ENGINE_LOCK_PAUSE, ENGINE_LOCK_TRIES, ENGINE_SEGMENT_BYTES,
};

/// How often sled collects garbage (for at most half of the time).
const COLLECT_EVERY_MS: u64 = 500;

/// How the names of sled's snapshots begin, and those end that are being written.
pub(crate) const SNAPSHOT_PREFIX: &str = "snap.";
pub(crate) const UNFINISHED_SUFFIX: &str = ".generating";

/// Snapshots that were no good are kept under such a name, for who wants to look at them.
const ASIDE_PREFIX: &str = "damaged-";

pub(crate) struct SledEngine {
    // Before `db`, so that the descriptor outlives no store.
    file: File,
    db: sled::Db,
    directory: PathBuf,
    /// Of the file with its settings, which it writes only once.
    settings: Vec<u8>,
}

fn other(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        error @ (sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. }) => io::Error::other(error),
    }
}

impl SledEngine {
    /// Opens or creates the store in `directory`.
    ///
    /// sled panics on some damaged files; that becomes an error here.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        tidy_snapshots(directory)?;
        let open = || {
            sled::Config::new()
                .path(directory)
                .cache_capacity(ENGINE_CACHE_BYTES)
                .segment_size(ENGINE_SEGMENT_BYTES)
                .flush_every_ms(Some(COLLECT_EVERY_MS))
                .open()
        };
        // A store that was closed in this process gives up its lock when its last thread has ended. Other processes
        // are kept out by the directory's own lock.
        let mut tries = ENGINE_LOCK_TRIES;
        let mut aside = false;
        let db = loop {
            match guarded(|| open().map_err(other)) {
                Err(error) if tries > 0 && error.to_string().contains("could not acquire lock") => {
                    tries -= 1;
                    std::thread::sleep(ENGINE_LOCK_PAUSE);
                }
                Err(error) if !aside && is_corruption(&error) && set_aside(directory)? => {
                    aside = true;
                }
                opened => break opened?,
            }
        };
        let file = File::open(directory.join("db"))?;
        let settings = fs::read(directory.join("conf"))?;
        Ok(Self { file, db, directory: directory.to_owned(), settings })
    }
}

/// No snapshot of sled's has its unfinished name any more. It writes and syncs a file of that name, renames it, and
/// then removes the one before, which a power loss may undo one by one. So an unfinished file goes, unless no finished
/// one is left and it is whole: then it was to be that. Without any, sled reads its whole log.
fn tidy_snapshots(directory: &Path) -> io::Result<()> {
    let (mut finished, mut unfinished) = (false, Vec::new());
    let items = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        items => items?,
    };
    for item in items {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match (name.starts_with(SNAPSHOT_PREFIX), name.ends_with(UNFINISHED_SUFFIX)) {
            (true, true) => unfinished.push(path),
            (true, false) => finished = true,
            (false, _) => {}
        }
    }
    if unfinished.is_empty() {
        return Ok(());
    }
    // The newest first: its name is where the log ended.
    unfinished.sort_by(|a: &PathBuf, b| b.cmp(a));
    for path in unfinished {
        if !finished && is_whole(&fs::read(&path)?) {
            fs::rename(&path, path.with_extension(""))?;
            finished = true;
        } else {
            fs::remove_file(&path)?;
        }
        tracing::info!(path = %path.display(), "a snapshot that the log's store had not finished");
    }
    super::directory::sync(directory)
}

fn is_corruption(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<sled::Error>());
    matches!(inner, Some(sled::Error::Corruption { .. }))
}

/// Sled syncs its snapshots, but not the log that they are of: after a power loss one may be of more than the log has,
/// and the store counts as damaged. Without it all is read from the log; whether that has all that was acknowledged,
/// its witness tells. Whether there was one.
fn set_aside(directory: &Path) -> io::Result<bool> {
    let mut found = false;
    for item in fs::read_dir(directory)? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(SNAPSHOT_PREFIX) && !name.ends_with(UNFINISHED_SUFFIX) {
            fs::rename(&path, directory.join(format!("{ASIDE_PREFIX}{name}")))?;
            tracing::warn!(path = %path.display(), "a snapshot of the log's store is no good: all is read from the log");
            found = true;
        }
    }
    super::directory::sync(directory)?;
    Ok(found)
}

/// Whether a snapshot of sled's has all that it is to have: content, length of eight bytes, checksum of four.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    let Some((bytes, checksum)) = bytes.split_last_chunk::<4>() else { return false };
    let Some((content, _)) = bytes.split_last_chunk::<8>() else { return false };
    !content.is_empty() && crc32fast::hash(content) == u32::from_le_bytes(*checksum)
}

fn guarded<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown panic");
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("the store panicked: {text}")))
    })
}

#[async_trait]
impl LogEngine for SledEngine {
    fn apply(&mut self, batch: Batch) -> io::Result<()> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch.changes {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        guarded(|| self.db.apply_batch(changes).map_err(other))
    }

    async fn sync(&mut self) -> io::Result<()> {
        guarded(|| self.db.flush().map_err(other))?;
        points::pass(Point::LogStoreFlushed);
        self.file.sync_data()
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        guarded(|| Ok(self.db.get(key).map_err(other)?.map(|value| value.to_vec())))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> io::Result<()> {
        guarded(|| {
            for item in self.db.range(from..to) {
                let (key, value) = item.map_err(other)?;
                visit(&key, &value)?;
            }
            Ok(())
        })
    }

    fn examiner(&self) -> Option<Examiner> {
        Some(Examiner::new(&self.directory, self.settings.clone()))
    }

    fn opener(&self) -> Option<Opener> {
        Some(|directory| Ok(Box::new(Self::open(directory)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshots(directory: &Path) -> Vec<PathBuf> {
        let items = fs::read_dir(directory).unwrap().map(|item| item.unwrap().path());
        let is_one = |path: &PathBuf| path.to_string_lossy().contains("/snap.");
        items.filter(is_one).collect()
    }

    async fn written(directory: &Path) {
        let mut engine = SledEngine::open(directory).unwrap();
        let changes = vec![(b"a".to_vec(), Some(b"1".to_vec()))];
        engine.apply(Batch { changes }).unwrap();
        engine.sync().await.unwrap();
        drop(engine);
        // A start takes a snapshot.
        drop(SledEngine::open(directory).unwrap());
    }

    fn is_there(directory: &Path) {
        let engine = SledEngine::open(directory).unwrap();
        assert_eq!(engine.get(b"a").unwrap().unwrap(), b"1");
        drop(engine);
        let left = snapshots(directory);
        assert!(left.iter().all(|path| path.extension().unwrap() != "generating"), "{left:?}");
    }

    #[tokio::test]
    async fn a_snapshot_that_was_being_written_damages_nothing() {
        for content in [&b""[..], b"some of it", b"more than twelve bytes of it"] {
            let directory = tempfile::tempdir().unwrap();
            written(directory.path()).await;
            let unfinished = directory.path().join("snap.00000000FFFFFFFF.generating");
            fs::write(unfinished, content).unwrap();
            is_there(directory.path());
        }
    }

    #[tokio::test]
    async fn a_snapshot_that_lost_its_name_only_gets_it_back() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path()).await;
        let all = snapshots(directory.path());
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(is_whole(&fs::read(&all[0]).unwrap()), "sled has another form");
        let unfinished = PathBuf::from(format!("{}.generating", all[0].display()));
        fs::rename(&all[0], unfinished).unwrap();
        tidy_snapshots(directory.path()).unwrap();
        assert_eq!(snapshots(directory.path()), all);
        is_there(directory.path());
    }

    #[tokio::test]
    async fn a_snapshot_that_is_ahead_of_the_log_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path()).await;
        let db = directory.path().join("db");
        let before = fs::read(&db).unwrap();
        let mut engine = SledEngine::open(directory.path()).unwrap();
        for number in 0..1000_u32 {
            let changes = vec![(number.to_be_bytes().to_vec(), Some(vec![7; 1000]))];
            engine.apply(Batch { changes }).unwrap();
        }
        engine.sync().await.unwrap();
        drop(engine);
        drop(SledEngine::open(directory.path()).unwrap());
        // The power fails: of the file only what had been synced by us is there.
        fs::write(&db, before).unwrap();
        is_there(directory.path());
        let aside = fs::read_dir(directory.path()).unwrap().flatten();
        let aside = aside.filter(|item| item.file_name().to_string_lossy().starts_with("damaged-"));
        assert_eq!(aside.count(), 1);
    }

    #[tokio::test]
    async fn without_any_snapshot_all_is_read_from_the_log() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path()).await;
        for path in snapshots(directory.path()) {
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let unfinished = PathBuf::from(format!("{}.generating", path.display()));
            fs::write(unfinished, &bytes[..bytes.len() / 2]).unwrap();
        }
        is_there(directory.path());
    }
}
