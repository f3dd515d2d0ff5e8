//! Masters among themselves: mutually authenticated connections bound to cluster and node, Raft's
//! own messages, snapshots, and opaque calls for the store.
//!
//! `link` is the way between two of them; `tls` decides who may talk; `client` keeps the connections that this
//! master opened; `network` is openraft's side of it; `server` answers; `incoming` takes snapshots; `state` gives
//! one to who asks; `wire` converts messages.

pub(crate) mod client;
pub(crate) mod incoming;
pub(crate) mod link;
pub(crate) mod network;
pub(crate) mod past;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod state;
pub(crate) mod tls;
pub(crate) mod wire;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::types::NodeId;

/// The DNS name that each master's peer certificate must carry: TLS checks it, addresses may
/// change. Who it really is says the URI.
pub const PEER_DNS_NAME: &str = "master.quorate.internal";

/// The URI that a master's peer certificate must carry as a subject alternative name.
#[must_use]
pub fn identity_uri(cluster_id: &str, node_id: NodeId) -> String {
    format!("quorate://{cluster_id}/master/{node_id}")
}

/// Why a call was refused; its text travels to the caller (`CallError::Refused`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Answers calls that other masters made with `RaftNode::call`.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// One call. `from` is the caller as its certificate says. After `deadline` the caller has
    /// gone; the future is dropped then.
    async fn call(
        &self,
        from: NodeId,
        method: u32,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, Refused>;
}

/// Refuses every call: for nodes that serve none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCalls;

#[async_trait]
impl Handler for NoCalls {
    async fn call(&self, _: NodeId, method: u32, _: Bytes, _: Duration) -> Result<Bytes, Refused> {
        Err(Refused(format!("method {method} is not served")))
    }
}
