//! A lease has one holder at a time, and counts how often it changed hands.
//!
//! Source: client-go's leader election, which controllers and operators rely on: `leaseTransitions` goes up by one with
//! each new holder and never else; who was told that it holds the lease relies on it for [`RELIED`] after it asked,
//! and nobody else is told so in that time. (That updates are compare-and-sets is
//! [`conditional`](super::conditional) and [`linearizable`](super::linearizable).)

use std::collections::BTreeMap;

use crate::history::Tick;
use crate::model::{Content, Input, Output, VersionedInput};
use crate::real::workload::leases::RELIED;
use crate::real::workload::{Recorded, Told};
use crate::report::violation::{self, Violation};
use crate::report::{Check, Evidence};

const NAME: &str = "leases";

/// Fails for each wrong count and each time with two holders.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let (mut found, mut first) = (Vec::new(), None::<Violation>);
    let mut tell = |what: String, at: Tick, object: &str| {
        if first.as_ref().is_none_or(|first: &Violation| at < first.at) {
            first = Some(violation::around(evidence, NAME, &what, at, Some(object)));
        }
        found.push(what);
    };
    let (changes, counted) = miscounted(&evidence.contents);
    for (told, what) in counted {
        tell(what, violation::arrival(evidence, None, told.0), &told.1);
    }
    let terms = terms(&evidence.history);
    for (object, own) in &terms {
        for what in overlaps(own) {
            tell(format!("{object}: {}", what.1), what.0, object);
        }
    }
    let terms: usize = terms.values().map(Vec::len).sum();
    let checked = format!("{terms} grants, {changes} changes of holder");
    if terms == 0 && found.is_empty() {
        return Check::unknown(NAME, checked, "nobody got a lease");
    }
    Check { violation: first, ..Check::broken(NAME, checked, found) }
}

/// How often a holder changed, and where that was not counted right. In the order of revisions.
fn miscounted(contents: &[Told]) -> (usize, Vec<(&Told, String)>) {
    let (mut changes, mut wrong) = (0, Vec::new());
    let mut last: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for told in contents {
        let (revision, object, Content::Lease { holder, transitions }) = told else { continue };
        let before = last.insert(object, (holder, *transitions));
        let (by, expected) = match before {
            None => ("", 0),
            Some((before, count)) if before != holder && !holder.is_empty() => (before, count + 1),
            Some((before, count)) => (before, count),
        };
        changes += usize::from(by != holder && !holder.is_empty());
        if *transitions != expected {
            let what = format!(
                "{object} at revision {revision}: {transitions} transitions, {expected} are right \
                 ({by:?} before, {holder:?} then)"
            );
            wrong.push((told, what));
        }
    }
    (changes, wrong)
}

/// A time in which a holder relies on a lease: it was told of it, until then.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    holder: String,
    from: Tick,
    to: Tick,
}

/// By lease, in the order in which they were told.
fn terms(history: &[Recorded]) -> BTreeMap<String, Vec<Term>> {
    let mut terms: BTreeMap<String, Vec<Term>> = BTreeMap::new();
    let mut released: Vec<(String, u32, Tick)> = Vec::new();
    let relied = Tick::try_from(RELIED.as_nanos()).unwrap_or(Tick::MAX);
    for recorded in history {
        let Input::Lease(
            VersionedInput::Create(_, content) | VersionedInput::Update { content, .. },
        ) = &recorded.operation.input
        else {
            continue;
        };
        let Content::Lease { holder, .. } = content else { continue };
        let called = recorded.operation.called;
        if holder.is_empty() {
            released.push((recorded.object(), recorded.operation.client, called));
        } else if recorded.operation.output().is_some_and(Output::is_written) {
            let from = recorded.operation.returned().unwrap_or(called);
            let term = Term { holder: holder.clone(), from, to: called.saturating_add(relied) };
            terms.entry(recorded.object()).or_default().push(term);
        }
    }
    // Who gives it back does not rely on it any more.
    for (object, client, at) in released {
        let holder = format!("candidate-{client}");
        for term in terms.get_mut(&object).into_iter().flatten() {
            if term.holder == holder && term.from <= at {
                term.to = term.to.min(at);
            }
        }
    }
    for own in terms.values_mut() {
        own.retain(|term| term.from < term.to);
        own.sort_by_key(|term| term.from);
    }
    terms
}

/// Times at which two rely on one lease.
fn overlaps(terms: &[Term]) -> Vec<(Tick, String)> {
    let mut found = Vec::new();
    let mut last: Option<&Term> = None;
    for term in terms {
        if let Some(last) = last.filter(|last| last.holder != term.holder && term.from < last.to) {
            let milliseconds = (last.to - term.from) / 1_000_000;
            let what = format!(
                "{} was told that it holds it while {} relied on it, for {milliseconds} ms more",
                term.holder, last.holder
            );
            found.push((term.from, what));
        }
        if last.is_none_or(|last| last.to < term.to) {
            last = Some(term);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(revision: u64, holder: &str, transitions: u64) -> Told {
        (revision, "lease-0".into(), Content::Lease { holder: holder.into(), transitions })
    }

    #[test]
    fn changes_are_counted() {
        let wrong = |told: &[Told]| miscounted(told).1.len();
        let good = [
            told(1, "a", 0),
            told(2, "a", 0),
            told(3, "b", 1),
            told(4, "", 1),
            told(5, "b", 2),
            told(6, "a", 3),
        ];
        assert_eq!((wrong(&good), miscounted(&good).0), (0, 4));
        assert_eq!(wrong(&[told(1, "a", 0), told(2, "b", 0)]), 1, "not counted");
        assert_eq!(wrong(&[told(1, "a", 0), told(2, "a", 1)]), 1, "the same one");
        assert_eq!(wrong(&[told(1, "a", 5), told(2, "b", 4)]), 2, "it went back");
        assert_eq!(wrong(&[told(1, "a", 0), told(2, "", 1)]), 1, "nobody is no holder");
    }

    #[test]
    fn two_holders_at_once_are_seen() {
        let term = |holder: &str, from, to| Term { holder: holder.into(), from, to };
        let good = [term("a", 0, 5), term("a", 3, 8), term("b", 9, 12)];
        assert_eq!(overlaps(&good), []);
        let bad = [term("a", 0, 5), term("b", 4, 9)];
        assert_eq!(overlaps(&bad).len(), 1);
        let within = [term("a", 0, 20), term("a", 1, 5), term("b", 6, 7)];
        assert_eq!(overlaps(&within).len(), 1, "the longer one counts");
    }
}
