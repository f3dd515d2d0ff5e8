//! Alarms: what is wrong with a master that somebody has to repair. Each master knows its own; the leader asks the
//! others.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use quorate_raft::{DiskUse, Meters, NodeId, RaftNode, Status};

use crate::limits::ALARMS_TIMEOUT;
use crate::masters::Masters;
use crate::replicated::forward::method;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// The disk is nearly full: while this master leads, only what frees space is taken.
    NoSpace,
}

impl Alarm {
    /// All that there are.
    pub const ALL: [Self; 1] = [Self::NoSpace];

    /// As people and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
        }
    }

    /// What it means, and what to do.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoSpace => {
                "its disk is nearly full; while it leads, only deletes are taken. Free space on the disk of its data \
                 directory"
            }
        }
    }

    /// Those that a status shows.
    #[must_use]
    pub fn of(status: &Status) -> BTreeSet<Self> {
        status.disk_low.then_some(Self::NoSpace).into_iter().collect()
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Masters {
    /// The alarms of a master; `None` when it does not answer.
    pub async fn alarms_of(&self, node: NodeId) -> Option<BTreeSet<Alarm>> {
        if node == self.id() {
            return Some(Alarm::of(&self.status()));
        }
        let reply =
            self.raft.call(node, method::ALARMS, Bytes::new(), ALARMS_TIMEOUT).await.ok()?;
        read(&reply)
    }

    /// What this master's Raft has counted since its start.
    #[must_use]
    pub fn meters(&self) -> Meters {
        self.raft.meters()
    }

    /// What its files take now. Looks at each of them.
    #[must_use]
    pub fn disk_use(&self) -> DiskUse {
        self.raft.disk_use()
    }
}

/// This master's, for another one: the names.
pub(crate) fn serve(raft: &RaftNode) -> Bytes {
    let names: Vec<&str> = Alarm::of(&raft.status()).into_iter().map(Alarm::name).collect();
    // Words always encode.
    serde_json::to_vec(&names).unwrap_or_default().into()
}

/// A newer master may have alarms that this one does not know.
fn read(reply: &[u8]) -> Option<BTreeSet<Alarm>> {
    let names: Vec<String> = serde_json::from_slice(reply).ok()?;
    let known = |name: &String| Alarm::ALL.into_iter().find(|alarm| alarm.name() == name);
    Some(names.iter().filter_map(known).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_of_a_newer_master_are_passed_over() {
        assert_eq!(read(br#"["NEWER","NOSPACE"]"#), Some(BTreeSet::from([Alarm::NoSpace])));
        assert_eq!(read(b"[]"), Some(BTreeSet::new()));
        assert_eq!(read(b""), None);
    }
}
