//! Some order of each object's operations, each between its call and its answer, explains every answer.
//!
//! Source: Herlihy and Wing 1990; Kubernetes' promise that writes and reads without `resourceVersion=0` are those of
//! one store (as etcd's robustness tests check it with porcupine). Unknown outcomes stay open. What the masters listed
//! at the end is the last read of every object, so an acknowledged write that was lost has no order either.

use super::linear::{self, Verdict};
use super::objects::Objects;
use super::open;
use crate::history::{Operation, well_formed};
use crate::model::{Any, Input, Output};
use crate::report::violation::{self, Violation};
use crate::report::{Check, Evidence, Result};

/// Fails for each object with an answer that nothing explains.
#[must_use]
pub fn check(evidence: &Evidence, objects: &Objects<'_>) -> Check {
    const NAME: &str = "linearizable";
    let all: Vec<Operation<(), ()>> =
        evidence.history.iter().map(|found| found.operation.times()).collect();
    let (mut found, mut result, mut first) = (Vec::new(), Result::Pass, None::<Violation>);
    if let Err(error) = well_formed(&all) {
        let text = format!("the harness recorded nonsense: {error}");
        return Check::unknown(NAME, String::new(), &text);
    }
    for ((family, key), own) in objects {
        let operations: Vec<Operation<Input, Output>> =
            own.iter().map(|found| found.operation.clone()).collect();
        let object = family.object(*key);
        let (places, operations): (Vec<usize>, Vec<_>) =
            open::close(&operations).into_iter().unzip();
        match linear::check(&Any(*family), &operations).at(&places) {
            Verdict::Linearizable(_) => {}
            Verdict::Violation(violation) => {
                result = result.max(Result::Fail);
                let there = violation::of_answer(own, &violation);
                if first.as_ref().is_none_or(|first| there.at < first.at) {
                    first = Some(there);
                }
                let sentence = |index: usize| violation::sentence(evidence, own[index]);
                found.push(format!("{object}: nothing explains {}", sentence(violation.operation)));
                let same = violation.window.iter();
                found.extend(same.map(|index| format!("  at the same time {}", sentence(*index))));
            }
            Verdict::Undecided { steps } => {
                result = result.max(Result::Unknown);
                found.push(format!("{object}: given up after {steps} steps"));
            }
        }
    }
    let checked = format!("{} operations on {} objects", all.len(), objects.len());
    Check { violation: first, ..Check::new(NAME, checked, result, found) }
}
