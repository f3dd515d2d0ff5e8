//! The state machine: one entry in, replies out.

use std::io;

use crate::codec::{self, CodecError};
use crate::command::{self, Reply};
use crate::names::LogIndex;
use crate::session::Sessions;
use crate::snapshot;
use crate::view::View;

/// The machine cannot go on: applying or skipping the entry would make this master differ from the
/// others. The process must stop.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The entry is damaged or of a newer version.
    #[error("log entry {index} cannot be applied")]
    Entry {
        /// Which entry.
        index: LogIndex,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// Entries must come one after the other.
    #[error("log entry {got} came after {last}: entries are missing or repeated")]
    OutOfOrder {
        /// What came.
        got: LogIndex,
        /// What was applied last.
        last: LogIndex,
    },
}

/// All replicated state.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub(crate) view: View,
    pub(crate) sessions: Sessions,
}

impl Machine {
    /// Applies one log entry. `entry` is `None` for entries of Raft itself (blank, membership),
    /// which only move the index.
    ///
    /// # Errors
    /// [`MachineError`]: the process must stop, nothing was changed.
    pub fn apply(
        &mut self,
        index: LogIndex,
        entry: Option<&[u8]>,
    ) -> Result<Vec<Reply>, MachineError> {
        // Raft counts its log from 0; entry 0 is the first membership and carries no command.
        if index <= self.view.index && self.view.index != LogIndex(0) {
            return Err(MachineError::OutOfOrder { got: index, last: self.view.index });
        }
        let Some(bytes) = entry else {
            self.view.index = index;
            return Ok(Vec::new());
        };
        let entry =
            codec::decode_entry(bytes).map_err(|source| MachineError::Entry { index, source })?;
        self.view.index = index;
        Ok(entry
            .proposals
            .iter()
            .map(|proposal| command::decide(&mut self.view, &mut self.sessions, proposal))
            .collect())
    }

    /// The store as it is now, for readers.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The open sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Writes everything to `out`: the same state gives the same bytes.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn write_snapshot(&self, out: &mut dyn io::Write) -> io::Result<()> {
        snapshot::write(self, out)
    }

    /// The machine from what [`Machine::write_snapshot`] wrote.
    ///
    /// # Errors
    /// What `input` fails with; `InvalidData` when the content does not decode or contradicts
    /// itself.
    pub fn read_snapshot(input: &mut dyn io::Read) -> io::Result<Self> {
        snapshot::read(input)
    }
}
