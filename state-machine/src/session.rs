//! Sessions: what makes a retried proposal take effect once.
//!
//! A master opens a session when it starts (node id, and a nonce drawn by its process) and numbers
//! its proposals. The table remembers the answer to each until the proposer says it has it
//! (`first_unacked`). It is part of the state and of snapshots (Raft dissertation, section 6.3).

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use quorate_mutants::{self as mutants, Mutant};

use crate::command::Reply;
use crate::limits::{SESSION_OUTCOMES_MAX, SESSIONS_MAX};
use crate::names::LogIndex;

/// Names one process of one master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SessionId {
    /// Raft node id of the master.
    pub node: u64,
    /// Drawn at random by the process.
    pub nonce: u64,
}

/// Marks one proposal of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SessionTag {
    /// Which session.
    pub session: SessionId,
    /// Number of the proposal in it, from 1.
    pub sequence: u64,
    /// The proposer has the answers to all below this.
    pub first_unacked: u64,
}

/// One open session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Session {
    pub(crate) opened_at: LogIndex,
    pub(crate) first_unacked: u64,
    pub(crate) answers: BTreeMap<u64, Reply>,
}

/// All open sessions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sessions {
    pub(crate) open: BTreeMap<SessionId, Session>,
}

impl Sessions {
    /// Opens a session and ends the others of the node. Opening an open one changes nothing.
    pub(crate) fn open(&mut self, id: SessionId, at: LogIndex) {
        self.open.retain(|other, _| other.node != id.node || other.nonce == id.nonce);
        self.open.entry(id).or_insert_with(|| Session { opened_at: at, ..Session::default() });
        while self.open.len() > SESSIONS_MAX {
            let oldest = self.open.iter().min_by_key(|(id, session)| (session.opened_at, **id));
            match oldest.map(|(id, _)| *id) {
                Some(oldest) => self.open.remove(&oldest),
                None => return,
            };
        }
    }

    /// Ends a session.
    pub(crate) fn close(&mut self, id: SessionId) {
        self.open.remove(&id);
    }

    /// Whether the tagged proposal is to be executed; if not, its answer.
    pub(crate) fn admit(&mut self, tag: &SessionTag) -> Result<(), Reply> {
        let Some(session) = self.open.get_mut(&tag.session) else {
            return Err(Reply::SessionUnknown);
        };
        if tag.first_unacked > session.first_unacked {
            session.first_unacked = tag.first_unacked;
            session.answers = session.answers.split_off(&tag.first_unacked);
        }
        if let Some(answer) = session.answers.get(&tag.sequence)
            && !mutants::is(Mutant::ExecutedTwice)
        {
            return Err(answer.clone());
        }
        if tag.sequence < session.first_unacked {
            return Err(Reply::SequenceTrimmed);
        }
        if session.answers.len() >= SESSION_OUTCOMES_MAX {
            return Err(Reply::SessionFull);
        }
        Ok(())
    }

    /// Keeps the answer to a proposal that was just executed.
    pub(crate) fn remember(&mut self, tag: &SessionTag, reply: &Reply) {
        if let Some(session) = self.open.get_mut(&tag.session) {
            session.answers.insert(tag.sequence, reply.clone());
        }
    }

    /// The open sessions, in order.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> + Clone + '_ {
        self.open.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId { node: 1, nonce: 7 };

    fn tag(sequence: u64, first_unacked: u64) -> SessionTag {
        SessionTag { session: ID, sequence, first_unacked }
    }

    fn answer() -> Reply {
        Reply::Decided(Vec::new())
    }

    #[test]
    fn a_repeated_proposal_gets_its_first_answer() {
        let mut sessions = Sessions::default();
        sessions.open(ID, LogIndex(1));
        assert_eq!(sessions.admit(&tag(1, 1)), Ok(()));
        sessions.remember(&tag(1, 1), &answer());
        assert_eq!(sessions.admit(&tag(1, 1)), Err(answer()));
    }

    #[test]
    fn a_trimmed_sequence_is_refused_and_never_executed() {
        let mut sessions = Sessions::default();
        sessions.open(ID, LogIndex(1));
        sessions.remember(&tag(1, 1), &answer());
        assert_eq!(sessions.admit(&tag(2, 2)), Ok(()));
        assert_eq!(sessions.admit(&tag(1, 1)), Err(Reply::SequenceTrimmed));
    }

    #[test]
    fn a_new_process_of_the_same_master_ends_the_old_session() {
        let mut sessions = Sessions::default();
        sessions.open(ID, LogIndex(1));
        sessions.open(SessionId { node: 1, nonce: 8 }, LogIndex(2));
        assert_eq!(sessions.admit(&tag(1, 1)), Err(Reply::SessionUnknown));
    }

    #[test]
    fn a_session_at_its_limit_executes_nothing_more_until_answers_are_acknowledged() {
        let mut sessions = Sessions::default();
        sessions.open(ID, LogIndex(1));
        let full = SESSION_OUTCOMES_MAX as u64;
        for sequence in 1..=full {
            assert_eq!(sessions.admit(&tag(sequence, 1)), Ok(()));
            sessions.remember(&tag(sequence, 1), &answer());
        }
        assert_eq!(sessions.admit(&tag(full + 1, 1)), Err(Reply::SessionFull));
        assert_eq!(sessions.admit(&tag(full + 1, 2)), Ok(()));
    }

    #[test]
    fn the_oldest_session_makes_room() {
        let mut sessions = Sessions::default();
        for node in 0..=SESSIONS_MAX as u64 {
            sessions.open(SessionId { node, nonce: 1 }, LogIndex(node + 1));
        }
        assert_eq!(sessions.ids().count(), SESSIONS_MAX);
        assert!(sessions.ids().all(|id| id.node != 0));
    }
}
