//! The seam to the ordered store under the log.

use std::io;
use std::path::Path;

use async_trait::async_trait;

pub use super::examine::Examiner;

/// Changes that become visible, and survive a crash, together or not at all.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// In order; a later change of the same key wins. `None` removes.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }
}

/// What `scan` shows: key and value.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> io::Result<()>;

/// Opens or makes a store in a directory.
pub type Opener = fn(&Path) -> io::Result<Box<dyn LogEngine>>;

/// An ordered store with atomic batches. Owned by one thread. After an error nothing is known
/// about what is on disk: the caller must stop and never call again.
#[async_trait]
pub trait LogEngine: Send {
    /// Makes the batch visible. It may be lost by a crash until `sync` has returned.
    ///
    /// # Errors
    /// When the disk failed, as for all others.
    fn apply(&mut self, batch: Batch) -> io::Result<()>;
    /// Returns when everything applied before survives the loss of power.
    ///
    /// # Errors
    /// When it is not known to be on disk.
    async fn sync(&mut self) -> io::Result<()>;
    /// The value of a key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// Shows the records with `from <= key < to` in order.
    ///
    /// # Errors
    /// When one cannot be read, or `visit` has had enough.
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> io::Result<()>;
    /// What reads its files again, past every cache. `None`: it has no such thing.
    fn examiner(&self) -> Option<Examiner> {
        None
    }
    /// What opens another store of its kind. `None`: there is no such thing.
    fn opener(&self) -> Option<Opener> {
        None
    }
}

/// In the place of a store that is closed, until another one is.
pub(crate) struct Closed;

impl Closed {
    fn error() -> io::Error {
        io::Error::other("the log's store is closed")
    }
}

#[async_trait]
impl LogEngine for Closed {
    fn apply(&mut self, _batch: Batch) -> io::Result<()> {
        Err(Self::error())
    }

    async fn sync(&mut self) -> io::Result<()> {
        Err(Self::error())
    }

    fn get(&self, _key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Err(Self::error())
    }

    fn scan(&self, _from: &[u8], _to: &[u8], _visit: Visit<'_>) -> io::Result<()> {
        Err(Self::error())
    }
}
