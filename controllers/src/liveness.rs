//! What the controllers know of heartbeats: they stay in the masters' memory (design, section 7),
//! so whoever receives them tells.

use std::time::Duration;

/// Tells how long ago a node was last heard of, by any master.
pub trait NodeLiveness: Send + Sync + 'static {
    /// Time since the node's last heartbeat; `None` when none was heard since this leadership
    /// began. Must not block.
    fn silent_for(&self, node: &str) -> Option<Duration>;
}

/// No heartbeats but those in the store: leases in `kube-node-lease` and the nodes' own status.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoredHeartbeats;

impl NodeLiveness for StoredHeartbeats {
    fn silent_for(&self, _node: &str) -> Option<Duration> {
        None
    }
}
