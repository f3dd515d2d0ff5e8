//! Deployments are as their user was told, and become what they say: the controllers have seen the last change, and
//! there are as many pods of the last template, all available, as are asked for.
//!
//! Source: `kubectl rollout status` (observedGeneration, updatedReplicas, replicas, availableReplicas);
//! `reliability.md` section 8, (12): "deployment converges to N pods", and (2) for what the user was told. It has to
//! come about within [`CONVERGED_MAX`](crate::limits::CONVERGED_MAX) after the faults.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{at_the_end, name};
use crate::limits::CONVERGED_MAX;
use crate::real::kube::ending::Last;
use crate::real::kube::{Evidence, Wanted, change};
use crate::report::Check;

const NAME: &str = "converged";

/// Fails for each Deployment that is not what it is to be.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let done: usize = evidence.done.values().sum();
    let check = at_the_end(NAME, evidence, |last| {
        let time = match evidence.converged {
            Some(time) => format!("at rest {:.1} s after the faults", time.as_secs_f64()),
            None => format!("not at rest {CONVERGED_MAX:?} after the faults"),
        };
        let words: Vec<String> =
            evidence.done.iter().map(|(verb, count)| format!("{verb} {count}")).collect();
        let found = [evidence.surprises.clone(), wrong(last, &evidence.wanted)].concat();
        (format!("{}; {time}", words.join(", ")), found)
    });
    if done == 0 && check.found.is_empty() {
        return Check::unknown(NAME, check.checked, "no Deployment was created");
    }
    check
}

/// What is not as it is to be.
#[must_use]
pub fn wrong(last: &Last, wanted: &BTreeMap<String, Wanted>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (own, wanted) in wanted.iter().filter(|(_, wanted)| wanted.known) {
        let found = last.deployments.iter().find(|deployment| name(deployment) == own);
        match found.map(change::of) {
            Some(_) if !wanted.exists => wrong.push(format!("{own} was deleted, and is there")),
            None if wanted.exists => wrong.push(format!("{own} was created, and is gone")),
            Some(found) if found != *wanted => {
                wrong.push(format!("{own} was given {wanted}, and has {found}"));
            }
            _ => {}
        }
    }
    for deployment in &last.deployments {
        let (own, status) = (name(deployment), &deployment["status"]);
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let generation = number(&deployment["metadata"]["generation"]);
        let observed = number(&status["observedGeneration"]);
        if observed < generation {
            wrong.push(format!("{own} is at generation {generation}, {observed} was observed"));
        }
        let replicas = number(&deployment["spec"]["replicas"]);
        for field in ["replicas", "updatedReplicas", "availableReplicas", "readyReplicas"] {
            let found = number(&status[field]);
            if found != replicas {
                wrong.push(format!("{own}: {field} is {found}, {replicas} are asked for"));
            }
        }
    }
    wrong
}
