//! Turns: writes of one namespace that count for quotas go one after the other on a master.
//!
//! Correct they are without this: the state machine refuses what was charged to an old version of a quota. But of many
//! that are computed from the same version only one can be right, so they do not even try.

use std::sync::Arc;

use quorate_state_machine::Revision;
use quorate_store::{Consistency, Store};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::limits::CHARGE_TURNS;
use crate::status_error::{self, Answer};

/// See the module. Each holds the revision of the last write that had its turn here.
pub(crate) struct Turns(Vec<Arc<Mutex<Revision>>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..CHARGE_TURNS).map(|_| Arc::new(Mutex::new(Revision(0)))).collect())
    }
}

/// Whose turn it is. It is over when this is dropped.
pub(crate) struct Turn(OwnedMutexGuard<Revision>);

impl Turns {
    /// Waits for the turn, and until this master shows what was written in the turn before.
    pub(crate) async fn wait(&self, store: &Store, namespace: &str) -> Answer<Turn> {
        let place = namespace
            .bytes()
            .fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let turn = self.0[place % self.0.len()].clone().lock_owned().await;
        let read = store.read(Consistency::AtLeast(*turn)).await;
        read.map_err(|error| status_error::of_store(&error))?;
        Ok(Turn(turn))
    }
}

impl Turn {
    /// The turn is over: this was written.
    pub(crate) fn done(mut self, revision: Revision) {
        *self.0 = revision;
    }
}
