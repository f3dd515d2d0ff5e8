//! Directories: made so that they survive a power loss, and held by one process.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::StartError;

/// Syncs the directory itself: its entries.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory (and its parents) whose existence survives a power loss.
pub(crate) fn create(path: &Path) -> Result<(), StartError> {
    let make = || {
        fs::create_dir_all(path)?;
        sync(path)?;
        path.parent().map_or(Ok(()), sync)
    };
    make().map_err(|source| StartError::Io { path: path.into(), action: "create", source })
}

/// The lock of a directory, held as long as this lives (and never longer than the process).
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock of a directory.
pub(crate) fn lock(directory: &Path) -> Result<Lock, StartError> {
    let path = directory.join("lock");
    let io = |action| {
        let path = path.clone();
        move |source| StartError::Io { path, action, source }
    };
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(io("open"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(StartError::DirectoryInUse { path: directory.into() })
        }
        Err(error) => Err(io("lock")(error.into())),
    }
}
