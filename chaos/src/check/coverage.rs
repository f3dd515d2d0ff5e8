//! A run in which too little happened says nothing.
//!
//! Source: etcd's robustness tests, which refuse a run below a minimal rate, and Jepsen's `:unknown`: a fault that was
//! not there, or that nobody was there to notice, proves nothing.

use crate::limits::{ANSWERED_MIN, FAMILY_ANSWERED_MIN};
use crate::real::nemesis::Skipped;
use crate::report::{Check, Evidence, Result};

/// Unknown when something is missing.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let mut missing = Vec::new();
    for Skipped { fault, why, .. } in evidence.skipped.iter().filter(|skipped| skipped.required) {
        missing.push(format!("{fault} did not happen: {why}"));
    }
    for fault in evidence.options.scenario.required() {
        let had_turn = evidence.injected.iter().any(|injected| injected.fault == fault)
            || evidence.skipped.iter().any(|skipped| skipped.fault == fault);
        if !had_turn {
            missing.push(format!("{fault} did not happen: the run ended before"));
        }
    }
    let answers = || {
        let answered = |found: &crate::real::workload::Recorded| found.operation.returned();
        evidence.history.iter().filter_map(move |found| Some((found, answered(found)?)))
    };
    let answered = answers().count();
    if answered < ANSWERED_MIN {
        missing.push(format!("{answered} operations were answered, {ANSWERED_MIN} are needed"));
    }
    for family in &evidence.options.scenario.workload.kinds {
        let own = answers().filter(|(found, _)| found.operation.input.family() == *family).count();
        if own < FAMILY_ANSWERED_MIN {
            let needed = FAMILY_ANSWERED_MIN;
            missing
                .push(format!("{own} operations of {family} were answered, {needed} are needed"));
        }
    }
    if let Some(lacks) = evidence.kube.as_ref().and_then(|kube| kube.lacks.as_ref()) {
        missing.push(format!("kubernetes was not used: {lacks}"));
    }
    // Whoever was under way met it: faults that leave no majority are over before anybody is answered.
    let during = evidence.injected.iter().any(|fault| {
        answers().any(|(found, at)| at > fault.from && found.operation.called < fault.to)
    });
    if !during && !evidence.injected.is_empty() {
        missing.push("no operation that was answered was under way during a fault".into());
    }
    let checked = format!("{} faults, {answered} answers", evidence.injected.len());
    let result = if missing.is_empty() { Result::Pass } else { Result::Unknown };
    Check::new("coverage", checked, result, missing)
}
