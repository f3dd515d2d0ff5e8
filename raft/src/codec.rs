//! Bytes that outlive a process: log entries, the log's state record, snapshot headers.
//!
//! Each value is `version (1) kind (1) bincode`. openraft's own types are never serialized: their
//! layout may change with its version, ours only with [`VERSION`]. The golden tests below hold the
//! bytes; a change that breaks them needs a new version that still reads the old one. A value is written in the
//! oldest version that can say it, so that masters of several versions understand each other for as long as
//! nobody uses what is new.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::raft_types::{
    AppData, Entry, LeaderId, LogId, Membership, Payload, SnapshotMeta, StoredMembership, Vote,
};
use crate::types::{Member, NodeId};

/// Version of all layouts in this module...
pub(crate) const VERSION: u8 = 1;
/// ... but that of what holds members of which one is a standby, which version 1 cannot say.
pub(crate) const VERSION_STANDBYS: u8 = 2;

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
    #[error("written by a newer version ({0}); this one knows {VERSION_STANDBYS}")]
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

/// A member as version 1 knows it: none of them is a standby.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PlainMember {
    name: String,
    peer_address: String,
    api_address: String,
}

impl From<Member> for PlainMember {
    fn from(member: Member) -> Self {
        let Member { name, peer_address, api_address, standby: _ } = member;
        Self { name, peer_address, api_address }
    }
}

