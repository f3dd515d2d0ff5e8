//! What a node is started with.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::host::Host;
use crate::limits;
use crate::types::{Member, NodeId};

/// Everything `RaftNode::start` needs. Made by the binary, which read it from flags and files.
#[derive(Debug)]
pub struct Config {
    /// The data directory; `raft/` and `snapshots/` below it belong to this crate.
    pub data_dir: PathBuf,
    /// Names the cluster: part of certificates, snapshots and the log's identity.
    pub cluster_id: String,
    /// This master's number.
    pub node_id: NodeId,
    /// This master as the others shall know it.
    pub member: Member,
    /// The bound peer listener (bound by the caller, so that a port in use is its clear error).
    pub listener: TcpListener,
    /// Keys and certificates of the peer connections.
    pub tls: PeerTls,
    /// Raft's clock.
    pub timing: Timing,
    /// When to take snapshots.
    pub snapshots: SnapshotRule,
    /// Free space kept for deletes and compaction.
    pub disk: DiskRule,
    /// What it runs on: [`crate::host::Machine`], but in simulations.
    pub host: Arc<dyn Host>,
}

/// PEM material of the peer connections. `Debug` shows no key.
#[derive(Clone)]
pub struct PeerTls {
    /// Certificates of the CA(s) that sign masters' certificates; nothing else is trusted.
    pub ca_pem: String,
    /// This master's chain. Its first certificate must carry the URI of
    /// [`crate::peer::identity_uri`] and the DNS name [`crate::peer::PEER_DNS_NAME`], and be good
    /// for client and server authentication.
    pub certificate_pem: String,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key_pem: String,
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTls").finish_non_exhaustive()
    }
}

/// Raft's clock. An election starts after `election_max` without the leader (its lease) plus a
/// random part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Shortest random wait before an election.
    pub election_min: Duration,
    /// Longest random wait, and the leader's lease.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(75),
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(400),
        }
    }
}

/// A snapshot is taken when the log exceeds the larger of `log_bytes_min` and the state's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRule {
    /// Smallest log that is worth a snapshot, bytes.
    pub log_bytes_min: u64,
    /// Whether the state's size counts (tests switch it off to have many small snapshots).
    pub follow_state_size: bool,
}

impl Default for SnapshotRule {
    fn default() -> Self {
        Self { log_bytes_min: limits::SNAPSHOT_LOG_BYTES_MIN, follow_state_size: true }
    }
}

/// Free space that growing writes must leave. `Default` has no watermark and no ballast: masters are
/// run with [`DiskRule::of_masters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskRule {
    /// `propose` answers `DiskFull` when fewer bytes are free; `propose_reserved` still works down to
    /// `limits::DISK_FLOOR_BYTES`, which also holds when this is 0.
    pub free_bytes_min: u64,
    /// Size of the preallocated file `raft/ballast`; 0 for none. It is given back by itself when the
    /// disk is nearly full, and taken again when there is plenty.
    pub ballast_bytes: u64,
    /// `propose` answers `OverQuota` when the state takes as many bytes; 0 for no quota. `propose_reserved` still
    /// works.
    pub state_bytes_max: u64,
}

impl DiskRule {
    /// What masters are run with.
    #[must_use]
    pub fn of_masters() -> Self {
        Self {
            free_bytes_min: limits::DISK_FREE_BYTES_MIN,
            ballast_bytes: limits::BALLAST_BYTES,
            state_bytes_max: limits::STATE_BYTES_MAX,
        }
    }
}
