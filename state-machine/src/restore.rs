//! A state that goes on in another cluster: what a backup carries of it, and what becomes of it there.
//!
//! A cluster that is made of a backup, or of what one master still had, goes back in time: others may have seen
//! revisions and log entries after it. So nothing that was given out then may be given out again, and nobody who knows
//! of it may go on as if nothing had happened (etcd: `--bump-revision`, `--mark-compacted`):
//!
//! * the revision goes far ahead, and with it that of each object, so that no `resourceVersion` ever goes back;
//! * the past is forgotten, so that whoever watches gets 410 and lists again;
//! * no session is open, so that what was proposed in one and not answered is refused, never executed.

use std::sync::Arc;

use quorate_mutants::{self as mutants, Mutant};

use crate::hash;
use crate::machine::Machine;
use crate::names::{GroupResource, LogIndex, Revision};
use crate::object::Stored;
use crate::session::Sessions;
use crate::view::{ResourceView, View};

/// Where the clock of whoever restores is behind what the state has come to, the state goes so far ahead.
const AHEAD: u64 = 1_000_000_000;

/// For each millisecond since 1970: more than any cluster writes. Counted from then and not from when the state was
/// made, so that of several rebuilt one after the other, of whichever states, each goes on after the one before.
const AHEAD_PER_MILLISECOND: u64 = 50;

/// How far ahead a state goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leap {
    /// The log entry that the state is said to be of. After all that were ever written.
    pub index: LogIndex,
    /// Added to all revisions.
    pub revisions: u64,
}

impl Leap {
    /// A number after all that anybody can have seen by now, so many milliseconds after 1970, of what has come to
    /// `known`. No cluster comes to more than that by writing, so nothing is added to it: of a state that was itself
    /// rebuilt a short time ago, and of the same one again, the later one would not be ahead of the earlier.
    #[must_use]
    pub fn beyond(known: u64, milliseconds: u64) -> u64 {
        let now = milliseconds.saturating_mul(AHEAD_PER_MILLISECOND);
        if now > known { now } else { known.saturating_add(AHEAD) }
    }
}

/// The state cannot leap: it would be where no state can ever be, so its bytes are not what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a state at index {index}, revision {revision} cannot go that far ahead")]
pub struct TooFar {
    /// Where it is.
    pub index: LogIndex,
    /// Its revision.
    pub revision: Revision,
}

impl Machine {
    /// What a backup carries: the objects as they are, without their past and without sessions.
    #[must_use]
    pub fn without_past(view: &View) -> Self {
        let mut view = view.clone();
        let revision = view.revision;
        let names: Vec<GroupResource> = view.resources.keys().cloned().collect();
        for name in names {
            view.compact(&name, revision);
        }
        Self { view, sessions: Sessions::default() }
    }

