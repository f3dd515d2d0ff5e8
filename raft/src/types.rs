//! The few numbers everything here is about, each with its own type, and what describes a master.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// A master's number in its cluster. Never reused: the first master is [`FIRST_NODE_ID`], all
    /// others get the index of a log entry when they join.
    NodeId
);
number!(
    /// Raft's term: at most one leader each.
    Term
);
number!(
    /// A position in the replicated log. The first entry (the first membership) has index 0.
    LogIndex
);

/// The number of the master that starts a cluster. Index 1 is the blank entry of the first leader,
/// so no joiner can be given this number.
pub const FIRST_NODE_ID: NodeId = NodeId(1);

/// A master as the others know it; part of the replicated membership.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// Unique in the cluster.
    pub name: String,
    /// `host:port` of the peer listener, as the other masters reach it.
    pub peer_address: String,
    /// `host:port` of the API listener, as clients reach it.
    pub api_address: String,
    /// It gets the log and does not vote, on purpose: only who is told to makes it a voter.
    #[serde(default)]
    pub standby: bool,
}

impl Member {
    /// Whether it is the same master in the same place, whatever it is to do there.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let of = |member: &Self| {
            (member.name.clone(), member.peer_address.clone(), member.api_address.clone())
        };
        of(self) == of(other)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.peer_address)
    }
}
