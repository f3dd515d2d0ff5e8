//! Bytes that outlive a process: log entries, the log's state record, snapshot headers.
//!
//! Each value is `version (1) kind (1) bincode`. openraft's own types are never serialized: their
//! layout may change with its version, ours only with [`VERSION`]. The golden tests below hold the
//! bytes; a change that breaks them needs a new version that still reads the old one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::raft_types::{
    AppData, Entry, LeaderId, LogId, Membership, Payload, SnapshotMeta, StoredMembership, Vote,
};
use crate::types::{Member, NodeId};

/// Version of all layouts in this module.
pub(crate) const VERSION: u8 = 1;

/// What a value is, so that one cannot be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Entry = 1,
    State = 2,
    SnapshotHeader = 3,
    Identity = 4,
    Membership = 5,
}

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("empty or cut off")]
    Short,
    #[error("written by a newer version ({0}); this one knows {VERSION}")]
    Version(u8),
    #[error("of kind {found}, expected {expected}")]
    Kind { found: u8, expected: u8 },
    #[error("not decodable: {0}")]
    Malformed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskLogId {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) index: u64,
}

impl From<LogId> for DiskLogId {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id.0, index: id.index }
    }
}

impl From<DiskLogId> for LogId {
    fn from(id: DiskLogId) -> Self {
        crate::raft_types::log_id(id.term, NodeId(id.node), id.index)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskVote {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

impl From<Vote> for DiskVote {
    fn from(vote: Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: vote.leader_id.node_id.0,
            committed: vote.committed,
        }
    }
}

impl From<DiskVote> for Vote {
    fn from(vote: DiskVote) -> Self {
        Self {
            leader_id: LeaderId { term: vote.term, node_id: NodeId(vote.node) },
            committed: vote.committed,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskMembership {
    /// One set of voters, or two while a change is half done.
    pub(crate) configs: Vec<BTreeSet<u64>>,
    pub(crate) members: BTreeMap<u64, Member>,
}

impl From<&Membership> for DiskMembership {
    fn from(membership: &Membership) -> Self {
        let ids = |set: &BTreeSet<NodeId>| set.iter().map(|id| id.0).collect();
        Self {
            configs: membership.get_joint_config().iter().map(ids).collect(),
            members: membership.nodes().map(|(id, m)| (id.0, m.clone())).collect(),
        }
    }
}

impl DiskMembership {
    fn restore(self) -> Result<Membership, DecodeError> {
        let ids = |set: BTreeSet<u64>| set.into_iter().map(NodeId).collect();
        let configs: Vec<BTreeSet<NodeId>> = self.configs.into_iter().map(ids).collect();
        let members: BTreeMap<NodeId, Member> =
            self.members.into_iter().map(|(id, m)| (NodeId(id), m)).collect();
        if configs.is_empty() && members.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(configs, members).map_err(|error| DecodeError::Malformed(error.to_string()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum DiskPayload {
    Blank,
    /// The bytes follow the encoded entry, so that they are copied once.
    Normal,
    Membership(DiskMembership),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DiskEntry {
    log_id: DiskLogId,
    payload: DiskPayload,
}

/// The one record beside the entries. It is written in the same atomic batch as whatever it
/// describes, so a log that disagrees with it has been damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct DiskState {
    /// Counts the group commits.
    pub(crate) sequence: u64,
    pub(crate) vote: Option<DiskVote>,
    pub(crate) committed: Option<DiskLogId>,
    pub(crate) purged: Option<DiskLogId>,
    pub(crate) last: Option<DiskLogId>,
}

/// Whose log this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskIdentity {
    pub(crate) cluster_id: String,
    pub(crate) node_id: u64,
}

/// The head of a snapshot file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) cluster_id: String,
    pub(crate) last_log_id: Option<DiskLogId>,
    pub(crate) membership_log_id: Option<DiskLogId>,
    pub(crate) membership: DiskMembership,
    /// The state's own estimate, bytes.
    pub(crate) state_bytes: u64,
}

impl SnapshotHeader {
    pub(crate) fn meta(&self) -> Result<SnapshotMeta, DecodeError> {
        Ok(SnapshotMeta {
            last_log_id: self.last_log_id.map(Into::into),
            last_membership: StoredMembership::new(
                self.membership_log_id.map(Into::into),
                self.membership.clone().restore()?,
            ),
        })
    }
}

fn put<T: Serialize>(kind: Kind, value: &T, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(kind as u8);
    bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
        .expect("our own types encode, and a Vec takes every byte");
}

fn take<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    let [version, found, body @ ..] = bytes else { return Err(DecodeError::Short) };
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    if *found != kind as u8 {
        return Err(DecodeError::Kind { found: *found, expected: kind as u8 });
    }
    let (value, used) = bincode::serde::decode_from_slice(body, bincode::config::standard())
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    Ok((value, used + 2))
}

/// Encodes a value of one of the kinds above.
pub(crate) fn encode<T: Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put(kind, value, &mut out);
    out
}

/// Decodes a value; nothing may follow it.
pub(crate) fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = take(kind, bytes)?;
    if used != bytes.len() {
        return Err(DecodeError::Malformed(format!("{} bytes too many", bytes.len() - used)));
    }
    Ok(value)
}

pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let (payload, tail) = match &entry.payload {
        openraft::EntryPayload::Blank => (DiskPayload::Blank, None),
        openraft::EntryPayload::Normal(data) => (DiskPayload::Normal, Some(&data.0)),
        openraft::EntryPayload::Membership(m) => (DiskPayload::Membership(m.into()), None),
    };
    let mut out = Vec::with_capacity(48 + tail.map_or(0, Bytes::len));
    put(Kind::Entry, &DiskEntry { log_id: entry.log_id.into(), payload }, &mut out);
    if let Some(tail) = tail {
        out.extend_from_slice(tail);
    }
    out
}

pub(crate) fn decode_entry(bytes: Bytes) -> Result<Entry, DecodeError> {
    let (entry, used): (DiskEntry, usize) = take(Kind::Entry, &bytes)?;
    let rest = bytes.slice(used..);
    let payload: Payload = match entry.payload {
        DiskPayload::Normal => openraft::EntryPayload::Normal(AppData(rest)),
        DiskPayload::Blank | DiskPayload::Membership(_) if !rest.is_empty() => {
            return Err(DecodeError::Malformed(format!("{} bytes too many", rest.len())));
        }
        DiskPayload::Blank => openraft::EntryPayload::Blank,
        DiskPayload::Membership(m) => openraft::EntryPayload::Membership(m.restore()?),
    };
    Ok(Entry { log_id: entry.log_id.into(), payload })
}

pub(crate) fn encode_membership(membership: &Membership) -> Vec<u8> {
    encode(Kind::Membership, &DiskMembership::from(membership))
}

pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, DecodeError> {
    decode::<DiskMembership>(Kind::Membership, bytes)?.restore()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft_types::log_id;

    fn member(name: &str) -> Member {
        Member {
            name: name.to_owned(),
            peer_address: format!("{name}:6444"),
            api_address: format!("{name}:6443"),
        }
    }

    fn membership() -> Membership {
        let configs = vec![BTreeSet::from([NodeId(1)]), BTreeSet::from([NodeId(1), NodeId(300)])];
        let members = BTreeMap::from([(NodeId(1), member("a")), (NodeId(300), member("b"))]);
        Membership::new(configs, members).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn entry(payload: Payload) -> Entry {
        Entry { log_id: log_id(7, NodeId(300), 70_000), payload }
    }

    /// The bytes on disk. If this fails, old logs cannot be read any more: add a version.
    #[test]
    fn golden_bytes() {
        let normal = openraft::EntryPayload::Normal(AppData(Bytes::from_static(b"hello")));
        let cases = [
            (
                "blank",
                encode_entry(&entry(openraft::EntryPayload::Blank)),
                "010107fb2c01fc7011010000",
            ),
            ("normal", encode_entry(&entry(normal)), "010107fb2c01fc701101000168656c6c6f"),
            (
                "membership",
                encode_entry(&entry(openraft::EntryPayload::Membership(membership()))),
                "010107fb2c01fc70110100020201010201fb2c01020101610661\
                 3a3634343406613a36343433fb2c01016206623a3634343406623a36343433",
            ),
            (
                "state",
                encode(
                    Kind::State,
                    &DiskState {
                        sequence: 5,
                        vote: Some(DiskVote { term: 7, node: 300, committed: true }),
                        committed: None,
                        purged: Some(DiskLogId { term: 1, node: 1, index: 2 }),
                        last: Some(DiskLogId { term: 7, node: 300, index: 70_000 }),
                    },
                ),
                "0102050107fb2c01010001010102 0107fb2c01fc70110100",
            ),
            (
                "identity",
                encode(Kind::Identity, &DiskIdentity { cluster_id: "c".into(), node_id: 3 }),
                "0104016303",
            ),
        ];
        for (name, bytes, want) in cases {
            assert_eq!(hex(&bytes), want.replace(' ', ""), "{name}");
        }
    }

    #[test]
    fn entries_survive_the_round_trip() {
        let normal = openraft::EntryPayload::Normal(AppData(Bytes::from(vec![9; 200_000])));
        for payload in [
            openraft::EntryPayload::Blank,
            normal,
            openraft::EntryPayload::Membership(membership()),
        ] {
            let entry = entry(payload);
            assert_eq!(decode_entry(encode_entry(&entry).into()).unwrap(), entry);
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let blank = encode_entry(&entry(openraft::EntryPayload::Blank));
        let mut newer = blank.clone();
        newer[0] = 2;
        let mut longer = blank.clone();
        longer.push(0);
        assert_eq!(decode_entry(newer.into()), Err(DecodeError::Version(2)));
        assert!(matches!(decode_entry(longer.into()), Err(DecodeError::Malformed(_))));
        assert_eq!(decode_entry(Bytes::new()), Err(DecodeError::Short));
        assert!(matches!(
            decode::<DiskState>(Kind::State, &blank),
            Err(DecodeError::Kind { found: 1, expected: 2 })
        ));
        for cut in 0..blank.len() {
            assert!(decode_entry(Bytes::copy_from_slice(&blank[..cut])).is_err(), "cut at {cut}");
        }
    }
}
