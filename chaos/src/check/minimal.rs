//! The smallest part of a wrong history that is still wrong: what a person has to look at.
//!
//! The history is cut off behind the answer that nothing explains, and before the last moment of rest from which on no
//! state of the store explains what follows. A moment of rest has no operation under way but those whose outcome
//! nobody knows; what ended before it took effect before all that comes after it, so leaving it out and trying every
//! state in its place accuses nobody wrongly. Then operations that change nothing (reads, refusals) are left out one by
//! one as long as the rest stays wrong. Writes stay: without one, a right answer would look wrong.

use super::linear::{Violation, is_explained};
use crate::history::{Operation, Outcome};
use crate::limits::{WINDOW_OPERATIONS_MAX, WINDOW_STEPS_MAX};
use crate::model::{Model, Register, RegisterInput, RegisterOutput};

type Op = Operation<RegisterInput, RegisterOutput>;

/// A value that no client writes: "something else is there".
const ANOTHER: u64 = u64::MAX;

/// A register that is not empty at first.
struct Began(Option<u64>);

impl Model for Began {
    type Input = RegisterInput;
    type Output = RegisterOutput;
    type State = Option<u64>;

    fn initial(&self) -> Option<u64> {
        self.0
    }

    fn step(
        &self,
        state: &Option<u64>,
        input: &RegisterInput,
        output: Option<&RegisterOutput>,
    ) -> Option<Option<u64>> {
        Register.step(state, input, output)
    }
}

/// Indices of the operations in the smallest wrong part, in order of their calls; the one that nothing
/// explains is among them. `None` when it has more than [`WINDOW_OPERATIONS_MAX`] operations or is too hard to find.
///
/// The history is one object's, in order of calls, and `violation` what [`check`](super::linear::check) found in it.
#[must_use]
pub fn minimal(history: &[Op], violation: &Violation) -> Option<Vec<usize>> {
    let wrong = violation.operation;
    let at = history.get(wrong)?.returned()?;
    let mut open = Vec::new();
    let mut rests = Vec::new();
    let mut busy_until = None;
    for (index, operation) in history.iter().enumerate() {
        if busy_until.is_none_or(|until| until < operation.called) {
            rests.push(index);
        }
        match operation.returned() {
            None => open.push(index),
            Some(end) => busy_until = busy_until.max(Some(end)),
        }
    }
    for rest in rests.into_iter().rev().filter(|rest| *rest <= wrong) {
        let before = open.iter().copied().filter(|index| *index < rest);
        let after = (rest..history.len()).filter(|index| history[*index].called <= at);
        let mut part: Vec<usize> = before.chain(after).collect();
        if part.len() > WINDOW_OPERATIONS_MAX {
            return None;
        }
        if !is_wrong(history, &part, at)? {
            continue;
        }
        for candidate in part.clone() {
            let operation = &history[candidate];
            let ended = operation.returned().is_some_and(|end| end <= at);
            if candidate == wrong || (ended && changes(operation)) {
                continue;
            }
            // One that ended after the wrong answer may still have taken effect before it: as one without an answer.
            if !ended && operation.input != RegisterInput::Read {
                continue;
            }
            let less: Vec<usize> = part.iter().copied().filter(|kept| *kept != candidate).collect();
            if is_wrong(history, &less, at)? {
                part = less;
            }
        }
        return Some(part);
    }
    None
}

/// Whether it left another state than it found.
fn changes(operation: &Op) -> bool {
    operation.input != RegisterInput::Read && operation.output() == Some(&RegisterOutput::Written)
}

/// Whether no state explains these operations, as they were known at a moment.
fn is_wrong(history: &[Op], part: &[usize], at: u64) -> Option<bool> {
    let mut operations = Vec::with_capacity(part.len());
    let mut states = vec![None, Some(ANOTHER)];
    for index in part {
        let mut operation = history[*index].clone();
        if operation.returned().is_some_and(|end| end > at) {
            operation.outcome = Outcome::Unknown;
        }
        match &operation.input {
            RegisterInput::Swap { from, .. } => states.push(Some(*from)),
            RegisterInput::Read
            | RegisterInput::Write(_)
            | RegisterInput::Patch(_)
            | RegisterInput::Create(_)
            | RegisterInput::Delete => {}
        }
        if let Some(RegisterOutput::Value(value)) = operation.output() {
            states.push(Some(*value));
        }
        operations.push(operation);
    }
    states.sort_unstable();
    states.dedup();
    for state in states {
        if is_explained(&Began(state), &operations, WINDOW_STEPS_MAX)? {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::linear::{Verdict, check};
    use RegisterInput::{Create, Patch, Read, Swap};
    use RegisterOutput::{Absent, Refused, Value, Written};

    fn op(
        called: u64,
        at: impl Into<Option<u64>>,
        input: RegisterInput,
        output: RegisterOutput,
    ) -> Op {
        let outcome = at.into().map_or(Outcome::Unknown, |at| Outcome::Done { at, output });
        Operation { client: u32::try_from(called).unwrap(), called, input, outcome }
    }

    fn window(history: &[Op]) -> Option<Vec<usize>> {
        match check(&Register, history) {
            Verdict::Violation(violation) => minimal(history, &violation),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stale_read_and_what_it_missed() {
        let history = [
            op(0, 1, Create(1), Written),
            op(2, 3, Read, Value(1)),
            op(4, 5, Swap { from: 1, to: 2 }, Written),
            op(6, 7, Read, Value(2)),
            op(8, 9, Swap { from: 1, to: 3 }, Refused),
            op(10, 11, Read, Value(1)),
            op(12, 13, Patch(4), Written),
        ];
        let found = window(&history).unwrap();
        assert_eq!(found.last(), Some(&5), "ends with the wrong answer: {found:?}");
        assert!(found.len() <= 2, "two explain it: {found:?}");
    }

    #[test]
    fn a_lost_write() {
        let mut history: Vec<Op> =
            (0..200).map(|index| op(index * 4, index * 4 + 1, Patch(index), Absent)).collect();
        history.push(op(1000, 1010, Create(7), Written));
        history.push(op(1020, 1030, Read, Absent));
        assert_eq!(window(&history), Some(vec![200, 201]));
    }

    #[test]
    fn what_may_have_taken_effect_stays() {
        // The open patch explains nothing here, but without it the reader could not know.
        let history = [
            op(0, 1, Create(1), Written),
            op(2, None, Patch(9), Written),
            op(3, 4, Patch(2), Written),
            op(5, 6, Read, Value(1)),
        ];
        assert_eq!(window(&history), Some(vec![1, 2, 3]));
    }

    #[test]
    fn the_window_is_wrong_by_itself() {
        let history = [
            op(0, 10, Create(1), Written),
            op(5, 20, Patch(2), Written),
            op(15, 30, Read, Value(2)),
            op(25, 40, Read, Value(2)),
            op(41, 42, Read, Value(1)),
        ];
        let found = window(&history).unwrap();
        let part: Vec<Op> = found.iter().map(|index| history[*index].clone()).collect();
        assert!(matches!(check(&Began(Some(1)), &part), Verdict::Violation(_)), "{found:?}");
        assert!(found.contains(&4));
    }
}
