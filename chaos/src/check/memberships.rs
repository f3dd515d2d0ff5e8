//! All memberships that masters have applied, at any time: one entry of the log says the same everywhere, nobody who
//! was taken out is ever back under the number that he had, and who only gets the log does not vote.
//!
//! Source: Raft, section 6 and figure 3 (state machine safety); `reliability.md` section 8, (17): "node ID never
//! repeats"; section 1.4, etcd's zombie members and learners.

use std::collections::{BTreeMap, BTreeSet};

/// Memberships that are remembered, the newest of them.
const REMEMBERED_MAX: usize = 4000;

/// A member, as an entry of the log has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// Its number: the index of an entry that was written for it, before the one that made it a member.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it is meant not to.
    pub standby: bool,
}

/// What an entry of the log makes of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seats {
    /// All of them.
    pub all: BTreeSet<Seat>,
    /// A change is half done: these are the voters before it, and those after it.
    pub joint: bool,
}

impl Seats {
    fn has(&self, id: u64) -> bool {
        self.all.iter().any(|seat| seat.id == id)
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Course {
    at: BTreeMap<u64, (String, Seats)>,
}

impl Course {
    /// A master says what the entry at an index, which it has applied, makes of the members.
    ///
    /// # Errors
    /// What is wrong with that.
    pub fn tell(&mut self, by: &str, index: u64, seats: Seats) -> Result<(), String> {
        if let Some((first, known)) = self.at.get(&index) {
            return match *known == seats {
                true => Ok(()),
                false => Err(format!("entry {index}: {first} has {known:?}, {by} has {seats:?}")),
            };
        }
        let mut wrong = None;
        for seat in &seats.all {
            if seat.standby && seat.voter && !seats.joint {
                let name = &seat.name;
                wrong = Some(format!("entry {index}: {name} is a standby, and votes, says {by}"));
            }
            // A membership between the entry that its number is of and this one, without it.
            let after = seat.id.saturating_add(1);
            let between = self.at.range(after..index.max(after));
            let gone = between.filter(|(_, (_, other))| !other.has(seat.id)).map(|(at, _)| *at);
            if let Some(gone) = gone.max() {
                let Seat { id, name, .. } = seat;
                wrong = Some(format!(
                    "entry {index}: {name} is there as {id}, which was gone at {gone}, says {by}"
                ));
            }
        }
        self.at.insert(index, (by.to_owned(), seats));
        if self.at.len() > REMEMBERED_MAX {
            self.at.pop_first();
        }
        wrong.map_or(Ok(()), Err)
    }

    /// How many were seen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(joint: bool, all: &[(u64, bool, bool)]) -> Seats {
        let seat = |(id, voter, standby): &(u64, bool, bool)| Seat {
            id: *id,
            name: format!("m{id}"),
            voter: *voter,
            standby: *standby,
        };
        Seats { joint, all: all.iter().map(seat).collect() }
    }

    #[test]
    fn a_walk_is_right() {
        let mut course = Course::default();
        let (one, two) = ((1, true, false), (5, true, false));
        course.tell("m1", 2, seats(false, &[one])).unwrap();
        course.tell("m1", 6, seats(false, &[one, (5, false, false)])).unwrap();
        course.tell("m2", 8, seats(false, &[one, two])).unwrap();
        // Demoted: of the old voters still, while it is half done.
        course.tell("m2", 10, seats(true, &[one, (5, true, true)])).unwrap();
        course.tell("m1", 11, seats(false, &[one, (5, false, true)])).unwrap();
        course.tell("m1", 13, seats(false, &[one])).unwrap();
        // One that was made of a backup has the number of that entry.
        course.tell("m1", 90, seats(false, &[(90, true, false)])).unwrap();
        // The same machine, another number.
        course.tell("m1", 16, seats(false, &[one, (15, false, false)])).unwrap();
        course.tell("m2", 8, seats(false, &[one, two])).unwrap();
        assert_eq!(course.len(), 8);
    }

    #[test]
    fn who_is_back_who_votes_and_who_differs_is_found() {
        let mut course = Course::default();
        let one = (1, true, false);
        course.tell("m1", 6, seats(false, &[one, (5, true, false)])).unwrap();
        course.tell("m1", 9, seats(false, &[one])).unwrap();
        let back = course.tell("m1", 12, seats(false, &[one, (5, true, false)])).unwrap_err();
        assert!(back.contains("m5 is there as 5, which was gone at 9"), "{back}");
        let two = course.tell("m2", 6, seats(false, &[one])).unwrap_err();
        assert!(two.starts_with("entry 6: m1 has"), "{two}");
        let votes = course.tell("m2", 20, seats(false, &[one, (18, true, true)])).unwrap_err();
        assert!(votes.contains("m18 is a standby, and votes"), "{votes}");
    }
}
