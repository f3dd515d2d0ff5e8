//! This master's session: numbers for its proposals, and which of their answers have come.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use quorate_state_machine::{SessionId, SessionTag};

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    node: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    nonce: u64,
    open: bool,
    next: u64,
    waiting: BTreeSet<u64>,
}

impl Session {
    /// A session of this process; it must be opened before its first use.
    pub(crate) fn new(node: u64, nonce: u64) -> Self {
        let state = State { nonce, open: false, next: 1, waiting: BTreeSet::new() };
        Self { node, state: Mutex::new(state) }
    }

    /// The session's name, and whether it is known to be open.
    pub(crate) fn id(&self) -> (SessionId, bool) {
        let state = self.state();
        (SessionId { node: self.node, nonce: state.nonce }, state.open)
    }

    /// The session was opened.
    pub(crate) fn opened(&self, id: SessionId) {
        let mut state = self.state();
        if state.nonce == id.nonce {
            state.open = true;
        }
    }

    /// The leader does not know the session (any more): go on in a new one.
    pub(crate) fn lost(&self, id: SessionId) {
        let mut state = self.state();
        if state.nonce == id.nonce {
            state.nonce = state.nonce.wrapping_add(1);
            state.open = false;
            state.next = 1;
            state.waiting.clear();
        }
    }

    /// Numbers one proposal.
    pub(crate) fn tag(&self) -> SessionTag {
        let mut state = self.state();
        let sequence = state.next;
        state.next += 1;
        state.waiting.insert(sequence);
        let first_unacked = state.waiting.first().copied().unwrap_or(sequence);
        let session = SessionId { node: self.node, nonce: state.nonce };
        SessionTag { session, sequence, first_unacked }
    }

    /// Nobody waits for the answer to this proposal any more.
    pub(crate) fn done(&self, tag: &SessionTag) {
        let mut state = self.state();
        if state.nonce == tag.session.nonce {
            state.waiting.remove(&tag.sequence);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_unanswered_proposal_holds_the_bound() {
        let session = Session::new(1, 7);
        let (first, second) = (session.tag(), session.tag());
        assert_eq!((first.sequence, first.first_unacked), (1, 1));
        assert_eq!((second.sequence, second.first_unacked), (2, 1));
        session.done(&second);
        assert_eq!(session.tag().first_unacked, 1);
        session.done(&first);
        assert_eq!(session.tag().first_unacked, 3);
    }

    #[test]
    fn a_lost_session_is_followed_by_another() {
        let session = Session::new(1, 7);
        let tag = session.tag();
        session.opened(tag.session);
        session.lost(tag.session);
        let (id, open) = session.id();
        assert_ne!(id, tag.session);
        assert!(!open);
        // What belonged to the old one does not disturb the new one.
        session.done(&tag);
        session.opened(tag.session);
        assert_eq!(session.id(), (id, false));
        assert_eq!(session.tag().sequence, 1);
    }
}
