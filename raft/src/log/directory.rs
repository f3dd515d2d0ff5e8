//! Directories: made so that they survive a power loss, and held by one process.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};

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

/// Bytes that an unprivileged process may still write on the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Where the ballast of a log directory is.
pub(crate) fn ballast_path(directory: &Path) -> PathBuf {
    directory.join("ballast")
}

/// Makes the ballast file have its size, when there is room; a full disk is no error here.
pub(crate) fn keep_ballast(directory: &Path, bytes: u64) -> io::Result<()> {
    let path = ballast_path(directory);
    if bytes == 0 {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    if file.metadata()?.len() == bytes || free_bytes(directory)? < bytes.saturating_mul(2) {
        return Ok(());
    }
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    file.set_len(bytes)?;
    file.sync_all()
}
