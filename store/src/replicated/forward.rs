//! The calls between masters that the store needs: a proposal on its way to the leader.

use bincode::{Decode, Encode};
use bytes::Bytes;
use quorate_points::{self as points, Point};
use quorate_raft::{ProposeError, RaftNode};
use quorate_state_machine::codec;

use crate::limits::FORWARD_TIMEOUT;

/// Numbers of the calls between masters. Part of the wire: append, never reuse.
pub(crate) mod method {
    /// A log entry to propose; answered with [`super::Answer`].
    pub(crate) const PROPOSE: u32 = 1;
    /// A master that wants to join, to the leader.
    pub(crate) const JOIN: u32 = 2;
    /// Heartbeats of nodes, to the leader.
    pub(crate) const HEARTBEATS: u32 = 3;
    /// As `PROPOSE`, of what frees space in the end: also when the disk is nearly full.
    pub(crate) const PROPOSE_FREEING: u32 = 4;
    /// Where the calling master is now, to the leader.
    pub(crate) const MOVED: u32 = 5;
    /// A [`crate::masters::Change`] of the masters, to the leader.
    pub(crate) const CHANGE: u32 = 6;
    /// Whether the called master gets through to somewhere.
    pub(crate) const REACH: u32 = 7;
    /// Which [`crate::Alarm`]s the asked master has.
    pub(crate) const ALARMS: u32 = 8;
    /// What the state of the asked master was at which index.
    pub(crate) const HASHES: u32 = 9;
    /// The leader says that the state of the called master is not that of most; with words.
    pub(crate) const DIFFERS: u32 = 10;
    /// What the asked master says of itself: [`crate::masters::About`].
    pub(crate) const ABOUT: u32 = 11;
    /// About certificates and keys of the asked master.
    pub(crate) const CERTIFICATES: u32 = 12;
}

/// What became of a forwarded proposal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Answer {
    /// Applied: the encoded replies.
    Applied(Vec<u8>),
    /// Certainly not proposed: the asked master does not lead.
    NotLeader,
    /// Certainly not proposed: too much waits.
    Overloaded,
    /// Certainly not proposed: the disk is nearly full.
    NoSpace(String),
    /// Proposed perhaps.
    Unknown,
}

/// The leader's side: proposes what another master forwarded.
pub(crate) async fn serve(raft: &RaftNode, freeing: bool, body: Bytes) -> Result<Bytes, String> {
    let proposed = if freeing {
        raft.propose_reserved(body, FORWARD_TIMEOUT).await
    } else {
        raft.propose(body, FORWARD_TIMEOUT).await
    };
    let answer = match proposed {
        Ok(proposed) => Answer::Applied(proposed.reply.to_vec()),
        Err(ProposeError::NotLeader { .. }) => Answer::NotLeader,
        Err(ProposeError::Overloaded) => Answer::Overloaded,
        Err(error @ (ProposeError::DiskFull { .. } | ProposeError::OverQuota { .. })) => {
            Answer::NoSpace(error.to_string())
        }
        Err(error @ ProposeError::TooLarge { .. }) => return Err(error.to_string()),
        Err(ProposeError::Unknown { .. } | ProposeError::Fatal(_)) => Answer::Unknown,
    };
    points::pass(Point::ForwardBeforeAnswer);
    codec::encode(&answer).map(Bytes::from).map_err(|error| error.to_string())
}

/// The other side: reads the leader's answer.
pub(crate) fn read(body: &[u8]) -> Answer {
    // A leader of a newer version may answer in a way that this one does not know.
    codec::decode(body).unwrap_or(Answer::Unknown)
}
