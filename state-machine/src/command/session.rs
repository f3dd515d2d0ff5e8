//! `OpenSession`, `CloseSessions`: the life of a proposer's session.
//!
//! Opening ends the earlier sessions of the same node: that process is gone, and what it may still
//! have on the way must not be executed any more. Changes: none.

use super::Reply;
use crate::session::{SessionId, Sessions};
use crate::view::View;

pub(super) fn open(view: &View, sessions: &mut Sessions, id: SessionId) -> Reply {
    sessions.open(id, view.index());
    Reply::Decided(Vec::new())
}

pub(super) fn close(sessions: &mut Sessions, ids: &[SessionId]) -> Reply {
    for id in ids {
        sessions.close(*id);
    }
    Reply::Decided(Vec::new())
}
