//! All replicated state as a stream of bytes. Checksums and compression are the file's business
//! (crate `raft`); here is only content, in a fixed order, so that equal states give equal bytes.
//!
//! Versions are written once and named by their revision: an object, the change that made it and
//! the change that replaced it all show the same one.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bincode::{Decode, Encode};
use quorate_mutants::{self as mutants, Mutant};

use crate::codec::{self, CodecError};
use crate::command::Reply;
use crate::hash;
use crate::history::{Change, ChangeKind};
use crate::limits::ENTRY_BYTES_MAX;
use crate::machine::Machine;
use crate::names::{ClusterLevel, GroupResource, LogIndex, ObjectKey, Revision};
use crate::object::{Image, Stored, StoredRef};
use crate::session::{Session, SessionId, Sessions};
use crate::view::ResourceView;

#[derive(Encode, Decode)]
struct Head {
    index: LogIndex,
    revision: Revision,
    level: ClusterLevel,
    hash: u128,
    resources: u64,
}

#[derive(Encode, Decode)]
struct ResourceHead {
    resource: GroupResource,
    compacted: Revision,
    versions: u64,
    changes: u64,
}

#[derive(Encode, Decode)]
struct VersionRecord {
    revision: Revision,
    key: ObjectKey,
    image: Image,
    /// Whether this is the version that the object has now.
    alive: bool,
}

#[derive(Encode, Decode)]
struct ChangeRecord {
    revision: Revision,
    kind: ChangeKind,
    previous: Option<Revision>,
    current: Option<Revision>,
}

pub(crate) fn write(machine: &Machine, out: &mut dyn Write) -> io::Result<()> {
    let view = &machine.view;
    let head = Head {
        index: view.index,
        revision: view.revision,
        level: view.level,
        hash: view.hash,
        resources: view.resources.len() as u64,
    };
    put(out, &head)?;
    write_sessions(&machine.sessions, out)?;
    for (name, resource) in view.resources() {
        write_resource(name, resource, out)?;
    }
    // None may have come or gone that nobody has written: who reads it would refuse it.
    let objects = view.resources().flat_map(|(_, resource)| resource.iter());
    if objects.fold(0_u128, |sum, object| sum.wrapping_add(object.hash())) != view.hash {
        let problem = "the objects in memory are not those that were written";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(())
}

/// One record per answer: a session may remember more than one record may hold.
fn write_sessions(sessions: &Sessions, out: &mut dyn Write) -> io::Result<()> {
    put(out, &(sessions.open.len() as u64))?;
    for (id, session) in &sessions.open {
        let answers = session.answers.len() as u64;
        put(out, &(*id, session.opened_at, session.first_unacked, answers))?;
        for (sequence, reply) in &session.answers {
            put(out, &(*sequence, reply.clone()))?;
        }
    }
    Ok(())
}

fn read_sessions(input: &mut dyn Read) -> io::Result<Sessions> {
    let mut sessions = Sessions::default();
    let count: u64 = get(input)?;
    for _ in 0..count {
        let (id, opened_at, first_unacked, count): (SessionId, LogIndex, u64, u64) = get(input)?;
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            let (sequence, reply): (u64, Reply) = get(input)?;
            answers.insert(sequence, reply);
        }
        sessions.open.insert(id, Session { opened_at, first_unacked, answers });
    }
    Ok(sessions)
}

