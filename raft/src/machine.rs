//! What this crate drives: a deterministic machine over opaque bytes.

use std::io;

use bytes::Bytes;

use crate::types::{LogIndex, Term};

/// One committed entry on its way to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands in the log. The machine sees each index exactly once, in order.
    pub index: LogIndex,
    /// Term of the leader that proposed it.
    pub term: Term,
    /// What was proposed; `None` for entries of Raft's own (blank, membership).
    pub payload: Option<Bytes>,
}

/// Writes a snapshot, later and on another thread, of the state as it was when it was made.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// Why a machine could not take the state of a snapshot. The master refuses to serve.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The bytes could not be read.
    #[error("the snapshot cannot be read")]
    Io(#[from] io::Error),
    /// The bytes are not a state this version understands.
    #[error("the snapshot does not hold a valid state: {0}")]
    Invalid(String),
}

/// The replicated state machine. It lives on one thread of its own and is called in log order.
///
/// A panic inside is fatal to the node: nobody knows then what was applied.
pub trait StateMachine: Send + 'static {
    /// Applies entries in log order, at most `limits::APPLY_BATCH_MAX` at a time, and **publishes
    /// what readers shall see before it returns**: writers are answered after that. One reply for
    /// each entry (those of entries without payload are dropped).
    fn apply(&mut self, batch: Vec<LogEntry>) -> Vec<Bytes>;

    /// A view of the state as it is now, in O(1); it is encoded in the background.
    fn snapshot(&self) -> SnapshotWriter;

    /// Replaces the state by that of a snapshot. Must leave the old state or the new one.
    ///
    /// # Errors
    /// When the input is unreadable or not a state; the node then stops.
    fn restore(&mut self, input: &mut dyn io::Read) -> Result<(), RestoreError>;

    /// About how many bytes the state takes; part of the rule when to take a snapshot.
    fn state_bytes(&self) -> u64;

    /// About how many bytes of it a quota counts: not what is only kept for readers of the past, so that a delete frees
    /// room at once.
    fn quota_bytes(&self) -> u64 {
        self.state_bytes()
    }
}
