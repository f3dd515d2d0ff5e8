//! What a watch promises (etcd's API guarantees, which Kubernetes' clients build on): *ordered*,
//! *unique*, *reliable*, *resumable*, *bookmarkable*, and events that say truly what they are.
//!
//! What must have been seen is put together from all that was told to anybody: acknowledged writes,
//! lists, and the events of all watchers, on all masters. Each revision is one change of one object.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::history::Tick;

/// A resource version.
pub type Revision = u64;

/// What an event says happened to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was not there before.
    Added,
    /// It was there before.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The object's name (with its namespace).
    pub key: String,
    /// What happened.
    pub kind: Kind,
    /// A digest of the object as it was told, without its resource version.
    pub digest: u64,
}

/// What a watcher was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A change.
    Event(Revision, Change),
    /// "All up to here was sent."
    Bookmark(Revision),
}

/// One watch as its client lived it: over several connections, perhaps to several masters, each
/// resumed at the last revision that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watcher {
    /// Who it is, for people.
    pub name: String,
    /// It asked for what comes after this.
    pub from: Revision,
    /// All that was sent, in the order of arrival.
    pub sent: Vec<Sent>,
    /// When it was told that history is gone.
    pub gone: Vec<Gone>,
    /// Where it began anew after that.
    pub relists: Vec<Relist>,
}

/// "What you ask for is forgotten" (410 Gone).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// When it was told.
    pub at: Tick,
    /// It asked for what comes after this.
    pub asked: Revision,
    /// Up to where masters then said that they had forgotten; `None` when none says.
    pub forgotten: Option<Revision>,
}

/// A list, from which a watch goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relist {
    /// So many events and bookmarks had come before it.
    pub after: usize,
    /// Of the list.
    pub revision: Revision,
    /// What was in it, with the revision of each.
    pub objects: Vec<(String, Revision)>,
}

impl Watcher {
    /// The last revision that it was sent, or listed since.
    #[must_use]
    pub fn last(&self) -> Revision {
        let relist = self.relists.last().filter(|relist| relist.after >= self.sent.len());
        let sent = self.sent.last().map(|sent| match sent {
            Sent::Event(revision, _) | Sent::Bookmark(revision) => *revision,
        });
        relist.map(|relist| relist.revision).or(sent).unwrap_or(self.from)
    }
}

/// What is known to have happened, from any source.
#[derive(Debug, Clone, Default)]
pub struct Log {
    changes: BTreeMap<Revision, Change>,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Two tell different things of one revision.
    #[error("revision {revision} is told in two ways: {first:?} and {second:?}")]
    TwoTruths {
        /// Which.
        revision: Revision,
        /// What was told first.
        first: Change,
        /// What was told then.
        second: Change,
    },
    /// Ordered, unique: a revision came after the same or a later one.
    #[error("{watcher}: revision {second} came after {first}")]
    Order {
        /// Whose watch.
        watcher: String,
        /// What came first.
        first: Revision,
        /// What came then.
        second: Revision,
    },
    /// Bookmarkable: what a bookmark had covered came after it, or a bookmark went back.
    #[error("{watcher}: revision {revision} came after the bookmark {bookmark}")]
    Bookmark {
        /// Whose watch.
        watcher: String,
        /// What was promised.
        bookmark: Revision,
        /// What came then.
        revision: Revision,
    },
    /// Reliable, resumable: a later change or bookmark came, this one never.
    #[error("{watcher}: revision {revision} ({change:?}) was never sent, {later} was")]
    Gap {
        /// Whose watch.
        watcher: String,
        /// What is missing.
        revision: Revision,
        /// What it was.
        change: Change,
        /// What shows that it should have come.
        later: Revision,
    },
    /// A list from which a watch goes on is older than what came before, or is not what was there at its revision.
    #[error("{watcher}: the list at {revision} after history was gone is wrong: {what}")]
    List {
        /// Whose watch.
        watcher: String,
        /// Of the list.
        revision: Revision,
        /// In words.
        what: String,
    },
    /// `ADDED` of what was there, `MODIFIED` or `DELETED` of what was not.
    #[error("revision {revision}: {change:?}, but before it the object was {before}")]
    Untrue {
        /// Which.
        revision: Revision,
        /// What it says.
        change: Change,
        /// `there` or `not there`.
        before: &'static str,
    },
}

impl Log {
    /// Takes in what somebody was told.
    ///
    /// # Errors
    /// [`Broken::TwoTruths`] when somebody else was told something else.
    pub fn tell(&mut self, revision: Revision, change: Change) -> Result<(), Broken> {
        match self.changes.get(&revision) {
            None => {
                self.changes.insert(revision, change);
                Ok(())
            }
            Some(first) if *first == change => Ok(()),
            Some(first) => {
                Err(Broken::TwoTruths { revision, first: first.clone(), second: change })
            }
        }
    }

