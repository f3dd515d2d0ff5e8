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

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use async_trait::async_trait;
use quorate_points::{self as points, Point};

use super::engine::{Batch, LogEngine, Visit};
use crate::limits::{
    ENGINE_CACHE_BYTES, ENGINE_LOCK_PAUSE, ENGINE_LOCK_TRIES, ENGINE_SEGMENT_BYTES,
};

/// How often sled collects garbage (for at most half of the time).
const COLLECT_EVERY_MS: u64 = 500;

pub(crate) struct SledEngine {
    // Before `db`, so that the descriptor outlives no store.
    file: File,
    db: sled::Db,
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
        let db = loop {
            match guarded(|| open().map_err(other)) {
                Err(error) if tries > 0 && error.to_string().contains("could not acquire lock") => {
                    tries -= 1;
                    std::thread::sleep(ENGINE_LOCK_PAUSE);
                }
                opened => break opened?,
            }
        };
        let file = File::open(directory.join("db"))?;
        Ok(Self { file, db })
    }
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
}
