//! What can be asked of the store, one file per command, and what comes of it.
//!
//! A log entry carries one or more [`Proposal`]s; each is decided on its own, in order. Variants are
//! part of the log's format: append, never reorder or reuse (a golden test holds the numbers).

mod compact;
mod create;
mod delete;
mod level;
mod session;
mod txn;
mod update;
mod write;

use bincode::{Decode, Encode};

use crate::history::ChangeKind;
use crate::names::{ClusterLevel, GroupResource, Key, Revision};
use crate::object::Image;
use crate::session::{SessionId, SessionTag, Sessions};
use crate::view::View;

/// One log entry: what one or more proposers asked for, in the order in which it is decided.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Decided one after the other.
    pub proposals: Vec<Proposal>,
}

/// One command, with the session it is proposed in, if its proposer may have to retry it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Proposal {
    /// Exactly-once: a repeated (session, sequence) gets the first answer again.
    pub session: Option<SessionTag>,
    /// What is asked for.
    pub command: Command,
}

/// A change of the store.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// Independent operations: each has its own outcome.
    Write(Vec<Op>),
    /// All operations or none.
    Txn(Vec<Op>),
    /// Forgets history up to a revision, per resource.
    Compact(Vec<(GroupResource, Revision)>),
    /// Opens a session; sessions of the same node with another nonce end.
    OpenSession(SessionId),
    /// Ends sessions of masters that are gone.
    CloseSessions(Vec<SessionId>),
    /// Raises the cluster level. Never lowers it.
    RaiseLevel(ClusterLevel),
}

/// One operation on one object.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Op {
    /// The object must not exist.
    Create {
        /// Where.
        key: Key,
        /// First version.
        image: Image,
        /// uid of the namespace as its proposer saw it: it must still be that one and not be
        /// terminating. `None` for cluster-scoped objects.
        namespace: Option<String>,
    },
    /// The object must be at exactly this revision.
    Update {
        /// Where.
        key: Key,
        /// The revision that the new version was computed from.
        expect: Revision,
        /// New version.
        image: Image,
    },
    /// The object must exist, and match what is given.
    Delete {
        /// Where.
        key: Key,
        /// Only at this revision.
        expect: Option<Revision>,
        /// Only with this uid.
        uid: Option<String>,
    },
}

impl Op {
    /// The object that the operation is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Create { key, .. } | Self::Update { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// Bytes that the operation takes in a log entry, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Create { image, .. } | Self::Update { image, .. } => image.bytes.len() + 512,
            Self::Delete { .. } => 256,
        }
    }
}

impl Command {
    /// Whether the command frees space in the end, so that it may pass when the disk is nearly full:
    /// it deletes, moves an object on that is being deleted (finalizers, a grace period that was set),
    /// or is bookkeeping of the masters.
    #[must_use]
    pub fn frees_space(&self) -> bool {
        match self {
            Self::Write(ops) | Self::Txn(ops) => ops.iter().all(|op| match op {
                Op::Create { .. } => false,
                Op::Update { image, .. } => image.header.deletion.is_some(),
                Op::Delete { .. } => true,
            }),
            Self::Compact(_)
            | Self::OpenSession(_)
            | Self::CloseSessions(_)
            | Self::RaiseLevel(_) => true,
        }
    }
}

/// What one operation came to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It took effect, at this revision.
    Done(Revision),
    /// There is an object of this name already, at this revision.
    AlreadyExists(Revision),
    /// There is no such object.
    NotFound,
    /// The object is at this revision, not at the expected one.
    Conflict(Revision),
    /// There is an object of this name with this other uid.
    OtherUid(String),
    /// The namespace does not exist, or it is not the one its proposer saw.
    NamespaceGone,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// Another object of the resource holds this claim.
    ClaimTaken {
        /// Which claim.
        claim: String,
        /// Who holds it.
        holder: Key,
    },
    /// The object is larger than [`crate::limits::OBJECT_BYTES_MAX`].
    TooLarge(u64),
    /// Another operation of the transaction could not take effect, so this one did not.
    Aborted,
}

impl Outcome {
    /// The revision, when the operation took effect.
    #[must_use]
    pub fn done(&self) -> Option<Revision> {
        match self {
            Self::Done(revision) => Some(*revision),
            Self::AlreadyExists(_)
            | Self::NotFound
            | Self::Conflict(_)
            | Self::OtherUid(_)
            | Self::NamespaceGone
            | Self::NamespaceTerminating
            | Self::ClaimTaken { .. }
            | Self::TooLarge(_)
            | Self::Aborted => None,
        }
    }
}

/// What one proposal came to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// Outcomes of the operations of a `Write` or `Txn`, in order; empty for other commands.
    Decided(Vec<Outcome>),
    /// The session is not open (never was, or was closed): nothing was executed.
    SessionUnknown,
    /// The proposer has said that it had the answer to this sequence number: nothing was executed.
    SequenceTrimmed,
    /// Too many unacknowledged answers are remembered for the session: nothing was executed.
    SessionFull,
}

/// Decides one proposal.
pub(crate) fn decide(view: &mut View, sessions: &mut Sessions, proposal: &Proposal) -> Reply {
    let Some(tag) = &proposal.session else {
        return run(view, sessions, &proposal.command);
    };
    match sessions.admit(tag) {
        Ok(()) => {
            let reply = run(view, sessions, &proposal.command);
            sessions.remember(tag, &reply);
            reply
        }
        Err(earlier) => earlier,
    }
}

fn run(view: &mut View, sessions: &mut Sessions, command: &Command) -> Reply {
    match command {
        Command::Write(ops) => Reply::Decided(write::run(view, ops)),
        Command::Txn(ops) => Reply::Decided(txn::run(view, ops)),
        Command::Compact(bounds) => compact::run(view, bounds),
        Command::OpenSession(id) => session::open(view, sessions, *id),
        Command::CloseSessions(ids) => session::close(sessions, ids),
        Command::RaiseLevel(level) => level::run(view, *level),
    }
}

/// Decides one operation.
fn run_op(view: &mut View, op: &Op) -> Outcome {
    match op {
        Op::Create { key, image, namespace } => create::run(view, key, image, namespace.as_deref()),
        Op::Update { key, expect, image } => update::run(view, key, *expect, image),
        Op::Delete { key, expect, uid } => delete::run(view, key, *expect, uid.as_deref()),
    }
}

/// What all image-carrying operations require of the image; the outcome when it is not met.
fn refuse_image(view: &View, key: &Key, image: &Image) -> Option<Outcome> {
    let bytes = image.bytes.len();
    if bytes > crate::limits::OBJECT_BYTES_MAX || image.revision_offset as usize > bytes {
        return Some(Outcome::TooLarge(bytes as u64));
    }
    image.header.claims.iter().find_map(|claim| {
        let holder = view.resource(&key.resource)?.claim_holder(claim)?;
        (*holder != key.object).then(|| Outcome::ClaimTaken {
            claim: claim.clone(),
            holder: Key { resource: key.resource.clone(), object: holder.clone() },
        })
    })
}

/// Records one change at the next revision.
fn change(view: &mut View, key: &Key, kind: ChangeKind, image: Option<&Image>) -> Outcome {
    Outcome::Done(view.change(key, kind, image))
}
