//! Changes, as watchers see them.

use std::sync::Arc;

use bincode::{Decode, Encode};

use crate::names::{Key, Revision};
use crate::object::StoredRef;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ChangeKind {
    /// It was not there before.
    Created,
    /// It has a new version.
    Updated,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The revision that the change was given.
    pub revision: Revision,
    /// What happened.
    pub kind: ChangeKind,
    /// The version before; `None` for `Created`.
    pub previous: Option<StoredRef>,
    /// The version after; `None` for `Deleted`.
    pub current: Option<StoredRef>,
}

/// A change, shared by the history and its readers.
pub type ChangeRef = Arc<Change>;

impl Change {
    /// The version that tells about the change: the new one, or the last one of a deleted object.
    #[must_use]
    pub fn object(&self) -> &StoredRef {
        self.current
            .as_ref()
            .or(self.previous.as_ref())
            .expect("a change has a version before it or after it: View::change makes no other")
    }

    /// The object that changed.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.object().key
    }

    /// Memory that the history holds for this change alone, about: the replaced version.
    pub(crate) fn weight(&self) -> u64 {
        64 + self.previous.as_ref().map_or(0, |previous| previous.image.weight())
    }
}