    /// Takes in all that a watcher was sent.
    ///
    /// # Errors
    /// As [`Log::tell`].
    pub fn tell_all(&mut self, watcher: &Watcher) -> Result<(), Broken> {
        watcher.sent.iter().try_for_each(|sent| match sent {
            Sent::Event(revision, change) => self.tell(*revision, change.clone()),
            Sent::Bookmark(_) => Ok(()),
        })
    }

    /// How many changes are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// All of them, in order.
    pub fn changes(&self) -> impl Iterator<Item = (Revision, &Change)> {
        self.changes.iter().map(|(revision, change)| (*revision, change))
    }

    /// The newest revision that is known.
    #[must_use]
    pub fn last(&self) -> Option<Revision> {
        self.changes.keys().next_back().copied()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether each change is of the kind that it says. Only for a log that knows every change of
    /// its keys since before they existed.
    ///
    /// # Errors
    /// [`Broken::Untrue`], the first one.
    pub fn check_kinds(&self) -> Result<(), Broken> {
        let mut there: BTreeMap<&str, bool> = BTreeMap::new();
        for (revision, change) in &self.changes {
            let before = there.insert(&change.key, change.kind != Kind::Deleted).unwrap_or(false);
            if before == (change.kind == Kind::Added) {
                let before = if before { "there" } else { "not there" };
                return Err(Broken::Untrue { revision: *revision, change: change.clone(), before });
            }
        }
        Ok(())
    }

    /// Whether a watcher was sent what it was promised. The log must know all that can be known
    /// before the first watcher is checked.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn check(&self, watcher: &Watcher) -> Result<(), Broken> {
        let name = || watcher.name.clone();
        let mut last = watcher.from;
        let mut bookmark = None;
        let mut relists = watcher.relists.iter().peekable();
        for (index, sent) in watcher.sent.iter().enumerate() {
            while let Some(relist) = relists.next_if(|relist| relist.after <= index) {
                last = self.check_list(watcher, relist, last)?;
            }
            let (revision, is_event) = match sent {
                Sent::Event(revision, _) => (*revision, true),
                Sent::Bookmark(revision) => (*revision, false),
            };
            if let Some(bookmark) =
                bookmark.filter(
                    |bookmark| {
                        if is_event { revision <= *bookmark } else { revision < *bookmark }
                    },
                )
            {
                return Err(Broken::Bookmark { watcher: name(), bookmark, revision });
            }
            if if is_event { revision <= last } else { revision < last } {
                return Err(Broken::Order { watcher: name(), first: last, second: revision });
            }
            let end = if is_event { Bound::Excluded(revision) } else { Bound::Included(revision) };
            let skipped = (last < revision)
                .then(|| self.changes.range((Bound::Excluded(last), end)).next())
                .flatten();
            if let Some((missing, change)) = skipped {
                return Err(Broken::Gap {
                    watcher: name(),
                    revision: *missing,
                    change: change.clone(),
                    later: revision,
                });
            }
            if !is_event {
                bookmark = Some(revision);
            }
            last = revision;
        }
        relists.try_fold(last, |last, relist| self.check_list(watcher, relist, last)).map(drop)
    }

    /// Whether a list is one of its revision, and not older than what its reader knew; its revision.
    fn check_list(
        &self,
        watcher: &Watcher,
        relist: &Relist,
        last: Revision,
    ) -> Result<Revision, Broken> {
        let revision = relist.revision;
        let wrong = |what: String| {
            let watcher = watcher.name.clone();
            Err(Broken::List { watcher, revision, what })
        };
        if revision < last {
            return wrong(format!("{last} had been seen"));
        }
        let listed: BTreeMap<&str, Revision> =
            relist.objects.iter().map(|(key, revision)| (key.as_str(), *revision)).collect();
        let mut there: BTreeMap<&str, (Revision, bool)> = BTreeMap::new();
        // All before the log begins is not known.
        for (at, change) in self.changes.range(..=revision) {
            there.insert(&change.key, (*at, change.kind != Kind::Deleted));
        }
        for (key, (at, is_there)) in there {
            match listed.get(key) {
                Some(found) if !is_there => {
                    return wrong(format!("{key} is in it, of {found}, and was deleted at {at}"));
                }
                Some(found) if *found != at => {
                    return wrong(format!("{key} is of {found} in it, and was changed at {at}"));
                }
                None if is_there => return wrong(format!("{key} of {at} is not in it")),
                Some(_) | None => {}
            }
        }
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, kind: Kind) -> Change {
        Change { key: key.to_owned(), kind, digest: 1 }
    }

