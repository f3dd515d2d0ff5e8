//! Lists: each read is the beginning of every longer one; no element is lost, doubled, or from nowhere; an append that
//! was answered is in every read that is called later, and before every append that is called later.
//!
//! Source: Elle (Kingsbury and Alvaro 2020), list-append: reads of an append-only list show the order of all writes, so
//! these rules find without a search what the search for an order finds, however long the list is.

use std::collections::BTreeMap;

use super::objects::Objects;
use crate::model::{AppendInput, AppendOutput, Family, Input, Output};
use crate::real::workload::Recorded;
use crate::report::violation::Violation;
use crate::report::violation::{self, sentence};
use crate::report::{Check, Evidence};

const NAME: &str = "lists";

/// Fails for each list that breaks a rule.
#[must_use]
pub fn check(evidence: &Evidence, objects: &Objects<'_>) -> Check {
    let (mut found, mut first, mut elements, mut lists) = (Vec::new(), None::<Violation>, 0, 0);
    for ((family, key), own) in objects.iter().filter(|((family, _), _)| *family == Family::Append)
    {
        lists += 1;
        let object = family.object(*key);
        match explain(own) {
            Ok(count) => elements += count,
            Err((recorded, why)) => {
                let what = format!("{object}: {why}: {}", sentence(evidence, recorded));
                let at = recorded.operation.returned().unwrap_or_default();
                if first.as_ref().is_none_or(|first| at < first.at) {
                    first = Some(violation::around(evidence, NAME, &what, at, Some(&object)));
                }
                found.push(what);
            }
        }
    }
    let checked = format!("{elements} elements in {lists} lists");
    if elements == 0 && found.is_empty() {
        return Check::unknown(NAME, checked, "no list had an element");
    }
    Check { violation: first, ..Check::broken(NAME, checked, found) }
}

/// How many elements the longest read has, or what is wrong with which operation.
fn explain<'a>(own: &[&'a Recorded]) -> Result<usize, (&'a Recorded, String)> {
    let reads = || {
        own.iter().filter_map(|recorded| match recorded.operation.output() {
            Some(Output::Append(AppendOutput::Elements(list))) => Some((*recorded, list)),
            _ => None,
        })
    };
    let Some((_, order)) = reads().max_by_key(|(_, list)| list.len()) else { return Ok(0) };
    let mut places: BTreeMap<u64, usize> = BTreeMap::new();
    for (recorded, list) in reads() {
        if !order.starts_with(list) {
            return Err((recorded, "two reads saw different orders".to_owned()));
        }
        if list.len() == order.len() && places.is_empty() {
            for (place, element) in list.iter().enumerate() {
                if places.insert(*element, place).is_some() {
                    return Err((recorded, format!("{element} is there twice")));
                }
            }
        }
    }
    let mut pushes: BTreeMap<u64, &Recorded> = BTreeMap::new();
    for recorded in own {
        if let Input::Append(AppendInput::Push(element)) = recorded.operation.input {
            pushes.insert(element, recorded);
        }
    }
    for (recorded, list) in reads() {
        if let Some(element) = list.iter().find(|element| !pushes.contains_key(element)) {
            return Err((recorded, format!("nobody appended {element}")));
        }
        if let Some(early) = list.iter().find(|element| {
            let returned = recorded.operation.returned().unwrap_or_default();
            pushes[element].operation.called > returned
        }) {
            return Err((recorded, format!("{early} was appended only later")));
        }
    }
    in_time(&reads().collect::<Vec<_>>(), &pushes, &places)?;
    Ok(order.len())
}