fn write_resource(
    name: &GroupResource,
    resource: &ResourceView,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut versions: BTreeMap<Revision, (&StoredRef, bool)> = BTreeMap::new();
    for change in &resource.history {
        for version in change.previous.iter().chain(&change.current) {
            versions.insert(version.revision, (version, false));
        }
    }
    for object in resource.iter() {
        versions.insert(object.revision, (object, true));
    }
    put(
        out,
        &ResourceHead {
            resource: name.clone(),
            compacted: resource.compacted,
            versions: versions.len() as u64,
            changes: resource.history.len() as u64,
        },
    )?;
    for (revision, (version, alive)) in versions {
        // A copy of it would be as wrong, and look right.
        if !version.is_intact() {
            let problem =
                format!("{} {} was damaged in memory", version.key.resource, version.key.object);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let key = version.key.object.clone();
        put(out, &VersionRecord { revision, key, image: version.image.clone(), alive })?;
    }
    for change in &resource.history {
        put(
            out,
            &ChangeRecord {
                revision: change.revision,
                kind: change.kind,
                previous: change.previous.as_ref().map(|version| version.revision),
                current: change.current.as_ref().map(|version| version.revision),
            },
        )?;
    }
    Ok(())
}

pub(crate) fn read(input: &mut dyn Read) -> io::Result<Machine> {
    let head: Head = get(input)?;
    let mut sessions = read_sessions(input)?;
    if mutants::is(Mutant::SessionsNotInSnapshot) {
        sessions = Sessions::default();
    }
    let mut machine = Machine { sessions, ..Machine::default() };
    let view = &mut machine.view;
    view.index = head.index;
    view.revision = head.revision;
    view.level = head.level;
    view.hash = head.hash;
    for _ in 0..head.resources {
        let (name, resource) = read_resource(input)?;
        view.resources.insert(name, Arc::new(resource));
    }
    if mutants::is(Mutant::RevisionFromObjects) {
        let objects = view.resources.values().flat_map(|resource| resource.objects.values());
        view.revision = objects.map(|object| object.revision).max().unwrap_or_default();
    }
    if input.read(&mut [0])? != 0 {
        return Err(invalid("bytes follow the snapshot"));
    }
    if hash::of_view(view) != head.hash {
        return Err(invalid("the objects of the snapshot do not have the hash that it names"));
    }
    Ok(machine)
}

fn read_resource(input: &mut dyn Read) -> io::Result<(GroupResource, ResourceView)> {
    let head: ResourceHead = get(input)?;
    let mut resource = ResourceView { compacted: head.compacted, ..ResourceView::default() };
    let mut versions: BTreeMap<Revision, StoredRef> = BTreeMap::new();
    for _ in 0..head.versions {
        let record: VersionRecord = get(input)?;
        let key = resource
            .shared_key(&crate::names::Key { resource: head.resource.clone(), object: record.key });
        let stored = Arc::new(Stored::new(key.clone(), record.revision, record.image));
        if record.alive && resource.put(&key.object, Some(stored.clone())).is_some() {
            return Err(invalid("an object is in the snapshot twice"));
        }
        versions.insert(record.revision, stored);
    }
    let named = |revision: Option<Revision>| match revision {
        None => Ok(None),
        Some(revision) => match versions.get(&revision) {
            Some(version) => Ok(Some(version.clone())),
            None => Err(invalid("a change names a version that the snapshot does not hold")),
        },
    };
    for _ in 0..head.changes {
        let record: ChangeRecord = get(input)?;
        let (previous, current) = (named(record.previous)?, named(record.current)?);
        if previous.is_none() && current.is_none() {
            return Err(invalid("a change has no version before it and none after it"));
        }
        if mutants::is(Mutant::HistoryNotInSnapshot) {
            continue;
        }
        resource.record(Arc::new(Change {
            revision: record.revision,
            kind: record.kind,
            previous,
            current,
        }));
    }
    Ok((head.resource, resource))
}

/// One record: length (u32, little endian), then the record in the codec's envelope.
fn put<T: Encode>(out: &mut dyn Write, value: &T) -> io::Result<()> {
    let bytes = codec::encode(value).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&bytes)
}

fn get<T: Decode<()>>(input: &mut dyn Read) -> io::Result<T> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > RECORD_BYTES_MAX {
        return Err(invalid("a record of the snapshot is longer than any can be"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    codec::decode(&bytes)
        .map_err(|error: CodecError| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Largest record of a snapshot. Reading stops with `InvalidData` beyond it, so that a damaged
/// length cannot ask for all memory.
const RECORD_BYTES_MAX: usize = ENTRY_BYTES_MAX;

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Key;
    use crate::object::Header;

    #[test]
    fn what_is_damaged_in_memory_is_not_written() {
        let key = Key::new("", "configmaps", "default", "a");
        let stored = || {
            let bytes = b"{\"data\":1}".as_slice().into();
            let image = Image { header: Header::default(), bytes, revision_offset: 2 };
            Stored::new(key.clone(), Revision(7), image)
        };
        let resource = |object: Stored| {
            let mut resource = ResourceView::default();
            resource.put(&key.object, Some(Arc::new(object)));
            resource
        };
        let mut out = Vec::new();
        write_resource(&key.resource, &resource(stored()), &mut out).unwrap();
        let mut flipped = stored();
        flipped.image.bytes = b"{\"data\":3}".as_slice().into();
        let error = write_resource(&key.resource, &resource(flipped), &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("was damaged in memory"), "{error}");
    }
}
