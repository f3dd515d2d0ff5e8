//! What the store answers when it cannot do as asked.

use quorate_raft::Silence;
use quorate_state_machine::{Expired, Revision};

/// Too few masters answer: who, and what can be done about it.
pub(crate) fn what_next(silence: &Silence) -> String {
    format!(
        "{silence}. Either this master is cut off from them: ask another one. Or they are down: start them again. If \
         they are lost for good, stop the others and run `quorate masters recover` on one of their machines"
    )
}

/// What somebody who reads the error can do about it.
fn told(silence: Option<&Silence>) -> String {
    silence.map_or_else(String::new, |silence| {
        let what = what_next(silence);
        format!(
            ". There is {what}. Until then reads with resourceVersion=0 are answered, with what was decided before"
        )
    })
}

/// The store's errors. Which of them a caller may retry, and what an HTTP client is told, follows
/// from [`Error::retryable`] and from what each says about the outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No leader, or no quorum, within the deadline. Certainly nothing was written: 503.
    #[error("no leader could be reached within {waited_ms} ms, and nothing was done{}", told(silence.as_ref()))]
    Unavailable {
        /// How long the caller waited.
        waited_ms: u64,
        /// Who does not answer, when too few masters do.
        silence: Option<Silence>,
    },
    /// The proposal was sent and no answer came within the deadline. It may or may not have taken
    /// effect: 504.
    #[error("no decision within {waited_ms} ms; the outcome is unknown")]
    Unknown {
        /// How long the caller waited.
        waited_ms: u64,
    },
    /// Too many proposals wait already. Certainly nothing was written: 429.
    #[error("too many writes are waiting for their decision; nothing was written")]
    Overloaded,
    /// The disk of a master is nearly full, and only deletes are let through. Certainly nothing was
    /// written.
    #[error(
        "no space: {reason}; nothing was written, and only deletes are taken until there is room again"
    )]
    NoSpace {
        /// Which disk, and how full.
        reason: String,
    },
    /// The state of this master is damaged, and it takes that of another one. Nothing was written: 503.
    #[error(
        "this master is out of service until it is healed: {reason}. Ask another one, or again in a moment"
    )]
    Damaged {
        /// What is damaged.
        reason: String,
    },
    /// This master was removed, or stops, before it could answer. Certainly nothing was done: 503, and another master
    /// is to be asked.
    #[error("{reason}, and answers no more; nothing was done. Ask another one")]
    Leaving {
        /// Why.
        reason: String,
    },
    /// The leadership that the caller acts for has ended. Certainly nothing was written.
    #[error("this master no longer holds the leadership that the write was made for")]
    Deposed,
    /// The store has not reached the revision that was asked for: 504, "Too large resource version".
    #[error("revision {asked} is not reached yet, the store is at {current}")]
    FutureRevision {
        /// What was asked for.
        asked: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// The history does not reach back to the revision: 410.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// The write does not fit into one log entry. Certainly nothing was written.
    #[error("the write does not fit into a log entry")]
    TooLarge(#[source] quorate_state_machine::codec::CodecError),
    /// The master is stopping, or had to stop: its storage failed, or it met an entry that it cannot apply.
    #[error("this master is stopping: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl Error {
    /// Whether the same call may be made again without asking what became of the first one.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Overloaded
            | Self::FutureRevision { .. }
            | Self::Leaving { .. }
            | Self::Damaged { .. } => true,
            Self::Unknown { .. }
            | Self::NoSpace { .. }
            | Self::Deposed
            | Self::Expired(_)
            | Self::TooLarge(_)
            | Self::Stopped { .. } => false,
        }
    }
}
