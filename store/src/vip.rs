//! The virtual addresses that a master has while it leads: what it says of them, to other masters and to people. Taking
//! and leaving them is the binary's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use crate::masters::Masters;

/// What one master says of its virtual addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vips {
    /// Those that it would hold as the leader, as they are set.
    pub set: BTreeSet<IpAddr>,
    /// Those that it holds.
    pub held: BTreeSet<IpAddr>,
    /// Hardware addresses under which it may answer for them.
    pub links: BTreeSet<[u8; 6]>,
    /// How often it has taken one since it started.
    #[serde(skip)]
    pub taken: u64,
    /// What is wrong, by what it is wrong with.
    #[serde(skip)]
    pub troubles: BTreeMap<String, String>,
}

impl Masters {
    /// What this master says of its virtual addresses.
    #[must_use]
    pub fn vips(&self) -> Vips {
        self.published.vips.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what it says.
    pub fn note_vips(&self, change: impl FnOnce(&mut Vips)) {
        change(&mut self.published.vips.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether this master leads with everything before applied, and nobody else can unless this one is asked to let
    /// them: see [`quorate_raft::RaftNode::holds_lease`].
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        let leads =
            matches!(*self.raft.leadership().borrow(), quorate_raft::LeadershipState::Leader(_));
        leads && self.raft.holds_lease()
    }
}
