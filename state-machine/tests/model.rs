//! The machine against a model that is too simple to be wrong: a map of all versions ever, and a
//! list of everything that happened. Random commands; the two must agree on every answer, every
//! past state and every change; a replay, and a snapshot with the tail of the log, must come to the
//! same bytes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use quorate_state_machine::{
    ChangeKind, ClusterLevel, Command, Entry, GroupResource, Header, Image, Key, LogIndex, Machine,
    Op, Outcome, Proposal, Reply, Revision, SessionId, SessionTag, View, codec, hash,
};

// === the model ===

#[derive(Clone, Debug, PartialEq)]
struct Version {
    revision: u64,
    image: Image,
}

#[derive(Clone, Debug, Default)]
struct Model {
    revision: u64,
    objects: BTreeMap<Key, Version>,
    /// (revision, kind, key, the objects of all resources after it)
    past: Vec<(u64, ChangeKind, Key, BTreeMap<Key, Version>)>,
    compacted: BTreeMap<GroupResource, u64>,
    sessions: BTreeMap<SessionId, (u64, BTreeMap<u64, Reply>)>,
}

impl Model {
    fn proposal(&mut self, proposal: &Proposal) -> Reply {
        let Some(tag) = proposal.session else {
            return self.command(&proposal.command);
        };
        let Some((first_unacked, answers)) = self.sessions.get_mut(&tag.session) else {
            return Reply::SessionUnknown;
        };
        *first_unacked = tag.first_unacked.max(*first_unacked);
        let first_unacked = *first_unacked;
        answers.retain(|sequence, _| *sequence >= first_unacked);
        if let Some(answer) = answers.get(&tag.sequence) {
            return answer.clone();
        }
        if tag.sequence < first_unacked {
            return Reply::SequenceTrimmed;
        }
        let reply = self.command(&proposal.command);
        if let Some((_, answers)) = self.sessions.get_mut(&tag.session) {
            answers.insert(tag.sequence, reply.clone());
        }
        reply
    }

    fn command(&mut self, command: &Command) -> Reply {
        match command {
            Command::Write(ops) => Reply::Decided(ops.iter().map(|op| self.op(op)).collect()),
            Command::Txn(ops) => {
                let before = self.clone();
                let mut outcomes = Vec::new();
                for (position, op) in ops.iter().enumerate() {
                    let outcome = self.op(op);
                    if outcome.done().is_none() {
                        *self = before;
                        let mut aborted = vec![Outcome::Aborted; ops.len()];
                        aborted[position] = outcome;
                        return Reply::Decided(aborted);
                    }
                    outcomes.push(outcome);
                }
                Reply::Decided(outcomes)
            }
            Command::Compact(bounds) => {
                for (resource, bound) in bounds {
                    if self.past.iter().any(|(_, _, key, _)| key.resource == *resource) {
                        let bound = bound.0.min(self.revision);
                        let compacted = self.compacted.entry(resource.clone()).or_default();
                        *compacted = bound.max(*compacted);
                    }
                }
                Reply::Decided(Vec::new())
            }
            Command::OpenSession(id) => {
                self.sessions.retain(|other, _| other.node != id.node || other == id);
                self.sessions.entry(*id).or_default();
                Reply::Decided(Vec::new())
            }
            Command::CloseSessions(ids) => {
                ids.iter().for_each(|id| drop(self.sessions.remove(id)));
                Reply::Decided(Vec::new())
            }
            Command::RaiseLevel(_) => Reply::Decided(Vec::new()),
        }
    }

    fn op(&mut self, op: &Op) -> Outcome {
        let key = op.key().clone();
        let current = self.objects.get(&key).cloned();
        match op {
            Op::Create { image, namespace, .. } => {
                if let Some(uid) = namespace {
                    match self.objects.get(&Key::new("", "namespaces", "", &key.object.namespace)) {
                        Some(found) if found.image.header.uid != *uid => {
                            return Outcome::NamespaceGone;
                        }
                        Some(found) if found.image.header.deletion.is_some() => {
                            return Outcome::NamespaceTerminating;
                        }
                        Some(_) => {}
                        None => return Outcome::NamespaceGone,
                    }
                }
                if let Some(current) = current {
                    return Outcome::AlreadyExists(Revision(current.revision));
                }
                self.put(key, ChangeKind::Created, Some(image))
            }
            Op::Update { expect, image, .. } => match current {
                None => Outcome::NotFound,
                Some(current) if current.revision != expect.0 => {
                    Outcome::Conflict(Revision(current.revision))
                }
                Some(_) => self.put(key, ChangeKind::Updated, Some(image)),
            },
            Op::Delete { expect, uid, .. } => match current {
                None => Outcome::NotFound,
                Some(current)
                    if uid.as_ref().is_some_and(|uid| current.image.header.uid != *uid) =>
                {
                    Outcome::OtherUid(current.image.header.uid)
                }
                Some(current) if expect.is_some_and(|expect| current.revision != expect.0) => {
                    Outcome::Conflict(Revision(current.revision))
                }
                Some(_) => self.put(key, ChangeKind::Deleted, None),
            },
        }
    }

