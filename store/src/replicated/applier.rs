//! What the log drives on this master: the state machine, and the publication of its views.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quorate_points::{self as points, Point};
use quorate_raft::{LogEntry, RestoreError, SnapshotWriter, StateMachine};
use quorate_state_machine::{LogIndex, Machine, codec};

use crate::consensus::PublishedViews;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Applier {
    machine: Machine,
    published: Arc<PublishedViews>,
}

impl Applier {
    /// The views that this applier publishes.
    pub(crate) fn published(&self) -> Arc<PublishedViews> {
        self.published.clone()
    }
}

impl StateMachine for Applier {
    fn apply(&mut self, batch: Vec<LogEntry>) -> Vec<Bytes> {
        let replies = batch
            .into_iter()
            .map(|entry| {
                let index = LogIndex(entry.index.0);
                let applied = self.machine.apply(index, entry.payload.as_deref());
                points::pass(Point::ApplyBetween);
                self.published.integrity.applied(self.machine.view());
                match applied {
                    Ok(replies) => codec::encode_replies(&replies).map(Bytes::from),
                    // Skipping the entry would make this master differ from the others: stop.
                    Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
                }
                .unwrap_or_else(|error| panic!("replies to entry {index} do not encode: {error}"))
            })
            .collect();
        self.published.note_sessions(self.machine.sessions().ids());
        self.published.publish(self.machine.view());
        replies
    }

    fn snapshot(&self) -> SnapshotWriter {
        let machine = self.machine.clone();
        Box::new(move |out| machine.write_snapshot(out))
    }

    fn restore(&mut self, input: &mut dyn io::Read) -> Result<(), RestoreError> {
        self.machine = Machine::read_snapshot(input).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => RestoreError::Invalid(error.to_string()),
            _ => RestoreError::Io(error),
        })?;
        self.published.integrity.replaced();
        self.published.note_sessions(self.machine.sessions().ids());
        self.published.publish(self.machine.view());
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        self.machine.view().weight()
    }

    fn quota_bytes(&self) -> u64 {
        self.machine.view().objects_weight()
    }
}
