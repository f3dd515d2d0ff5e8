//! Another store in the place of one whose files are damaged, with the same log in it.
//!
//! It is made in a directory of its own; when all of it is on disk that directory gets its name, and from then on its
//! files take the place of the old ones, whenever the process or the machine ends: whoever opens the log finishes it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::directory;
use super::open::sync_files;
use super::sled_engine::SNAPSHOT_PREFIX;
use crate::limits::{ENGINE_LOCK_PAUSE, ENGINE_LOCK_TRIES};

/// What is being made; of no use when whoever made it has ended.
const UNFINISHED: &str = "renewed.new";
/// What is complete.
pub(crate) const COMPLETE: &str = "renewed";
/// The files of a store; its snapshots are only shorter ways to read them.
const FILES: [&str; 2] = ["conf", "db"];

/// An empty place for the new store.
pub(crate) fn begin(log: &Path) -> io::Result<PathBuf> {
    abandon(log)?;
    let made = log.join(UNFINISHED);
    fs::create_dir(&made)?;
    Ok(made)
}

/// Removes what was begun.
pub(crate) fn abandon(log: &Path) -> io::Result<()> {
    match fs::remove_dir_all(log.join(UNFINISHED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The new store is whole, and closed: from here on it is the log.
pub(crate) fn complete(log: &Path) -> io::Result<()> {
    let made = log.join(UNFINISHED);
    sync_files(&made)?;
    fs::rename(&made, log.join(COMPLETE))?;
    directory::sync(log)
}

/// Puts a complete one in the place of what is there, which nobody may have open. Nothing when there is none.
pub(crate) fn finish(log: &Path) -> io::Result<()> {
    abandon(log)?;
    let made = log.join(COMPLETE);
    if !made.is_dir() {
        return Ok(());
    }
    // Those of the old files would be taken for those of the new.
    for item in fs::read_dir(log)? {
        let item = item?;
        if item.file_name().to_string_lossy().starts_with(SNAPSHOT_PREFIX) {
            fs::remove_file(item.path())?;
        }
    }
    directory::sync(log)?;
    for name in FILES {
        match fs::rename(made.join(name), log.join(name)) {
            // It was moved before the process ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    directory::sync(log)?;
    fs::remove_dir_all(&made)?;
    tracing::warn!(directory = %log.display(), "the log was written anew, since its files were damaged");
    directory::sync(log)
}

/// Waits until the store that was in `log` is closed: its threads end a moment after it was dropped. Blocks.
pub(crate) fn closed(log: &Path) -> io::Result<()> {
    let file = File::open(log.join("db"))?;
    for _ in 0..ENGINE_LOCK_TRIES {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(ENGINE_LOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("the store does not close"))
}
