//! Terms go up, and who led them.
//!
//! Source: Raft's election safety, as openraft has it in this build: a leader's id is its term *and* its node
//! (`leader_id_adv`), and of two leaders with one term the one with the greater node replaces the other. So two leaders
//! in one term are allowed, and reported; what must not be is a master whose term goes back, through restarts too.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Tick;
use crate::real::observer::State;
use crate::report::violation::{self, Violation};
use crate::report::{Check, Evidence};
use crate::scenario::Fault;

const NAME: &str = "leaders";

/// Whether a master's files are just then those of an earlier time, or gone.
fn is_put_back(evidence: &Evidence, name: &str, at: Tick) -> bool {
    evidence.injected.iter().any(|injected| {
        matches!(injected.fault, Fault::Rollback | Fault::Replace)
            && injected.targets.iter().any(|target| target == name)
            && (injected.from..=injected.to).contains(&at)
    })
}

/// Fails for each term that went back.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let mut leaders: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    let mut terms: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut found, mut first) = (Vec::new(), None::<Violation>);
    for stretch in &evidence.observed.stretches {
        let State::Up { term, .. } = stretch.state else { continue };
        let name = evidence.options.name(stretch.master);
        if terms.get(&stretch.master).is_some_and(|before| *before > term)
            && stretch.state.leads().is_none()
            && is_put_back(evidence, &name, stretch.from)
        {
            // It is as it was then, until it is told; leading it must not be.
            continue;
        }
        match terms.insert(stretch.master, term) {
            Some(before) if before > term => {
                let what = format!("{name} was in term {term} after term {before}");
                if first.is_none() {
                    first = Some(violation::around(evidence, NAME, &what, stretch.from, None));
                }
                found.push(what);
            }
            _ => {}
        }
        if let Some(term) = stretch.state.leads() {
            leaders.entry(term).or_default().insert(stretch.master);
        }
    }
    let shared: Vec<String> = leaders
        .iter()
        .filter(|(_, masters)| masters.len() > 1)
        .map(|(term, masters)| {
            let names: Vec<String> = masters.iter().map(|m| evidence.options.name(*m)).collect();
            format!("term {term}: {}", names.join(", then "))
        })
        .collect();
    let mut checked = format!("{} terms with a leader", leaders.len());
    if !shared.is_empty() {
        checked.push_str(&format!("; with two, as is allowed: {}", shared.join("; ")));
    }
    if leaders.is_empty() && found.is_empty() {
        return Check::unknown(NAME, checked, "no leader was seen");
    }
    Check { violation: first, ..Check::broken(NAME, checked, found) }
}
