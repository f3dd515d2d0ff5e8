//! Alarms: what is wrong with a master that somebody has to repair. Each master knows its own; the leader asks the
//! others.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::PoisonError;

use bytes::Bytes;
use quorate_raft::{DiskUse, Meters, NodeId, RaftNode, Status};

use crate::consensus::PublishedViews;
use crate::limits::ALARMS_TIMEOUT;
use crate::masters::Masters;
use crate::replicated::forward::method;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// The disk is nearly full: while this master leads, only what frees space is taken.
    NoSpace,
    /// The store is as large as it may become: while this master leads, only what frees space is taken.
    Quota,
    /// The disk of the log is too slow to lead with.
    SlowDisk,
    /// The state or a file of this master is not what was decided, or the masters differ.
    Corrupt,
    /// A virtual address cannot be held as it is set.
    Vip,
}

impl Alarm {
    /// All that there are.
    pub const ALL: [Self; 5] =
        [Self::NoSpace, Self::Quota, Self::SlowDisk, Self::Corrupt, Self::Vip];

    /// As people and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Quota => "QUOTA",
            Self::SlowDisk => "SLOWDISK",
            Self::Corrupt => "CORRUPT",
            Self::Vip => "VIP",
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
            Self::Quota => {
                "the store is as large as --quota-backend-bytes allows; while this master leads, only deletes are taken. \
                 Delete what is not needed, or raise the quota of all masters"
            }
            Self::SlowDisk => {
                "its disk takes too long to sync; leadership goes to a master with a faster one. See what else writes to \
                 the disk of its data directory, or replace it"
            }
            Self::Corrupt => {
                "its memory, its disk, or its program changed what was decided; it takes the right state from another \
                 master. If it comes again, replace the machine; if no majority is right, its log says who differs"
            }
            Self::Vip => {
                "a virtual address (--vip) is used by another host, cannot be set or heard of, or is not the same on all \
                 masters: its log says which"
            }
        }
    }

    /// Whether a leader that has it hands over to a master without it. `QUOTA` is no better elsewhere, and a damaged
    /// leader goes before it is healed, without being asked.
    #[must_use]
    pub fn unfit_to_lead(self) -> bool {
        match self {
            Self::NoSpace | Self::SlowDisk => true,
            Self::Quota | Self::Corrupt | Self::Vip => false,
        }
    }

    /// Those that a status shows, and what this master says of its state and its virtual addresses.
    fn of(status: &Status, published: &PublishedViews) -> BTreeSet<Self> {
        let damaged = !published.integrity.all().is_empty();
        let vips = published.vips.lock().unwrap_or_else(PoisonError::into_inner);
        let raised = [
            status.disk_low.then_some(Self::NoSpace),
            status.over_quota.then_some(Self::Quota),
            status.disk_slow.then_some(Self::SlowDisk),
            damaged.then_some(Self::Corrupt),
            (!vips.troubles.is_empty()).then_some(Self::Vip),
        ];
        raised.into_iter().flatten().collect()
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Masters {
    /// This master's alarms.
    #[must_use]
    pub fn alarms(&self) -> BTreeSet<Alarm> {
        own(&self.raft, &self.published)
    }

    /// The alarms of a master; `None` when it does not answer.
    pub async fn alarms_of(&self, node: NodeId) -> Option<BTreeSet<Alarm>> {
        of(&self.raft, &self.published, node).await
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

fn own(raft: &RaftNode, published: &PublishedViews) -> BTreeSet<Alarm> {
    Alarm::of(&raft.status(), published)
}

/// Those of a master; `None` when it does not answer.
pub(crate) async fn of(
    raft: &RaftNode,
    published: &PublishedViews,
    node: NodeId,
) -> Option<BTreeSet<Alarm>> {
    if node == raft.id() {
        return Some(own(raft, published));
    }
    let reply = raft.call(node, method::ALARMS, Bytes::new(), ALARMS_TIMEOUT).await.ok()?;
    read(&reply)
}

/// This master's, for another one: the names.
pub(crate) fn serve(raft: &RaftNode, published: &PublishedViews) -> Bytes {
    let names: Vec<&str> = own(raft, published).into_iter().map(Alarm::name).collect();
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