impl From<PlainMember> for Member {
    fn from(member: PlainMember) -> Self {
        let PlainMember { name, peer_address, api_address } = member;
        Self { name, peer_address, api_address, standby: false }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskMembership<M = Member> {
    /// One set of voters, or two while a change is half done.
    pub(crate) configs: Vec<BTreeSet<u64>>,
    pub(crate) members: BTreeMap<u64, M>,
}

impl<M> DiskMembership<M> {
    fn with<N: From<M>>(self) -> DiskMembership<N> {
        let members = self.members.into_iter().map(|(id, member)| (id, member.into())).collect();
        DiskMembership { configs: self.configs, members }
    }
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
    fn has_standbys(&self) -> bool {
        self.members.values().any(|member| member.standby)
    }

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
enum DiskPayload<M = Member> {
    Blank,
    /// The bytes follow the encoded entry, so that they are copied once.
    Normal,
    Membership(DiskMembership<M>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DiskEntry<M = Member> {
    log_id: DiskLogId,
    payload: DiskPayload<M>,
}

impl<M> DiskEntry<M> {
    fn with<N: From<M>>(self) -> DiskEntry<N> {
        let payload = match self.payload {
            DiskPayload::Blank => DiskPayload::Blank,
            DiskPayload::Normal => DiskPayload::Normal,
            DiskPayload::Membership(membership) => DiskPayload::Membership(membership.with()),
        };
        DiskEntry { log_id: self.log_id, payload }
    }
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
pub(crate) struct SnapshotHeader<M = Member> {
    pub(crate) cluster_id: String,
    pub(crate) last_log_id: Option<DiskLogId>,
    pub(crate) membership_log_id: Option<DiskLogId>,
    pub(crate) membership: DiskMembership<M>,
    /// The state's own estimate, bytes.
    pub(crate) state_bytes: u64,
}

impl<M> SnapshotHeader<M> {
    fn with<N: From<M>>(self) -> SnapshotHeader<N> {
        SnapshotHeader {
            cluster_id: self.cluster_id,
            last_log_id: self.last_log_id,
            membership_log_id: self.membership_log_id,
            membership: self.membership.with(),
            state_bytes: self.state_bytes,
        }
    }
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

fn put<T: Serialize>((kind, version): (Kind, u8), value: &T, out: &mut Vec<u8>) {
    out.push(version);
    out.push(kind as u8);
    bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
        .expect("our own types encode, and a Vec takes every byte");
}

/// The version of a value, which is at most `newest`, and what follows.
fn open(kind: Kind, newest: u8, bytes: &[u8]) -> Result<(u8, &[u8]), DecodeError> {
    let [version, found, body @ ..] = bytes else { return Err(DecodeError::Short) };
    if *version == 0 || *version > newest {
        return Err(DecodeError::Version(*version));
    }
    if *found != kind as u8 {
        return Err(DecodeError::Kind { found: *found, expected: kind as u8 });
    }
    Ok((*version, body))
}

fn take<T: DeserializeOwned>(body: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::serde::decode_from_slice(body, bincode::config::standard())
        .map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// As `take`; nothing may follow.
fn take_all<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = take(body)?;
    if used != body.len() {
        return Err(DecodeError::Malformed(format!("{} bytes too many", body.len() - used)));
    }
    Ok(value)
}

fn encode_as<T: Serialize>(what: (Kind, u8), value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put(what, value, &mut out);
    out
}

/// Encodes a value of one of the kinds above that have no function of their own.
pub(crate) fn encode<T: Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    encode_as((kind, VERSION), value)
}

/// Decodes a value; nothing may follow it.
pub(crate) fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, DecodeError> {
    take_all(open(kind, VERSION, bytes)?.1)
}

pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let (payload, tail) = match &entry.payload {
        openraft::EntryPayload::Blank => (DiskPayload::Blank, None),
        openraft::EntryPayload::Normal(data) => (DiskPayload::Normal, Some(&data.0)),
        openraft::EntryPayload::Membership(m) => (DiskPayload::Membership(m.into()), None),
    };
    let mut out = Vec::with_capacity(48 + tail.map_or(0, Bytes::len));
    let has_standbys = matches!(&payload, DiskPayload::Membership(m) if m.has_standbys());
    let entry: DiskEntry = DiskEntry { log_id: entry.log_id.into(), payload };
    if has_standbys {
        put((Kind::Entry, VERSION_STANDBYS), &entry, &mut out);
    } else {
        put((Kind::Entry, VERSION), &entry.with::<PlainMember>(), &mut out);
    }
    if let Some(tail) = tail {
        out.extend_from_slice(tail);
    }
    out
}

pub(crate) fn decode_entry(bytes: Bytes) -> Result<Entry, DecodeError> {
    let (version, body) = open(Kind::Entry, VERSION_STANDBYS, &bytes)?;
    let (entry, used): (DiskEntry, usize) = if version == VERSION {
        let (entry, used): (DiskEntry<PlainMember>, usize) = take(body)?;
        (entry.with(), used)
    } else {
        take(body)?
    };
    let rest = bytes.slice(bytes.len() - body.len() + used..);
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
    let membership = DiskMembership::from(membership);
    if membership.has_standbys() {
        encode_as((Kind::Membership, VERSION_STANDBYS), &membership)
    } else {
        encode(Kind::Membership, &membership.with::<PlainMember>())
    }
}

pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, DecodeError> {
    let (version, body) = open(Kind::Membership, VERSION_STANDBYS, bytes)?;
    let membership: DiskMembership = if version == VERSION {
        take_all::<DiskMembership<PlainMember>>(body)?.with()
    } else {
        take_all(body)?
    };
    membership.restore()
}

pub(crate) fn encode_header(header: &SnapshotHeader) -> Vec<u8> {
    if header.membership.has_standbys() {
        encode_as((Kind::SnapshotHeader, VERSION_STANDBYS), header)
    } else {
        encode(Kind::SnapshotHeader, &header.clone().with::<PlainMember>())
    }
}

pub(crate) fn decode_header(bytes: &[u8]) -> Result<SnapshotHeader, DecodeError> {
    let (version, body) = open(Kind::SnapshotHeader, VERSION_STANDBYS, bytes)?;
    if version == VERSION {
        Ok(take_all::<SnapshotHeader<PlainMember>>(body)?.with())
    } else {
        take_all(body)
    }
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
            standby: false,
        }
    }

    fn membership() -> Membership {
        let configs = vec![BTreeSet::from([NodeId(1)]), BTreeSet::from([NodeId(1), NodeId(300)])];
        let members = BTreeMap::from([(NodeId(1), member("a")), (NodeId(300), member("b"))]);
        Membership::new(configs, members).unwrap()
    }

    fn with_standby() -> Membership {
        let standby = Member { standby: true, ..member("b") };
        let members = BTreeMap::from([(NodeId(1), member("a")), (NodeId(300), standby)]);
        Membership::new(vec![BTreeSet::from([NodeId(1)])], members).unwrap()
    }

    fn header(membership: &Membership) -> SnapshotHeader {
        SnapshotHeader {
            cluster_id: "c".to_owned(),
            last_log_id: Some(DiskLogId { term: 7, node: 300, index: 70_000 }),
            membership_log_id: Some(DiskLogId { term: 1, node: 1, index: 2 }),
            membership: membership.into(),
            state_bytes: 9,
        }
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
                "membership with a standby",
                encode_entry(&entry(openraft::EntryPayload::Membership(with_standby()))),
                "020107fb2c01fc70110100020101010201016106613a3634343406613a36\
                 34343300fb2c01016206623a3634343406623a3634343301",
            ),
            (
                "members with a standby",
                encode_membership(&with_standby()),
                "02050101010201016106613a3634343406613a3634343300fb2c01016206\
                 623a3634343406623a3634343301",
            ),
            (
                "members",
                encode_membership(&membership()),
                "01050201010201fb2c010201016106613a3634343406613a36343433fb2c\
                 01016206623a3634343406623a36343433",
            ),
            (
                "header",
                encode_header(&header(&membership())),
                "010301630107fb2c01fc70110100010101020201010201fb2c0102010161\
                 06613a3634343406613a36343433fb2c01016206623a3634343406623a3634343309",
            ),
            (
                "header with a standby",
                encode_header(&header(&with_standby())),
                "020301630107fb2c01fc70110100010101020101010201016106613a3634\
                 343406613a3634343300fb2c01016206623a3634343406623a363434330109",
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
            openraft::EntryPayload::Membership(with_standby()),
        ] {
            let entry = entry(payload);
            assert_eq!(decode_entry(encode_entry(&entry).into()).unwrap(), entry);
        }
        for membership in [membership(), with_standby()] {
            assert_eq!(decode_membership(&encode_membership(&membership)).unwrap(), membership);
            let header = header(&membership);
            assert_eq!(decode_header(&encode_header(&header)).unwrap(), header);
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let blank = encode_entry(&entry(openraft::EntryPayload::Blank));
        let mut newer = blank.clone();
        newer[0] = 3;
        let mut longer = blank.clone();
        longer.push(0);
        assert_eq!(decode_entry(newer.into()), Err(DecodeError::Version(3)));
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
