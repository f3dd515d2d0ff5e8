//! The bytes of the log's format. A change here means that masters of two versions would read each
//! other's log differently: append variants, never reorder, never reuse.

use bytes::Bytes;
use quorate_state_machine::{
    ClusterLevel, Command, Entry, GroupResource, Header, Image, Key, Machine, Op, Outcome,
    Proposal, Reply, Revision, SessionId, SessionTag, codec, names::LogIndex,
};

fn image() -> Image {
    Image {
        header: Header {
            uid: "u".to_owned(),
            labels: vec![("k".to_owned(), "v".to_owned())],
            owners: vec!["o".to_owned()],
            finalizers: vec!["f".to_owned()],
            deletion: Some(-1),
            claims: vec!["c".to_owned()],
        },
        bytes: Bytes::from_static(br#"{"metadata":{}}"#),
        revision_offset: 13,
    }
}

fn all_commands() -> Entry {
    let key = Key::new("g", "r", "n", "a");
    let session = SessionId { node: 3, nonce: 300 };
    let tag = SessionTag { session, sequence: 2, first_unacked: 1 };
    let ops = vec![
        Op::Create { key: key.clone(), image: image(), namespace: Some("nu".to_owned()) },
        Op::Update { key: key.clone(), expect: Revision(1000), image: image() },
        Op::Delete { key, expect: Some(Revision(7)), uid: None },
    ];
    let plain = |command| Proposal { session: None, command };
    Entry {
        proposals: vec![
            Proposal { session: Some(tag), command: Command::Write(ops) },
            plain(Command::Txn(Vec::new())),
            plain(Command::Compact(vec![(GroupResource::new("", "r"), Revision(9))])),
            plain(Command::OpenSession(session)),
            plain(Command::CloseSessions(vec![session])),
            plain(Command::RaiseLevel(ClusterLevel(2))),
        ],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn log_entries_keep_their_bytes() {
    let bytes = codec::encode_entry(&all_commands()).unwrap();
    assert_eq!(hex(&bytes), include_str!("golden/entry.hex").trim());
    assert_eq!(codec::decode_entry(&bytes).unwrap(), all_commands());
}

#[test]
fn replies_keep_their_bytes() {
    let replies = vec![
        Reply::Decided(vec![
            Outcome::Done(Revision(1)),
            Outcome::AlreadyExists(Revision(2)),
            Outcome::NotFound,
            Outcome::Conflict(Revision(3)),
            Outcome::OtherUid("x".to_owned()),
            Outcome::NamespaceGone,
            Outcome::NamespaceTerminating,
            Outcome::ClaimTaken { claim: "c".to_owned(), holder: Key::new("", "r", "n", "a") },
            Outcome::TooLarge(4),
            Outcome::Aborted,
        ]),
        Reply::SessionUnknown,
        Reply::SequenceTrimmed,
        Reply::SessionFull,
    ];
    let bytes = codec::encode_replies(&replies).unwrap();
    assert_eq!(hex(&bytes), include_str!("golden/replies.hex").trim());
    assert_eq!(codec::decode_replies(&bytes).unwrap(), replies);
}

#[test]
fn snapshots_keep_their_bytes() {
    let mut machine = Machine::default();
    let key = Key::new("", "configmaps", "n", "a");
    let plain = |command| Proposal { session: None, command };
    let session = SessionId { node: 3, nonce: 300 };
    let entry = Entry {
        proposals: vec![
            plain(Command::OpenSession(session)),
            Proposal {
                session: Some(SessionTag { session, sequence: 1, first_unacked: 1 }),
                command: Command::Write(vec![
                    Op::Create { key: key.clone(), image: image(), namespace: None },
                    Op::Update { key, expect: Revision(1), image: image() },
                ]),
            },
        ],
    };
    machine.apply(LogIndex(5), Some(&codec::encode_entry(&entry).unwrap())).unwrap();
    let mut bytes = Vec::new();
    machine.write_snapshot(&mut bytes).unwrap();
    assert_eq!(hex(&bytes), include_str!("golden/snapshot.hex").trim());
}

#[test]
fn a_newer_encoding_is_named_as_such() {
    let error = codec::decode_entry(&[b'Q', 2, 0]).unwrap_err();
    assert_eq!(error.to_string(), "record of version 2, this master knows up to 1: upgrade it");
}