    fn put(&mut self, key: Key, kind: ChangeKind, image: Option<&Image>) -> Outcome {
        if let Some(image) = image {
            for claim in &image.header.claims {
                let holder = self.objects.iter().find(|(other, version)| {
                    other.resource == key.resource
                        && **other != key
                        && version.image.header.claims.contains(claim)
                });
                if let Some((holder, _)) = holder {
                    return Outcome::ClaimTaken { claim: claim.clone(), holder: holder.clone() };
                }
            }
        }
        self.revision += 1;
        match image {
            Some(image) => {
                let version = Version { revision: self.revision, image: image.clone() };
                self.objects.insert(key.clone(), version);
            }
            None => {
                self.objects.remove(&key);
            }
        }
        self.past.push((self.revision, kind, key, self.objects.clone()));
        Outcome::Done(Revision(self.revision))
    }
}

// === random commands ===

fn key() -> impl Strategy<Value = Key> {
    (0..3u8, 0..2u8, 0..4u8).prop_map(|(resource, namespace, name)| match resource {
        0 => Key::new("", "namespaces", "", &format!("ns{namespace}")),
        1 => Key::new("", "configmaps", &format!("ns{namespace}"), &format!("c{name}")),
        _ => Key::new("apps", "deployments", &format!("ns{namespace}"), &format!("d{name}")),
    })
}

