//! A cluster that goes on from an earlier state, a backup or what one survivor had, has exactly that: every change up
//! to its revision, none that is later; its revisions go on after all that anybody was told, and who watches from
//! before is told that the past is gone (410). What was acknowledged after that revision is lost, as is meant.
//!
//! Source: `docs/runbooks/backup-and-restore.md`, `docs/runbooks/quorum-loss.md`. The state of a revision is put
//! together from all that watchers were sent and clients were answered, as for the other checks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::agreement::content;
use super::membership::{self, Membership};
use super::watch::{Kind, Revision};
use super::watches::log_of;
use crate::history::Outcome;
use crate::model::Family;
use crate::real::workload::Resource;
use crate::report::{Check, Evidence};
use crate::scenario::Fault;

const NAME: &str = "disaster";

/// What came of a disaster at the end of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Disaster {
    /// `restore` or `quorum-lost`.
    pub fault: Fault,
    /// What was done, in words.
    pub told: Vec<String>,
    /// Of the state that goes on, as the backup or the survivor says.
    pub at: Revision,
    /// Up to here everything that was acknowledged is in it for certain. That is all of it, but for a survivor behind
    /// whose back another has led: what it took last as leader may stand where the others have something else.
    pub certain: Revision,
    /// The newest that anybody was told before it.
    pub newest: Revision,
    /// What each master listed afterwards.
    pub lists: Vec<Listed>,
    /// Watches from before that were asked for afterwards.
    pub watches: Vec<Watched>,
    /// What was written just before the quorum was lost.
    pub writes: Vec<Write>,
    /// How each master saw the cluster afterwards.
    pub memberships: Vec<Membership>,
}

/// What a master listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Which.
    pub by: String,
    /// Of the list.
    pub revision: Revision,
    /// Each object of the workload, with its revision and a digest of what it says.
    pub objects: BTreeMap<String, (Revision, u64)>,
    /// What those objects hold that were written just before the quorum was lost.
    pub values: BTreeMap<String, u64>,
}

/// A watch that asked for what comes after a revision of before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Watched {
    /// Which master.
    pub by: String,
    /// The revision.
    pub from: Revision,
    /// What it was told: 410, or something else.
    pub told: String,
}

/// A write; the values of an object go up, and one that has no answer is its last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Write {
    /// The object's name.
    pub object: String,
    /// What it was to hold.
    pub value: u64,
    /// Its revision; `None` when nobody knows whether it was done.
    pub acknowledged: Option<Revision>,
}

