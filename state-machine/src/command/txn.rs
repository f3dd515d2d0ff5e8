//! `Txn`: all operations, or none.
//!
//! Precondition: each operation, seeing the effects of those before it, would take effect. Outcome:
//! `Done` for all; or what stopped the first that could not, and `Aborted` for all others. Changes:
//! one per operation, each with a revision of its own.

use super::{Op, Outcome, run_op};
use crate::view::View;

pub(super) fn run(view: &mut View, ops: &[Op]) -> Vec<Outcome> {
    // Persistent maps: a draft of the whole store costs a few reference counts.
    let mut draft = view.clone();
    let mut outcomes = Vec::with_capacity(ops.len());
    for (position, op) in ops.iter().enumerate() {
        let outcome = run_op(&mut draft, op);
        if outcome.done().is_none() {
            let mut aborted = vec![Outcome::Aborted; ops.len()];
            aborted[position] = outcome;
            return aborted;
        }
        outcomes.push(outcome);
    }
    *view = draft;
    outcomes
}
