//! What the scenario asks for beside that nothing is wrong: availability while a majority is fit, silence, healing.
//!
//! Source: the scenario's `expect`; `reliability.md` section 8, (19) and (20).

use crate::history::{Operation, Tick};
use crate::model::Output;
use crate::report::{Check, Evidence, Result, silence};
use crate::scenario::expect::Seen;

/// Fails for each expectation that does not hold; unknown when the run says nothing of one.
#[must_use]
pub fn check(evidence: &Evidence) -> Check {
    let operations = || evidence.history.iter().map(|found| &found.operation);
    let mut writes: Vec<Tick> = operations()
        .filter(|operation| operation.output().is_some_and(Output::is_written))
        .filter_map(Operation::returned)
        .collect();
    writes.sort_unstable();
    let mut expect = evidence.options.scenario.expect.clone();
    // Who did not serve at all is told by the course of the run.
    let healing = expect.healed_within.take_if(|_| evidence.healed.is_none());
    let mut judged = expect.judge(&Seen {
        health: &evidence.health,
        writes: &writes,
        silence: silence(&evidence.history),
        healed: Tick::try_from(evidence.healed.unwrap_or_default().as_nanos()).unwrap_or(Tick::MAX),
        answered: operations().filter_map(Operation::returned).count(),
    });
    judged.unknown.extend(healing.map(|_| "not every master served again".to_owned()));
    let result = match (judged.broken.is_empty(), judged.unknown.is_empty()) {
        (false, _) => Result::Fail,
        (true, false) => Result::Unknown,
        (true, true) => Result::Pass,
    };
    let found = [judged.broken, judged.unknown].concat();
    Check::new("expectations", judged.checked.join("; "), result, found)
}
