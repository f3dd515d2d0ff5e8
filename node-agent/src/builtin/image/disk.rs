//! Small file work shared by the store: hashing, atomic durable writes, locks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

use super::{Error, Result};

/// `sha256:<hex>` of what was hashed.
pub(super) fn digest_text(hasher: Sha256) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in hasher.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Digest of bytes in memory.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(bytes);
    digest_text(hasher)
}

/// Hashes what is read through it.
pub(super) struct HashReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> HashReader<R> {
    pub(super) fn new(inner: R) -> Self {
        HashReader { inner, hasher: Sha256::new() }
    }

    /// Reads to the end (tar readers stop before the padding) and tells the digest of all.
    pub(super) fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(digest_text(self.hasher))
    }
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.hasher.update(&buf[..count]);
        Ok(count)
    }
}

/// Writes beside, syncs, renames, syncs the directory: after a power loss either the old or the new content is there.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir =
        path.parent().ok_or_else(|| Error::Invalid(format!("{} has no parent", path.display())))?;
    let mut temp =
        tempfile::NamedTempFile::new_in(dir).map_err(Error::io("cannot write in", dir))?;
    temp.write_all(bytes).map_err(Error::io("cannot write", path))?;
    temp.as_file().sync_data().map_err(Error::io("cannot sync", path))?;
    temp.persist(path).map_err(|err| Error::io("cannot rename to", path)(err.error))?;
    sync_dir(dir)
}

/// Makes renames in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    let file = File::open(dir).map_err(Error::io("cannot open", dir))?;
    file.sync_all().map_err(Error::io("cannot sync", dir))
}

/// A file lock, released when dropped.
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

/// Takes the lock `path`, waiting for it.
pub(super) fn lock(path: &Path, operation: FlockOperation) -> Result<Lock> {
    let file = open_lock(path)?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(Lock(file)),
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(Error::io("cannot lock", path)(err.into())),
        }
    }
}

/// Takes the lock `path` exclusively if nobody has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>> {
    let file = open_lock(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(err) => Err(Error::io("cannot lock", path)(err.into())),
    }
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(Error::io("cannot open", path))
}

/// Removes a directory tree that may not exist.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove", path)(err))
        }
        _ => Ok(()),
    }
}
