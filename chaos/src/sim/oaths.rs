//! What a master must stand by: votes that it gave, and states that it has after entries of the log.

use super::world::{Voted, World};
use crate::limits::{SIM_BROKEN_MAX as BROKEN_MAX, SIM_STATES_MAX as STATES_MAX};

impl World {
    /// Persistent state (Raft, figure 2): a vote that was given is on disk, and whoever starts again stands by it.
    /// Answers of one life do not come in the order in which they were made: some wait for the disk.
    pub(super) fn voted(&mut self, from: usize, vote: Voted, given: bool) {
        let (before, since) = &mut self.votes[from];
        if given {
            *since = vote.max(*since);
        }
        if vote < *before && self.broken.len() < BROKEN_MAX {
            let text = format!(
                "m{} gave its vote to {} in term {}, and after a start stood by one for {} in term {}",
                from + 1,
                before.1,
                before.0,
                vote.1,
                vote.0
            );
            self.broken.push(("votes", text));
        }
    }

    /// State machine safety (Raft, figure 3): whoever has applied the same entries has the same state.
    pub(super) fn applied(&mut self, from: usize, index: u64, state: (u64, u128)) {
        let (first, revision, hash) = *self.states.entry(index).or_insert((from, state.0, state.1));
        if (revision, hash) != state && self.broken.len() < BROKEN_MAX {
            self.broken.push((
                "state",
                format!(
                    "after entry {index} m{} is at revision {revision} with the hash {hash:032x}, \
                     m{} at {} with {:032x}",
                    first + 1,
                    from + 1,
                    state.0,
                    state.1
                ),
            ));
        }
        while self.states.len() > STATES_MAX {
            self.states.pop_first();
        }
    }
}