    /// The state with which a new cluster begins. `resources` are all that can be watched: their past is forgotten also
    /// when nothing is stored in them, since something may have been that this state does not know.
    ///
    /// # Errors
    /// [`TooFar`]: when index or revision would overflow, or the index go back.
    pub fn leapt(
        &self,
        leap: Leap,
        resources: impl IntoIterator<Item = GroupResource>,
    ) -> Result<Self, TooFar> {
        let lowers = mutants::is(Mutant::RestoreLowersRevision);
        let leap = if lowers { Leap { revisions: 0, ..leap } } else { leap };
        let old = &self.view;
        let too_far = TooFar { index: old.index, revision: old.revision };
        let revision = old.revision.0.checked_add(leap.revisions).ok_or(too_far)?;
        if leap.index <= old.index {
            return Err(too_far);
        }
        let mut view = View {
            index: leap.index,
            revision: Revision(revision),
            level: old.level,
            ..View::default()
        };
        let keeps = mutants::is(Mutant::RestoreKeepsPast);
        let compacted = if keeps { Revision(0) } else { view.revision };
        for (name, resource) in &old.resources {
            let mut leapt = ResourceView { compacted, ..ResourceView::default() };
            for object in resource.iter() {
                let revision = Revision(object.revision.0 + leap.revisions);
                let object = Stored::new(object.key.clone(), revision, object.image.clone());
                view.hash = view.hash.wrapping_add(hash::of_object(&object));
                let key = object.key.object.clone();
                leapt.put(&key, Some(Arc::new(object)));
            }
            view.resources.insert(name.clone(), Arc::new(leapt));
        }
        for name in resources {
            if !view.resources.contains_key(&name) {
                let empty = ResourceView { compacted, ..ResourceView::default() };
                view.resources.insert(name, Arc::new(empty));
            }
        }
        Ok(Self { view, sessions: Sessions::default() })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec;
    use crate::command::{Command, Entry, Op, Proposal, Reply};
    use crate::names::Key;
    use crate::object::{Header, Image};
    use crate::session::{SessionId, SessionTag};

    const LEAP: Leap = Leap { index: LogIndex(1_000_000), revisions: 1_000 };

    fn pods() -> GroupResource {
        GroupResource::new("", "pods")
    }

    fn create(name: &str) -> Op {
        let header = Header {
            uid: format!("uid-{name}"),
            claims: vec![format!("claim/{name}")],
            ..Header::default()
        };
        let bytes = Bytes::from_static(br#"{"metadata":{}}"#);
        let image = Image { header, bytes, revision_offset: 13 };
        Op::Create { key: Key::new("", "pods", "n", name), image, namespace: None }
    }

    fn apply(machine: &mut Machine, index: u64, proposal: Proposal) -> Vec<Reply> {
        let entry = codec::encode_entry(&Entry { proposals: vec![proposal] }).unwrap();
        machine.apply(LogIndex(index), Some(&entry)).unwrap()
    }

    const SESSION: SessionId = SessionId { node: 1, nonce: 7 };

    fn machine() -> Machine {
        let mut machine = Machine::default();
        let plain = |command| Proposal { session: None, command };
        apply(&mut machine, 1, plain(Command::OpenSession(SESSION)));
        apply(&mut machine, 2, plain(Command::Write(vec![create("a"), create("b")])));
        let key = Key::new("", "pods", "n", "a");
        let delete = Op::Delete { key, expect: None, uid: None };
        apply(&mut machine, 3, plain(Command::Write(vec![delete])));
        machine
    }

    fn round_trip(machine: &Machine) -> Machine {
        let mut bytes = Vec::new();
        machine.write_snapshot(&mut bytes).unwrap();
        Machine::read_snapshot(&mut bytes.as_slice()).unwrap()
    }

    #[test]
    fn no_revision_and_no_index_is_given_out_again() {
        let old = machine();
        let mut new = round_trip(&old.leapt(LEAP, []).unwrap());
        assert_eq!((new.view().index(), new.view().revision()), (LEAP.index, Revision(1_003)));
        let key = Key::new("", "pods", "n", "b");
        assert_eq!(new.view().get(&key).unwrap().revision, Revision(1_002));
        assert_eq!(new.view().get(&key).unwrap().uid(), "uid-b");
        let proposal = Proposal { session: None, command: Command::Write(vec![create("c")]) };
        apply(&mut new, LEAP.index.0 + 1, proposal);
        assert_eq!(new.view().revision(), Revision(1_004));
        let claims: Vec<_> = new.view().resource(&pods()).unwrap().claims("claim/").collect();
        assert_eq!(claims.len(), 2, "{claims:?}");
    }

    #[test]
    fn the_past_is_forgotten_also_of_what_holds_nothing() {
        let nodes = GroupResource::new("", "nodes");
        let new = machine().leapt(LEAP, [nodes.clone(), pods()]).unwrap();
        for name in [pods(), nodes] {
            let resource = new.view().resource(&name).unwrap();
            // Whatever the other masters may have given out in between.
            for seen in [0, 2, 3, 700, 1_002] {
                assert!(resource.changes_after(Revision(seen)).is_err(), "{name} after {seen}");
            }
            assert_eq!(resource.changes_after(Revision(1_003)).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_was_proposed_in_a_session_is_refused() {
        let mut new = machine().leapt(LEAP, []).unwrap();
        assert_eq!(new.sessions().ids().count(), 0);
        let tag = SessionTag { session: SESSION, sequence: 1, first_unacked: 1 };
        let late = Proposal { session: Some(tag), command: Command::Write(vec![create("late")]) };
        let replies = apply(&mut new, LEAP.index.0 + 1, late);
        assert_eq!(replies, [Reply::SessionUnknown]);
        assert_eq!(new.view().resource(&pods()).unwrap().len(), 1);
    }

    #[test]
    fn a_backup_has_the_objects_and_not_their_past() {
        let old = machine();
        let kept = round_trip(&Machine::without_past(old.view()));
        assert_eq!(kept.view().hash(), old.view().hash());
        assert_eq!(kept.view().revision(), old.view().revision());
        assert_eq!(kept.sessions().ids().count(), 0);
        let resource = kept.view().resource(&pods()).unwrap();
        assert_eq!((resource.len(), resource.history_size().0), (1, 0));
        assert_eq!(
            old.view().resource(&pods()).unwrap().history_size().0,
            3,
            "the view is as it was"
        );
    }

    #[test]
    fn the_same_state_again_goes_further_ahead() {
        const DAY: u64 = 86_400_000;
        let at = 20_000 * DAY;
        let first = Leap::beyond(7_000, at);
        // A backup of that cluster, a minute later; restored twice, with a busy minute between.
        let backup = first + 300_000;
        let second = Leap::beyond(backup, at + 120_000);
        let third = Leap::beyond(backup, at + 180_000);
        assert!(backup < second && second + 60 * 10_000 < third, "{first} {second} {third}");
        // An older one after that.
        assert!(Leap::beyond(7_000, at + DAY) > third + 60 * 10_000);
        // Of a machine whose clock is at its beginning.
        assert!(Leap::beyond(backup, 5) > backup + 500_000_000);
        assert_eq!(Leap::beyond(u64::MAX, 5), u64::MAX);
    }

    #[test]
    fn nothing_goes_back_and_nothing_overflows() {
        let old = machine();
        assert!(old.leapt(Leap { index: LogIndex(3), revisions: 1 }, []).is_err());
        assert!(old.leapt(Leap { index: LogIndex(9), revisions: u64::MAX }, []).is_err());
    }
}
