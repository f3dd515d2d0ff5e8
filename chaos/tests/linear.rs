//! The checker against histories whose verdict is known, against a second implementation that
//! tries every order, and against histories that a correct store could have made.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_chaos::check::linear::{Verdict, check, check_within};
use quorate_chaos::history::{Operation, Outcome, Tick};
use quorate_chaos::model::{
    Append, AppendInput, AppendOutput, Model, Register, RegisterInput, RegisterOutput, Set,
    SetInput, SetOutput,
};

type Op = Operation<RegisterInput, RegisterOutput>;

fn op(client: u32, called: Tick, at: Tick, input: RegisterInput, output: RegisterOutput) -> Op {
    Operation { client, called, input, outcome: Outcome::Done { at, output } }
}

fn unknown(client: u32, called: Tick, input: RegisterInput) -> Op {
    Operation { client, called, input, outcome: Outcome::Unknown }
}

use RegisterInput::{Create, Delete, Patch, Read, Swap, Write};
use RegisterOutput::{Absent, Refused, Value, Written};

fn is_right(history: &[Op]) -> bool {
    match check(&Register, history) {
        Verdict::Linearizable(order) => {
            explains(history, &order);
            true
        }
        Verdict::Violation(_) => false,
        Verdict::Undecided { steps } => panic!("given up after {steps} steps"),
    }
}

/// An order that is given as proof must be one.
fn explains(history: &[Op], order: &[usize]) {
    let once: BTreeSet<usize> = order.iter().copied().collect();
    assert_eq!(once.len(), order.len(), "an operation is placed twice");
    let mut state = Register.initial();
    let mut latest_call = 0;
    for index in order {
        let found = &history[*index];
        assert!(found.returned().is_none_or(|at| at >= latest_call), "against the clock");
        latest_call = latest_call.max(found.called);
        state =
            Register.step(&state, &found.input, found.output()).expect("not the model's answer");
    }
    for (index, found) in history.iter().enumerate() {
        assert!(found.returned().is_none() || once.contains(&index), "one is missing");
    }
}

/// The second implementation: all orders, by recursion, without memory.
fn tries_everything(history: &[Op], placed: &mut Vec<usize>, state: Option<u64>) -> bool {
    let left: Vec<usize> = (0..history.len()).filter(|index| !placed.contains(index)).collect();
    if left.iter().all(|index| history[*index].returned().is_none()) {
        return true;
    }
    let first_return = left.iter().filter_map(|index| history[*index].returned()).min();
    for index in left {
        if first_return.is_some_and(|at| history[index].called > at) {
            continue;
        }
        if let Some(next) = Register.step(&state, &history[index].input, history[index].output()) {
            placed.push(index);
            if tries_everything(history, placed, next) {
                return true;
            }
            placed.pop();
        }
    }
    false
}

#[test]
fn a_read_sees_what_was_written_before_it() {
    assert!(is_right(&[]));
    assert!(is_right(&[op(1, 0, 1, Write(7), Written), op(2, 2, 3, Read, Value(7))]));
    assert!(!is_right(&[op(1, 0, 1, Write(7), Written), op(2, 2, 3, Read, Absent)]));
    // At the same time either is right.
    assert!(is_right(&[op(1, 0, 9, Write(7), Written), op(2, 2, 3, Read, Absent)]));
    assert!(is_right(&[op(1, 0, 9, Write(7), Written), op(2, 2, 3, Read, Value(7))]));
}

#[test]
fn what_was_seen_is_not_unseen() {
    let seen_then_not =
        [op(1, 0, 20, Write(7), Written), op(2, 2, 3, Read, Value(7)), op(3, 4, 5, Read, Absent)];
    let Verdict::Violation(found) = check(&Register, &seen_then_not) else {
        panic!("a value went back");
    };
    assert_eq!(found.operation, 2);
    assert_eq!(found.window, [0]);
}

#[test]
fn only_one_wins() {
    let two_winners = [
        op(1, 0, 1, Write(1), Written),
        op(1, 2, 6, Swap { from: 1, to: 2 }, Written),
        op(2, 2, 6, Swap { from: 1, to: 3 }, Written),
    ];
    assert!(!is_right(&two_winners));
    assert!(!is_right(&[op(1, 0, 5, Create(1), Written), op(2, 0, 5, Create(2), Written)]));
    let between = [
        op(1, 0, 9, Create(1), Written),
        op(2, 0, 9, Create(2), Written),
        op(3, 0, 9, Delete, Written),
    ];
    assert!(is_right(&between));
    assert!(!is_right(&[op(1, 0, 5, Create(1), Refused)]));
}

#[test]
fn an_unknown_outcome_stays_open() {
    let late = [
        unknown(1, 0, Write(7)),
        op(2, 10, 11, Read, Absent),
        op(2, 12, 13, Read, Value(7)),
        op(2, 14, 15, Read, Value(7)),
    ];
    assert!(is_right(&late));
    assert!(is_right(&late[..2]), "it may never have happened");
    // But it happens once, and not before it was called.
    assert!(!is_right(&[op(2, 0, 1, Read, Value(7)), unknown(1, 2, Write(7))]));
    let twice = [
        unknown(1, 0, Write(7)),
        op(2, 1, 2, Read, Value(7)),
        op(2, 3, 4, Write(8), Written),
        op(2, 5, 6, Read, Value(7)),
    ];
    assert!(!is_right(&twice));
}

