//! The types this crate runs openraft with, and conversions to our own.

use std::fmt;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::raft::responder::Responder;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::types::{LogIndex, Member, NodeId, Term};

/// openraft's configuration by types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

/// What is proposed: bytes this crate does not look into.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppData(#[serde(with = "as_bytes")] pub(crate) Bytes);

impl fmt::Debug for AppData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for AppData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The machine's answer to one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply(#[serde(with = "as_bytes")] pub(crate) Bytes);

/// openraft's types ask for serde; what goes to disk or wire never passes through here.
mod as_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        Vec::deserialize(from).map(Bytes::from)
    }
}

/// Carries the outcome of a proposal to its waiter, who may have gone away meanwhile.
pub(crate) struct Answer<T>(pub(crate) oneshot::Sender<T>);

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Answer<T> {
    fn on_complete(self, result: T) {
        // A waiter past its deadline is gone; the outcome is then nobody's.
        drop(self.0.send(result));
    }
}

pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, NodeId>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<AppData, NodeId, Member>;
pub(crate) type Entry = openraft::Entry<LeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<NodeId, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, NodeId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, NodeId, Member>;
pub(crate) type OpenraftFatal = openraft::errors::Fatal<TypeConfig>;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = AppData;
    type R = Reply;
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = crate::chance::Runtime;
    type Responder<T>
        = Answer<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) fn log_id(term: u64, node: NodeId, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: node }, index }
}

pub(crate) fn index_of(id: Option<LogId>) -> Option<LogIndex> {
    id.map(|id| LogIndex(id.index))
}

pub(crate) fn term_of(id: &LogId) -> Term {
    Term(id.leader_id.term)
}

/// About how much memory and disk an entry takes.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    const OVERHEAD: usize = 96;
    OVERHEAD
        + match &entry.payload {
            openraft::EntryPayload::Blank => 0,
            openraft::EntryPayload::Normal(data) => data.0.len(),
            openraft::EntryPayload::Membership(membership) => 128 * membership.nodes().count(),
        }
}
