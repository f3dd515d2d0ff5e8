//! Events for many watchers, written once: watchers that ask the same question and stand at the same
//! revision are given the same bytes.
//!
//! A [`Frame`] holds all events between two revisions. The first watcher that comes to a revision
//! writes the frame that begins there; the others take it, which also brings them to the same next
//! revision, so watchers that have drifted apart walk in step again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use quorate_state_machine::Revision;

use crate::limits::{
    WATCH_PACE_EACH, WATCH_PACE_MAX, WATCH_PACE_MIN, WATCH_SHARED_BYTES_MAX,
    WATCH_SHARED_FRAMES_MAX,
};
use crate::negotiate::Shape;

/// What watchers are asked for, and in which form. Equal questions have equal answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) api_version: String,
    pub(super) plural: &'static str,
    pub(super) shape: Shape,
    pub(super) protobuf: bool,
    pub(super) namespace: String,
    pub(super) labels: String,
    pub(super) fields: String,
}

/// The watchers of this master, by their questions.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    groups: Mutex<HashMap<Question, Weak<Group>>>,
    /// Held by each watcher, only to be counted.
    watchers: Arc<()>,
}

/// One watcher's place among those with the same question.
#[derive(Debug)]
pub(super) struct Place {
    group: Arc<Group>,
    watchers: Arc<()>,
}

/// Watchers with the same question.
#[derive(Debug, Default)]
struct Group {
    frames: Mutex<Frames>,
}

#[derive(Debug, Default)]
struct Frames {
    /// Newest last.
    queue: VecDeque<Frame>,
    bytes: usize,
}

/// All events between two revisions.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) after: Revision,
    pub(super) up_to: Revision,
    pub(super) bytes: Bytes,
    pub(super) events: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is complete before anything could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fanout {
    /// A place among the watchers with this question.
    pub(super) fn join(&self, question: Question) -> Place {
        let mut groups = lock(&self.groups);
        let group = match groups.get(&question).and_then(Weak::upgrade) {
            Some(group) => group,
            None => {
                groups.retain(|_, group| group.strong_count() > 0);
                let group = Arc::<Group>::default();
                groups.insert(question, Arc::downgrade(&group));
                group
            }
        };
        Place { group, watchers: self.watchers.clone() }
    }
}

impl Place {
    /// The frame that begins at a revision, when some watcher has written it already.
    pub(super) fn find(&self, after: Revision) -> Option<Frame> {
        let frames = lock(&self.group.frames);
        frames.queue.iter().rev().find(|frame| frame.after == after).cloned()
    }

    /// Lets the other watchers have a frame.
    pub(super) fn share(&self, frame: &Frame) {
        if Arc::strong_count(&self.group) < 2 {
            return;
        }
        let mut frames = lock(&self.group.frames);
        frames.bytes += frame.bytes.len();
        frames.queue.push_back(frame.clone());
        while frames.queue.len() > WATCH_SHARED_FRAMES_MAX
            || (frames.bytes > WATCH_SHARED_BYTES_MAX && !frames.queue.is_empty())
        {
            let gone = frames.queue.pop_front().map_or(0, |frame| frame.bytes.len());
            frames.bytes -= gone;
        }
    }

    /// How often this watcher looks at most: the more there are, the more events share one write.
    pub(super) fn pace(&self) -> Duration {
        let watchers = u32::try_from(Arc::strong_count(&self.watchers)).unwrap_or(u32::MAX);
        WATCH_PACE_EACH.saturating_mul(watchers).clamp(WATCH_PACE_MIN, WATCH_PACE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(namespace: &str) -> Question {
        Question {
            api_version: "v1".to_owned(),
            plural: "configmaps",
            shape: Shape::Object,
            protobuf: false,
            namespace: namespace.to_owned(),
            labels: String::new(),
            fields: String::new(),
        }
    }

    fn frame(after: u64, up_to: u64, bytes: usize) -> Frame {
        let bytes = Bytes::from(vec![b'x'; bytes]);
        Frame { after: Revision(after), up_to: Revision(up_to), bytes, events: 1 }
    }

    #[test]
    fn watchers_with_the_same_question_share_what_one_has_written() {
        let fanout = Fanout::default();
        let (one, two) = (fanout.join(question("a")), fanout.join(question("a")));
        let other = fanout.join(question("b"));
        one.share(&frame(7, 9, 100));
        let found = two.find(Revision(7)).expect("the frame is shared");
        assert_eq!((found.up_to, found.bytes.len()), (Revision(9), 100));
        assert!(two.find(Revision(8)).is_none(), "it does not begin there");
        assert!(other.find(Revision(7)).is_none(), "another question has other answers");
    }

    #[test]
    fn what_is_shared_is_bounded() {
        let fanout = Fanout::default();
        let (one, two) = (fanout.join(question("a")), fanout.join(question("a")));
        for number in 0..1000 {
            one.share(&frame(number, number + 1, 10));
        }
        assert_eq!(lock(&one.group.frames).queue.len(), WATCH_SHARED_FRAMES_MAX);
        assert!(two.find(Revision(999)).is_some());
        one.share(&frame(1000, 1001, WATCH_SHARED_BYTES_MAX + 1));
        let frames = lock(&one.group.frames);
        assert_eq!(
            (frames.queue.len(), frames.bytes),
            (0, 0),
            "a frame over the bound is not kept"
        );
    }

    #[test]
    fn a_watcher_alone_keeps_nothing_and_groups_end_with_their_watchers() {
        let fanout = Fanout::default();
        let alone = fanout.join(question("a"));
        alone.share(&frame(1, 2, 10));
        assert!(alone.find(Revision(1)).is_none());
        drop(alone);
        let _other = fanout.join(question("b"));
        assert_eq!(lock(&fanout.groups).len(), 1);
    }

    #[test]
    fn many_watchers_look_less_often() {
        let fanout = Fanout::default();
        let first = fanout.join(question("a"));
        assert_eq!(first.pace(), WATCH_PACE_MIN);
        let others: Vec<Place> = (0..10_000).map(|_| fanout.join(question("a"))).collect();
        assert_eq!(first.pace(), WATCH_PACE_MAX);
        drop(others);
        assert_eq!(first.pace(), WATCH_PACE_MIN);
    }
}