    fn watcher(from: Revision, sent: &[Sent]) -> Watcher {
        Watcher { name: "w".into(), from, sent: sent.to_vec(), ..Watcher::default() }
    }

    fn log() -> Log {
        let mut log = Log::default();
        log.tell(2, change("a", Kind::Added)).unwrap();
        log.tell(3, change("b", Kind::Added)).unwrap();
        log.tell(5, change("a", Kind::Modified)).unwrap();
        log.tell(8, change("a", Kind::Deleted)).unwrap();
        log
    }

    fn event(log: &Log, revision: Revision) -> Sent {
        Sent::Event(revision, log.changes[&revision].clone())
    }

    #[test]
    fn all_in_order_is_fine() {
        let log = log();
        let sent = [2, 3, 5].map(|revision| event(&log, revision));
        assert_eq!(log.check(&watcher(0, &sent)), Ok(()));
        assert_eq!(log.check(&watcher(2, &sent[1..])), Ok(()), "from where it asked");
        let marked = [event(&log, 5), Sent::Bookmark(6), Sent::Bookmark(7), event(&log, 8)];
        assert_eq!(log.check(&watcher(3, &marked)), Ok(()));
        assert_eq!(log.check_kinds(), Ok(()));
    }

    #[test]
    fn each_promise_can_be_broken() {
        let log = log();
        let back = [event(&log, 3), event(&log, 2)];
        assert!(matches!(log.check(&watcher(2, &back)), Err(Broken::Order { second: 2, .. })));
        let twice = [event(&log, 3), event(&log, 3)];
        assert!(matches!(log.check(&watcher(2, &twice)), Err(Broken::Order { .. })));
        let before_start = [event(&log, 2)];
        assert!(matches!(log.check(&watcher(2, &before_start)), Err(Broken::Order { .. })));
        let gap = [event(&log, 2), event(&log, 5)];
        assert!(matches!(log.check(&watcher(0, &gap)), Err(Broken::Gap { revision: 3, .. })));
        let early = [event(&log, 2), Sent::Bookmark(3)];
        assert!(matches!(log.check(&watcher(0, &early)), Err(Broken::Gap { revision: 3, .. })));
        let late = [Sent::Bookmark(3), event(&log, 3)];
        assert!(matches!(log.check(&watcher(3, &late)), Err(Broken::Bookmark { bookmark: 3, .. })));
    }

    #[test]
    fn a_list_explains_a_gap_when_it_is_what_was_there() {
        let log = log();
        let again = |after, revision, objects: &[(&str, Revision)]| {
            let objects = objects.iter().map(|(key, at)| ((*key).to_owned(), *at)).collect();
            let sent = [event(&log, 2), event(&log, 8)];
            let relists = vec![Relist { after, revision, objects }];
            log.check(&Watcher { relists, ..watcher(0, &sent) })
        };
        assert_eq!(again(1, 5, &[("a", 5), ("b", 3), ("older", 1)]), Ok(()));
        assert!(matches!(again(1, 3, &[("a", 2), ("b", 3)]), Err(Broken::Gap { revision: 5, .. })));
        for (after, revision, objects) in [
            (1, 1, &[("a", 1)][..]),
            (1, 5, &[("a", 5)]),
            (1, 5, &[("a", 2), ("b", 3)]),
            (0, 8, &[("a", 8), ("b", 3)]),
        ] {
            let found = again(after, revision, objects);
            assert!(matches!(found, Err(Broken::List { .. })), "{objects:?}: {found:?}");
        }
        let list = Relist { after: 1, revision: 7, objects: Vec::new() };
        let mut watcher = watcher(0, &[event(&log, 2)]);
        assert_eq!(watcher.last(), 2);
        watcher.relists.push(list);
        assert_eq!(watcher.last(), 7);
        watcher.sent.push(event(&log, 8));
        assert_eq!(watcher.last(), 8);
    }

    #[test]
    fn one_revision_is_one_change() {
        let mut log = log();
        let other = Change { digest: 2, ..change("a", Kind::Added) };
        assert!(matches!(log.tell(2, other), Err(Broken::TwoTruths { revision: 2, .. })));
    }

    #[test]
    fn events_say_what_they_are() {
        let mut log = log();
        log.tell(9, change("a", Kind::Modified)).unwrap();
        assert!(matches!(log.check_kinds(), Err(Broken::Untrue { revision: 9, .. })));
        let mut log = self::log();
        log.tell(4, change("b", Kind::Added)).unwrap();
        assert!(matches!(log.check_kinds(), Err(Broken::Untrue { revision: 4, .. })));
    }
}