fn image() -> impl Strategy<Value = Image> {
    let claims = prop::collection::btree_set(0..3u8, 0..2);
    (0..3u8, prop::collection::vec(any::<u8>(), 0..40), any::<Option<bool>>(), claims).prop_map(
        |(uid, bytes, deletion, claims)| Image {
            header: Header {
                uid: format!("u{uid}"),
                labels: vec![("app".to_owned(), format!("a{uid}"))],
                owners: vec!["owner".to_owned(); usize::from(uid)],
                finalizers: Vec::new(),
                deletion: deletion.filter(|deleted| *deleted).map(|_| 7),
                claims: claims.iter().map(|claim| format!("clusterIP/{claim}")).collect(),
            },
            revision_offset: u32::try_from(bytes.len()).unwrap(),
            bytes: Bytes::from(bytes),
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let uid = || (0..3u8).prop_map(|uid| format!("u{uid}"));
    prop_oneof![
        3 => (key(), image(), prop::option::of(uid())).prop_map(|(key, image, namespace)| {
            let namespace = namespace.filter(|_| !key.object.namespace.is_empty());
            Op::Create { key, image, namespace }
        }),
        3 => (key(), 0..60u64, image())
            .prop_map(|(key, expect, image)| Op::Update { key, expect: Revision(expect), image }),
        2 => (key(), prop::option::of(0..60u64), prop::option::of(uid())).prop_map(
            |(key, expect, uid)| Op::Delete { key, expect: expect.map(Revision), uid }
        ),
    ]
}

fn session() -> impl Strategy<Value = SessionId> {
    (0..2u64, 0..2u64).prop_map(|(node, nonce)| SessionId { node, nonce })
}

fn command() -> impl Strategy<Value = Command> {
    let resource = prop_oneof![
        Just(GroupResource::new("", "configmaps")),
        Just(GroupResource::namespaces()),
        Just(GroupResource::new("apps", "deployments")),
    ];
    prop_oneof![
        12 => prop::collection::vec(op(), 1..5).prop_map(Command::Write),
        5 => prop::collection::vec(op(), 1..4).prop_map(Command::Txn),
        1 => prop::collection::vec((resource, (0..60u64).prop_map(Revision)), 1..3)
            .prop_map(Command::Compact),
        2 => session().prop_map(Command::OpenSession),
        1 => prop::collection::vec(session(), 1..2).prop_map(Command::CloseSessions),
        1 => (0..5u32).prop_map(|level| Command::RaiseLevel(ClusterLevel(level))),
    ]
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let tag = (session(), 1..6u64, 1..4u64).prop_map(|(session, sequence, first_unacked)| {
        SessionTag { session, sequence, first_unacked }
    });
    (prop::option::of(tag), command()).prop_map(|(session, command)| Proposal { session, command })
}

fn log() -> impl Strategy<Value = Vec<Option<Entry>>> {
    let entry = prop::collection::vec(proposal(), 1..4).prop_map(|proposals| Entry { proposals });
    prop::collection::vec(prop::option::weighted(0.9, entry), 1..60)
}

// === the properties ===

/// Updates in a random log seldom hit the right revision: point most of them at it.
fn aim(model: &Model, entry: &mut Entry) {
    for proposal in &mut entry.proposals {
        if let Command::Write(ops) | Command::Txn(ops) = &mut proposal.command {
            for op in ops {
                if let Op::Update { key, expect, .. } = op
                    && expect.0 % 4 != 0
                    && let Some(current) = model.objects.get(key)
                {
                    *expect = Revision(current.revision);
                }
            }
        }
    }
}

fn snapshot(machine: &Machine) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.write_snapshot(&mut bytes).unwrap();
    bytes
}

fn objects_of(view: &View) -> BTreeMap<Key, Version> {
    view.resources()
        .flat_map(|(_, resource)| resource.iter())
        .map(|o| (o.key.clone(), Version { revision: o.revision.0, image: o.image.clone() }))
        .collect()
}

fn check_past(view: &View, model: &Model) {
    let resources: BTreeSet<_> = model.past.iter().map(|(_, _, key, _)| &key.resource).collect();
    for name in resources {
        let compacted = model.compacted.get(name).copied().unwrap_or(0);
        let resource = view.resource(name).unwrap();
        assert_eq!(resource.compacted(), Revision(compacted));
        for revision in 0..=model.revision {
            let asked = Revision(revision);
            let expected = model.past.iter().rev().find(|(at, ..)| *at <= revision);
            let expected = expected.map(|(_, _, _, objects)| objects.clone()).unwrap_or_default();
            let (changes, objects) = match (resource.changes_after(asked), resource.at(asked)) {
                (Ok(changes), Ok(objects)) => (changes, objects),
                (Err(expired), Err(_)) => {
                    assert!(revision < compacted, "{expired} though it is not compacted");
                    continue;
                }
                _ => panic!("list and watch disagree on what is compacted"),
            };
            assert!(revision >= compacted, "a compacted revision was served");
            let objects: Vec<_> = objects.values().map(|o| (&o.key, o.revision.0)).collect();
            let expected: Vec<_> = expected
                .iter()
                .filter(|(key, _)| key.resource == *name)
                .map(|(key, version)| (key, version.revision))
                .collect();
            assert_eq!(objects, expected, "{name} as it was at revision {revision}");
            let changes: Vec<_> =
                changes.map(|c| (c.revision.0, c.kind, c.key().clone())).collect();
            let expected: Vec<_> = model
                .past
                .iter()
                .filter(|(at, _, key, _)| *at > revision && key.resource == *name)
                .map(|(at, kind, key, _)| (*at, *kind, key.clone()))
                .collect();
            assert_eq!(changes, expected, "changes of {name} after revision {revision}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_model_does(mut log in log(), cut in any::<prop::sample::Index>()) {
        let mut machine = Machine::default();
        let mut model = Model::default();
        let mut bytes = Vec::new();
        let cut = cut.index(log.len());
        let mut at_cut = None;
        for (position, entry) in log.iter_mut().enumerate() {
            let index = LogIndex(position as u64 + 1);
            if let Some(entry) = entry {
                aim(&model, entry);
            }
            let encoded = entry.as_ref().map(|entry| codec::encode_entry(entry).unwrap());
            let replies = machine.apply(index, encoded.as_deref()).unwrap();
            let expected: Vec<Reply> = entry
                .iter()
                .flat_map(|entry| &entry.proposals)
                .map(|proposal| model.proposal(proposal))
                .collect();
            prop_assert_eq!(&replies, &expected);
            let round_trip = codec::decode_replies(&codec::encode_replies(&replies).unwrap());
            prop_assert_eq!(round_trip.unwrap(), replies);
            bytes.push(encoded);
            if position == cut {
                at_cut = Some(snapshot(&machine));
            }
        }
        let view = machine.view();
        prop_assert_eq!(view.revision().0, model.revision);
        prop_assert_eq!(&objects_of(view), &model.objects);
        prop_assert_eq!(view.hash(), hash::of_view(view));
        check_past(view, &model);

        // Replay gives the same bytes; so does a snapshot with the tail of the log.
        let whole = snapshot(&machine);
        let mut replayed = Machine::default();
        let mut resumed = Machine::read_snapshot(&mut &at_cut.unwrap()[..]).unwrap();
        for (position, encoded) in bytes.iter().enumerate() {
            let index = LogIndex(position as u64 + 1);
            replayed.apply(index, encoded.as_deref()).unwrap();
            if position > cut {
                resumed.apply(index, encoded.as_deref()).unwrap();
            }
        }
        prop_assert_eq!(&snapshot(&replayed), &whole);
        prop_assert_eq!(&snapshot(&resumed), &whole);
        prop_assert_eq!(&snapshot(&Machine::read_snapshot(&mut &whole[..]).unwrap()), &whole);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_reads_as_something_else_but_never_panics(
        log in log(), flip in any::<prop::sample::Index>(), bit in 0..8u8,
    ) {
        let mut machine = Machine::default();
        for (position, entry) in log.iter().enumerate() {
            let encoded = entry.as_ref().map(|entry| codec::encode_entry(entry).unwrap());
            machine.apply(LogIndex(position as u64 + 1), encoded.as_deref()).unwrap();
        }
        let mut bytes = snapshot(&machine);
        let position = flip.index(bytes.len());
        bytes[position] ^= 1 << bit;
        drop(Machine::read_snapshot(&mut &bytes[..]));
        bytes.truncate(position);
        prop_assert!(Machine::read_snapshot(&mut &bytes[..]).is_err());
    }

    #[test]
    fn a_foreign_entry_stops_the_machine_and_changes_nothing(
        garbage in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut machine = Machine::default();
        let before = snapshot(&machine);
        if machine.apply(LogIndex(1), Some(&garbage)).is_err() {
            prop_assert_eq!(snapshot(&machine), before);
        }
    }
}