/// Real time: what was answered before a call is there for it.
fn in_time<'a>(
    reads: &[(&'a Recorded, &Vec<u64>)],
    pushes: &BTreeMap<u64, &'a Recorded>,
    places: &BTreeMap<u64, usize>,
) -> Result<(), (&'a Recorded, String)> {
    let mut answered: Vec<(u64, Option<usize>, &Recorded)> = Vec::new();
    for (element, recorded) in pushes {
        if let Some(at) = recorded.operation.returned() {
            answered.push((at, places.get(element).copied(), recorded));
        }
    }
    answered.sort_by_key(|(at, ..)| *at);
    // The farthest place of what had been answered by then.
    let mut farthest: Vec<(u64, usize)> = Vec::new();
    let mut lost: Option<(u64, &Recorded)> = None;
    for (at, place, recorded) in &answered {
        match place {
            Some(place) => {
                let before = farthest.last().map_or(0, |(_, farthest)| *farthest);
                farthest.push((*at, before.max(place + 1)));
            }
            None if lost.is_none() => lost = Some((*at, *recorded)),
            None => {}
        }
    }
    let needed = |called: u64| {
        let before = farthest.partition_point(|(at, _)| *at < called);
        before.checked_sub(1).map_or(0, |index| farthest[index].1)
    };
    for (recorded, list) in reads {
        let called = recorded.operation.called;
        if list.len() < needed(called) {
            return Err((recorded, "an append that was answered before is not in it".to_owned()));
        }
        if let Some((_, push)) = lost.filter(|(at, _)| *at < called) {
            return Err((push, "it was answered, and no later read has it".to_owned()));
        }
    }
    for (element, recorded) in pushes {
        let Some(place) = places.get(element) else { continue };
        if *place < needed(recorded.operation.called) {
            let why = "it is before an append that was answered before it was called";
            return Err((recorded, why.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Operation, Outcome};

    fn push(called: u64, at: Option<u64>, element: u64) -> Recorded {
        let output = Output::Append(AppendOutput::Pushed);
        let outcome = at.map_or(Outcome::Unknown, |at| Outcome::Done { at, output });
        recorded(called, Input::Append(AppendInput::Push(element)), outcome)
    }

    fn read(called: u64, elements: &[u64]) -> Recorded {
        let output = Output::Append(AppendOutput::Elements(elements.to_vec()));
        let outcome = Outcome::Done { at: called + 1, output };
        recorded(called, Input::Append(AppendInput::Read), outcome)
    }

    fn recorded(called: u64, input: Input, outcome: Outcome<Output>) -> Recorded {
        let operation = Operation { client: 1, called, input, outcome };
        Recorded { key: 0, master: 0, operation, revision: None, under: None }
    }

    fn why(history: &[Recorded]) -> String {
        let own: Vec<&Recorded> = history.iter().collect();
        explain(&own).map_or_else(|(_, why)| why, |count| format!("{count} elements"))
    }

    #[test]
    fn a_list_that_grows_is_right() {
        let history = [
            push(0, Some(9), 1),
            push(1, None, 2),
            read(4, &[2]),
            push(10, Some(12), 3),
            read(20, &[2, 1, 3]),
            read(5, &[2, 1]),
            push(21, None, 4),
        ];
        assert_eq!(why(&history), "3 elements");
    }

    #[test]
    fn each_rule_can_be_broken() {
        let (one, two) = (push(0, Some(1), 1), push(2, Some(3), 2));
        let with = |reads: &[Recorded]| {
            let history: Vec<Recorded> =
                [one.clone(), two.clone()].into_iter().chain(reads.iter().cloned()).collect();
            why(&history)
        };
        assert_eq!(with(&[read(4, &[1, 2])]), "2 elements");
        assert!(with(&[read(4, &[1, 2]), read(6, &[2])]).contains("different orders"));
        assert!(with(&[read(4, &[1, 2, 1])]).contains("1 is there twice"));
        assert!(with(&[read(4, &[1, 2, 9])]).contains("nobody appended 9"));
        assert!(with(&[read(4, &[1])]).contains("no later read has it"));
        assert!(with(&[read(4, &[2, 1])]).contains("answered before it was called"));
        assert!(with(&[read(4, &[1]), read(6, &[1, 2])]).contains("is not in it"), "stale");
        let early = [read(0, &[7]), push(5, Some(6), 7)];
        assert!(why(&early).contains("only later"));
    }
}