/// Fails for each promise that was not kept; `None` for runs without a disaster.
#[must_use]
pub fn check(evidence: &Evidence) -> Option<Check> {
    let asked = evidence.options.scenario.schedule.iter().find(|step| step.fault.ends_run())?;
    let Some(disaster) = &evidence.disaster else {
        let why = format!("{} did not come to its end: the run was cut short", asked.fault);
        return Some(Check::unknown(NAME, String::new(), &why));
    };
    let Disaster { at, newest, lists, writes, .. } = disaster;
    let lost = writes.iter().filter(|write| write.acknowledged > Some(*at)).count();
    let later = evidence.acknowledged.iter().filter(|(revision, _)| revision > at).count();
    let checked = format!(
        "{} masters list the state of revision {at}; {} of {} acknowledged writes were later, and are lost",
        lists.len(),
        lost + later,
        evidence.acknowledged.len()
            + writes.iter().filter(|write| write.acknowledged.is_some()).count()
    );
    let expected = match state_at(evidence, *at) {
        Ok(expected) => expected,
        Err(why) => return Some(Check::unknown(NAME, checked, &why)),
    };
    let names: Vec<String> =
        (0..evidence.options.scenario.masters).map(|one| evidence.options.name(one)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut found = membership::wrong(&disaster.memberships, &names);
    for (what, count) in [("listed", lists.len()), ("told", disaster.memberships.len())] {
        if count < names.len() {
            found.push(format!("{count} of {} masters {what} anything afterwards", names.len()));
        }
    }
    for list in lists {
        found.extend(wrong_in(list, &expected, *newest));
        found.extend(lost_in(list, writes, (disaster.certain, *at)));
    }
    found.extend(disaster.watches.iter().filter(|watch| watch.told != "410").map(|watch| {
        let Watched { by, from, told } = watch;
        format!("{by}: a watch from {from}, of before, was told {told}, not 410")
    }));
    Some(Check::broken(NAME, checked, found))
}

/// What must be there, and what may be anything, since nobody knows what became of a write to it.
struct Expected {
    digests: BTreeMap<String, u64>,
    open: BTreeSet<String>,
}

/// All objects at a revision: as they were listed when the clients had ended, or, before that, as the watchers saw them
/// come about. What was deleted after the watchers had come to the marker need not have been told to any of them.
fn state_at(evidence: &Evidence, at: Revision) -> Result<Expected, String> {
    let (seen, listed) = (evidence.marker.unwrap_or_default(), evidence.last.first());
    let listed = listed.and_then(|list| Some((revision_of(list)?, list)));
    match listed {
        Some((last, list)) if last <= at => {
            let there = content(list).into_iter();
            let digests = there.filter_map(|(name, told)| Some((name, told?.1))).collect();
            // What nobody answered may still have come about.
            let open = evidence.history.iter();
            let open = open.filter(|one| one.operation.outcome == Outcome::Unknown);
            Ok(Expected { digests, open: open.map(|recorded| recorded.object()).collect() })
        }
        _ if at <= seen => watched_at(evidence, at),
        _ => Err(format!(
            "watchers had seen all up to {seen} only; what was there at {at} is not known"
        )),
    }
}

/// All objects at a revision that is not later than the marker: watchers have seen everything up to there.
fn watched_at(evidence: &Evidence, at: Revision) -> Result<Expected, String> {
    let mut digests = BTreeMap::new();
    for resource in [Resource::ConfigMaps, Resource::Leases] {
        let own = evidence.watchers.iter().zip(&evidence.resources);
        let mut own = own.filter(|(_, of)| **of == resource).map(|(watcher, _)| watcher).peekable();
        if own.peek().is_some() && own.all(|watcher| !watcher.relists.is_empty()) {
            return Err("no watcher saw all changes: what was there is not known".to_owned());
        }
        for (_, change) in log_of(evidence, resource).0.changes().take_while(|one| one.0 <= at) {
            match change.kind {
                Kind::Deleted => drop(digests.remove(&change.key)),
                _ => drop(digests.insert(change.key.clone(), change.digest)),
            }
        }
    }
    digests.retain(|name, _| is_ours(name));
    Ok(Expected { digests, open: BTreeSet::new() })
}

fn revision_of(list: &Value) -> Option<Revision> {
    list["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

fn is_ours(name: &str) -> bool {
    Family::ALL.iter().any(|family| name.starts_with(family.prefix()))
}

fn wrong_in(list: &Listed, expected: &Expected, newest: Revision) -> Vec<String> {
    let Listed { by, revision, objects, .. } = list;
    let mut wrong = Vec::new();
    if *revision <= newest {
        wrong.push(format!(
            "{by}: the list is of revision {revision}, and {newest} was told before"
        ));
    }
    let names: BTreeSet<&String> = objects.keys().chain(expected.digests.keys()).collect();
    for name in names.into_iter().filter(|name| !expected.open.contains(*name)) {
        match (objects.get(name), expected.digests.get(name)) {
            (None, Some(_)) => wrong.push(format!("{by}: {name} is lost")),
            (Some(_), None) => wrong.push(format!("{by}: {name} was not there then")),
            (Some((_, found)), Some(meant)) if found != meant => {
                wrong.push(format!("{by}: {name} says something else than then"));
            }
            _ => {}
        }
    }
    for (name, (revision, _)) in objects.iter().filter(|(_, (revision, _))| *revision <= newest) {
        wrong.push(format!("{by}: {name} is of revision {revision}, and {newest} was told before"));
    }
    wrong
}

/// What should have survived of the last writes, and has not; or the other way round.
fn lost_in(list: &Listed, writes: &[Write], (certain, at): (Revision, Revision)) -> Vec<String> {
    let mut objects: BTreeMap<&str, Kept> = BTreeMap::new();
    for Write { object, value, acknowledged } in writes {
        let kept = objects.entry(object).or_default();
        kept.tried = kept.tried.max(*value);
        match acknowledged {
            Some(revision) if *revision <= certain => kept.least = kept.least.max(*value),
            Some(_) => {}
            None => kept.open = Some(*value),
        }
    }
    let found = |name: &str| list.values.get(name).copied().unwrap_or_default();
    let wrong = objects.into_iter().filter(|(name, kept)| {
        let found = found(name);
        let may_be_more = certain < at && (kept.least..=kept.tried).contains(&found);
        found != kept.least && Some(found) != kept.open && !may_be_more
    });
    wrong
        .map(|(name, Kept { least, .. })| {
            let (by, found) = (&list.by, found(name));
            format!("{by}: {name} holds {found}; up to revision {certain}, which is there, {least} was written")
        })
        .collect()
}

/// What an object must hold, may hold in spite of that, and can hold at most.
#[derive(Debug, Default)]
struct Kept {
    least: u64,
    open: Option<u64>,
    tried: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::watch::Change;
    use crate::real::Options;
    use crate::scenario::builtin::scenario;

    /// Watchers came to revision 100; the last lists are of 110, with one object.
    fn evidence() -> Evidence {
        let options = Options {
            binary: "quorate".into(),
            older: None,
            directory: "run".into(),
            scenario: scenario("quorum-lost", 1).unwrap(),
            seed: 1,
            names: Vec::new(),
            beyond_quorum: false,
            command: String::new(),
            say: |_| {},
            rewrite: None,
        };
        let metadata =
            |name: &str| serde_json::json!({"name": name, "uid": "u", "resourceVersion": "90"});
        let items = [serde_json::json!({"metadata": metadata("register-1")})];
        let version = serde_json::json!({"resourceVersion": "110"});
        let change = |key: &str, digest| Change { key: key.to_owned(), kind: Kind::Added, digest };
        let acknowledged = vec![(90, change("register-1", 7)), (95, change("register-2", 8))];
        Evidence {
            acknowledged,
            marker: Some(100),
            last: vec![serde_json::json!({"metadata": version, "items": items})],
            ..Evidence::of_nothing(&options, None)
        }
    }

    #[test]
    fn what_was_there_at_the_end_is_what_was_listed_then() {
        let evidence = evidence();
        let names =
            |at| state_at(&evidence, at).map(|state| state.digests.into_keys().collect::<Vec<_>>());
        // The second was deleted after watchers had ended: its deletion was told to its client alone, with no revision.
        assert_eq!(names(100).unwrap(), ["register-1", "register-2"]);
        assert_eq!(names(110).unwrap(), ["register-1"]);
        assert_eq!(names(120).unwrap(), ["register-1"]);
        assert!(names(105).unwrap_err().contains("up to 100 only"));
        let evidence = Evidence { last: Vec::new(), ..evidence };
        assert!(state_at(&evidence, 110).is_err());
    }

    fn listed(objects: &[(&str, Revision, u64)], values: &[(&str, u64)]) -> Listed {
        Listed {
            by: "m1".to_owned(),
            revision: 1_000,
            objects: objects.iter().map(|one| (one.0.to_owned(), (one.1, one.2))).collect(),
            values: values.iter().map(|one| (one.0.to_owned(), one.1)).collect(),
        }
    }

    #[test]
    fn exactly_what_was_there_is_there_again() {
        let digests = [("list-1".to_owned(), 7), ("list-2".to_owned(), 8)].into();
        let expected = Expected { digests, open: BTreeSet::from(["list-3".to_owned()]) };
        let wrong = |objects: &[(&str, Revision, u64)]| {
            wrong_in(&listed(objects, &[]), &expected, 100).join("; ")
        };
        let both = [("list-1", 900, 7), ("list-2", 901, 8)];
        assert_eq!(wrong(&both), "");
        assert_eq!(wrong(&[both[0], both[1], ("list-3", 902, 1)]), "", "nobody knows");
        assert_eq!(wrong(&both[..1]), "m1: list-2 is lost");
        assert_eq!(wrong(&[both[0], both[1], ("list-4", 902, 1)]), "m1: list-4 was not there then");
        assert!(wrong(&[both[0], ("list-2", 901, 9)]).contains("list-2 says something else"));
        assert!(wrong(&[both[0], ("list-2", 99, 8)]).contains("list-2 is of revision 99"));
        assert!(!wrong_in(&listed(&[], &[]), &expected, 1_000).is_empty(), "it goes on too low");
    }

    #[test]
    fn what_the_survivor_had_is_kept_and_no_more_is_lost() {
        let write = |value, acknowledged| Write { object: "w".to_owned(), value, acknowledged };
        let writes = [write(1, Some(10)), write(2, Some(20)), write(3, Some(30)), write(4, None)];
        let lost = |found: u64, at| lost_in(&listed(&[], &[("w", found)]), &writes, (at, at)).len();
        assert_eq!([lost(3, 30), lost(2, 25), lost(4, 30), lost(4, 25)], [0; 4]);
        assert_eq!([lost(2, 30), lost(3, 25), lost(1, 20), lost(5, 30)], [1; 4]);
        assert_eq!(lost_in(&listed(&[], &[]), &writes, (5, 5)).len(), 0, "nothing of it was there");
        assert_eq!(lost_in(&listed(&[], &[]), &writes, (10, 10)).len(), 1);
        // Another led behind the survivor's back: it may hold what nobody else took, and lack what others did.
        let old = |found: u64| lost_in(&listed(&[], &[("w", found)]), &writes, (20, 30)).len();
        assert_eq!([old(1), old(2), old(3), old(4), old(5)], [1, 0, 0, 0, 1]);
    }
}
