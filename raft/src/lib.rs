//! Raft over opaque bytes: openraft with a log on sled, snapshot files, peer connections over
//! mutual TLS, membership, linearizable reads and leadership.
//!
//! It must never know what the bytes mean: `store` joins it with the state machine. All its work
//! runs on a runtime and threads of its own.
//!
//! Start reading at [`node`] (the handle), then `log` (what is on disk), [`snapshot`](machine)
//! and [`peer`]. Every bound is in [`limits`].
#![deny(clippy::wildcard_enum_match_arm)]

mod apply;
pub mod chance;
mod codec;
pub mod config;
pub mod error;
pub mod host;
pub mod limits;
mod log;
pub mod machine;
mod machine_store;
mod mark;
pub mod meters;
pub mod node;
pub mod offline;
pub mod peer;
mod raft_types;
mod snapshot;
mod space;
pub mod types;

pub use config::{Config, DiskRule, PeerTls, SnapshotRule, Timing};
pub use error::{
    CallError, Corruption, Fatal, HealError, MembershipError, ProposeError, ReadError, StartError,
    TransferError,
};
pub use machine::{LogEntry, RestoreError, SnapshotWriter, StateMachine};
pub use meters::Meters;
pub use node::heal::Scrubbed;
pub use node::leadership::{Leadership, LeadershipState};
pub use node::propose::Proposed;
pub use node::status::{DiskUse, MemberStatus, Role, Status};
pub use node::voters::{Go, Reform};
pub use node::{OPENER_THREAD, RaftNode, Silence, WeakRaftNode};
pub use peer::client::Route;
pub use peer::{Handler, NoCalls, Refused};
pub use types::{FIRST_NODE_ID, LogIndex, Member, NodeId, Term};
