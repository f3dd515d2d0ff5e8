//! The seam to the ordered store under the log.

use std::io;

use async_trait::async_trait;

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
}