#[test]
fn the_first_wrong_answer_is_named() {
    let mut history = Vec::new();
    for n in 0..50_u64 {
        history.push(op(1, n * 10, n * 10 + 1, Write(n), Written));
        history.push(op(2, n * 10 + 2, n * 10 + 3, Read, Value(n)));
    }
    history[61] = op(2, 302, 303, Read, Value(29));
    let Verdict::Violation(found) = check(&Register, &history) else {
        panic!("a stale read");
    };
    assert_eq!(found.operation, 61);
    assert_eq!(found.explained.len(), 61);
}

#[test]
fn who_gives_up_says_so() {
    let mut history: Vec<Op> =
        (0..24).map(|n| op(n, 0, 100, Write(u64::from(n)), Written)).collect();
    history.push(op(90, 101, 102, Read, Value(99)));
    assert!(matches!(check_within(&Register, &history, 1000), Verdict::Undecided { .. }));
}

#[test]
fn lists_and_sets() {
    let push = |client, called, at, n| Operation {
        client,
        called,
        input: AppendInput::Push(n),
        outcome: Outcome::Done { at, output: AppendOutput::Pushed },
    };
    let read = |client, called, at, elements: &[u64]| Operation {
        client,
        called,
        input: AppendInput::Read,
        outcome: Outcome::Done { at, output: AppendOutput::Elements(elements.to_vec()) },
    };
    let fine = [push(1, 0, 9, 1), push(2, 0, 9, 2), read(3, 10, 11, &[2, 1])];
    assert!(matches!(check(&Append, &fine), Verdict::Linearizable(_)));
    let lost = [push(1, 0, 1, 1), push(2, 2, 3, 2), read(3, 4, 5, &[2])];
    assert!(matches!(check(&Append, &lost), Verdict::Violation(_)));
    let swapped = [push(1, 0, 1, 1), push(2, 2, 3, 2), read(3, 4, 5, &[2, 1])];
    assert!(matches!(check(&Append, &swapped), Verdict::Violation(_)));

    let add = |client, called, at, n| Operation {
        client,
        called,
        input: SetInput::Add(n),
        outcome: Outcome::Done { at, output: SetOutput::Added },
    };
    let all = |client, called, at, elements: &[u64]| Operation {
        client,
        called,
        input: SetInput::Read,
        outcome: Outcome::Done {
            at,
            output: SetOutput::Elements(elements.iter().copied().collect()),
        },
    };
    let fine = [add(1, 0, 9, 1), add(2, 0, 1, 2), all(3, 2, 3, &[2]), all(3, 10, 11, &[1, 2])];
    assert!(matches!(check(&Set, &fine), Verdict::Linearizable(_)));
    let lost = [add(1, 0, 1, 1), all(3, 2, 3, &[])];
    assert!(matches!(check(&Set, &lost), Verdict::Violation(_)));
}

fn any_input() -> impl Strategy<Value = RegisterInput> {
    prop_oneof![
        3 => Just(Read),
        2 => (0..3_u64).prop_map(Write),
        1 => (0..3_u64).prop_map(Create),
        1 => (0..3_u64).prop_map(Patch),
        2 => (0..3_u64, 0..3_u64).prop_map(|(from, to)| Swap { from, to }),
        1 => Just(Delete),
    ]
}

fn any_output() -> impl Strategy<Value = Option<RegisterOutput>> {
    prop_oneof![
        3 => (0..3_u64).prop_map(|value| Some(Value(value))),
        1 => Just(Some(Absent)),
        3 => Just(Some(Written)),
        1 => Just(Some(Refused)),
        1 => Just(None),
    ]
}

/// Anything at all: most are wrong.
fn any_history() -> impl Strategy<Value = Vec<Op>> {
    let one = (0..12_u64, 0..8_u64, any_input(), any_output());
    prop::collection::vec(one, 0..7).prop_map(|all| {
        let history =
            all.into_iter().enumerate().map(|(client, (called, takes, input, output))| {
                let client = u32::try_from(client).unwrap();
                match output {
                    Some(output) => op(client, called, called + takes, input, output),
                    None => unknown(client, called, input),
                }
            });
        history.collect()
    })
}

/// What a right store could have said: each operation takes effect at a moment between call and
/// return, and some answers are lost.
fn right_history() -> impl Strategy<Value = Vec<Op>> {
    let one = (any_input(), 0..30_u64, 0..30_u64, prop::bool::weighted(0.1));
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let mut state = None;
        let operations =
            all.into_iter().enumerate().map(|(index, (input, before, after, lost))| {
                let effect = 1000 + 10 * u64::try_from(index).unwrap();
                let outputs = [Value(0), Value(1), Value(2), Absent, Written, Refused];
                let output = outputs
                    .into_iter()
                    .find(|output| Register.step(&state, &input, Some(output)).is_some())
                    .unwrap();
                state = Register.step(&state, &input, Some(&output)).unwrap();
                let client = u32::try_from(index).unwrap();
                if lost {
                    unknown(client, effect - before, input)
                } else {
                    op(client, effect - before, effect + after, input, output)
                }
            });
        operations.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_trying_everything(history in any_history()) {
        let expected = tries_everything(&history, &mut Vec::new(), None);
        prop_assert_eq!(is_right(&history), expected);
    }

    #[test]
    fn agrees_on_what_is_nearly_right(
        mut history in right_history(),
        at in any::<prop::sample::Index>(),
        other in any_output(),
    ) {
        history.truncate(9);
        if let (false, Some(output)) = (history.is_empty(), other) {
            let index = at.index(history.len());
            if let Some(end) = history[index].returned() {
                history[index].outcome = Outcome::Done { at: end, output };
            }
        }
        let expected = tries_everything(&history, &mut Vec::new(), None);
        prop_assert_eq!(is_right(&history), expected);
    }

    #[test]
    fn a_right_store_is_never_blamed(history in right_history()) {
        prop_assert!(is_right(&history));
    }
}
