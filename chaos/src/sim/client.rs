//! Clients of the simulated world: each has one operation at a time, at one master, and remembers
//! what it was told. What an operation does in the master is [`carry_out`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate_state_machine::history::ChangeKind;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, Header, Image, Key, Op, Outcome, Revision};
use quorate_store::{Consistency, Error, Store};

use super::host::{Cursor, Outbox, Sent};
use crate::check::watch::{self, Kind};
use crate::limits::SIM_HISTORY_CHANGES;
use crate::model::{RegisterInput, RegisterOutput};

/// A watcher takes what comes next after this.
const SEEN_PAUSE: Duration = Duration::from_millis(1);

/// One change as a watcher in a master saw it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) change: watch::Change,
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) key: usize,
    pub(super) input: RegisterInput,
    /// The revision at which the value that a swap expects was read.
    pub(super) at: u64,
}

/// What it is told.
#[derive(Debug, Clone)]
pub(super) enum Told {
    /// The outcome, and the revision of a write or of what was read.
    Done(RegisterOutput, u64),
    /// Nothing was done.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// The objects of all clients.
pub(super) fn resource() -> GroupResource {
    GroupResource::new("", "configmaps")
}

const NAMESPACE: &str = "default";
const PREFIX: &str = "register-";

/// Whether an object is a client's: a cluster with nodes has others of the same resource.
pub(super) fn is_ours(key: &Key) -> bool {
    &*key.object.namespace == NAMESPACE && key.object.name.starts_with(PREFIX)
}

/// The name of an object.
pub(super) fn name(number: usize) -> String {
    format!("{PREFIX}{number}")
}

fn key(number: usize) -> Key {
    Key::new("", "configmaps", NAMESPACE, &name(number))
}

fn image(key: usize, value: u64) -> Image {
    Image {
        header: Header { uid: format!("u-{key}"), ..Header::default() },
        bytes: Bytes::from(format!("{{\"metadata\":{{}},\"data\":{{\"v\":\"{value}\"}}}}")),
        revision_offset: 13,
    }
}

/// The value that an object of ours holds.
pub(super) fn value(stored: &StoredRef) -> Option<u64> {
    let object: serde_json::Value = serde_json::from_slice(&stored.image.bytes).ok()?;
    object["data"]["v"].as_str()?.parse().ok()
}

/// In the master: reads or writes as its API would.
pub(super) async fn carry_out(store: &Store, asked: &Asked) -> Told {
    let key = key(asked.key);
    let op = match asked.input {
        RegisterInput::Read => {
            let Ok(view) = store.read(Consistency::Linearizable).await else {
                return Told::Refused;
            };
            return match view.get(&key) {
                Some(found) => value(found).map_or(Told::Unknown, |value| {
                    Told::Done(RegisterOutput::Value(value), found.revision.0)
                }),
                None => Told::Done(RegisterOutput::Absent, 0),
            };
        }
        RegisterInput::Create(value) => {
            Op::Create { key, image: image(asked.key, value), namespace: None }
        }
        RegisterInput::Swap { to, .. } => {
            Op::Update { key, expect: Revision(asked.at), image: image(asked.key, to) }
        }
        RegisterInput::Delete => Op::Delete { key, expect: None, uid: None },
        RegisterInput::Write(_) | RegisterInput::Patch(_) => return Told::Refused,
    };
    match store.write(vec![op]).await {
        Ok(outcomes) => match outcomes.first() {
            Some(Outcome::Done(revision)) => Told::Done(RegisterOutput::Written, revision.0),
            Some(Outcome::AlreadyExists(_) | Outcome::Conflict(_)) => {
                Told::Done(RegisterOutput::Refused, 0)
            }
            Some(Outcome::NotFound) => Told::Done(RegisterOutput::Absent, 0),
            _ => Told::Unknown,
        },
        // Certainly not written: if it is later, somebody sees it.
        Err(
            Error::Unavailable { .. }
            | Error::Overloaded
            | Error::NoSpace { .. }
            | Error::Leaving { .. },
        ) => Told::Refused,
        Err(_) => Told::Unknown,
    }
}

/// In the master: if it leads, forgets old changes.
///
/// Of what the watchers of the world follow so many are left, and of everything else the newest
/// [`SIM_HISTORY_CHANGES`]: who watches that lists it again.
pub(super) async fn compact(store: Store, leave: u64) {
    let Some(lead) = store.lead() else { return };
    let view = store.view();
    let bounds = view.resources().map(|(name, _)| {
        let leave = if *name == resource() { leave } else { SIM_HISTORY_CHANGES };
        (name.clone(), Revision(view.revision().0.saturating_sub(leave)))
    });
    // Whoever leads then tries again.
    drop(lead.compact(bounds.collect()).await);
}

/// In the master: tells the world of all changes after a revision, until the watcher has left or the master ends.
pub(super) async fn follow(
    store: Store,
    after: u64,
    own: usize,
    cursor: Cursor,
    left: Arc<AtomicBool>,
    outbox: Outbox,
) {
    let mut watch = store.watch(resource(), Revision(after));
    loop {
        match watch.next().await {
            // Nobody hears it.
            _ if left.load(Ordering::Relaxed) => return,
            Ok(batch) => {
                let ours = batch.changes.iter().filter(|change| {
                    let version = change.current.as_ref().or(change.previous.as_ref());
                    version.is_some_and(|stored| is_ours(&stored.key))
                });
                let changes = ours.map(told).collect();
                outbox.send(Sent::Seen { from: own, cursor, changes, up_to: batch.up_to.0 });
                // A watch that tells the same again and again must not stop the clock.
                tokio::time::sleep(SEEN_PAUSE).await;
            }
            Err(error) => {
                return outbox.send(Sent::Lost { from: own, cursor, error: error.to_string() });
            }
        }
    }
}

/// In the master: tells how far it has come, and what it has then.
pub(super) async fn report(store: Store, own: usize, outbox: Outbox) {
    let mut published = store.published();
    loop {
        let view = store.view();
        let (index, revision, hash) = (view.index().0, view.revision().0, view.hash());
        outbox.send(Sent::Applied { from: own, index, revision, hash });
        if published.changed().await.is_err() {
            return;
        }
    }
}

fn told(change: &Arc<quorate_state_machine::history::Change>) -> Change {
    let kind = match change.kind {
        ChangeKind::Created => Kind::Added,
        ChangeKind::Updated => Kind::Modified,
        ChangeKind::Deleted => Kind::Deleted,
    };
    let version = change.current.as_ref().or(change.previous.as_ref());
    let name = version.map(|stored| stored.key.object.name.to_string()).unwrap_or_default();
    let digest = version.and_then(value).unwrap_or_default();
    Change { revision: change.revision.0, change: watch::Change { key: name, kind, digest } }
}
