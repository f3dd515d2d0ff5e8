//! Where a promise was broken: a moment, what was found, and the few operations that show it.

use serde::Serialize;

use super::Evidence;
use super::timeline::seconds;
use super::words::{asked, told};
use crate::check::linear;
use crate::check::minimal::minimal;
use crate::check::watch::{Broken, Change, Revision, Sent};
use crate::history::{Operation, Outcome, Tick};
use crate::limits::WINDOW_OPERATIONS_MAX;
use crate::model::{Input, Output, RegisterInput, RegisterOutput};
use crate::real::workload::Recorded;

/// How long before the moment operations on the same object are shown, where no smaller window is known.
const BEFORE: Tick = 500_000_000;

/// A broken promise with its place in time.
#[derive(Debug, Clone, Serialize)]
pub struct Violation {
    /// The check that found it.
    pub check: &'static str,
    /// What was found.
    pub what: String,
    /// When it showed, in nanoseconds since the start.
    pub at: Tick,
    /// What the window is.
    pub window: &'static str,
    /// The operations to look at, in order of their calls.
    pub operations: Vec<Shown>,
}

/// An operation as people read it.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Whose it was.
    pub client: u32,
    /// The object.
    pub object: String,
    /// Index of the master that was asked.
    pub master: usize,
    /// What was asked for.
    pub asked: String,
    /// What was told; `None` when nobody knows.
    pub told: Option<String>,
    /// When it was called, in nanoseconds since the start.
    pub called: Tick,
    /// When it was answered.
    pub answered: Option<Tick>,
    /// Whether it is the one that nothing explains.
    pub wrong: bool,
    /// Whether it is no part of the window, but tells where a value in it comes from.
    pub context: bool,
}

impl Shown {
    fn of(recorded: &Recorded, wrong: bool) -> Self {
        let Operation { client, called, input, .. } = &recorded.operation;
        Self {
            client: *client,
            object: recorded.object(),
            master: recorded.master,
            asked: asked(input),
            told: recorded.operation.output().map(told),
            called: *called,
            answered: recorded.operation.returned(),
            wrong,
            context: false,
        }
    }
}

/// An operation in a line.
pub(crate) fn sentence(evidence: &Evidence, recorded: &Recorded) -> String {
    let Shown { client, master, asked, told, called, answered, .. } = Shown::of(recorded, false);
    let called = seconds(called);
    let until = answered.map_or_else(|| "?".to_owned(), |at| format!("{:.4}", seconds(at)));
    let told = told.unwrap_or_else(|| "unknown".to_owned());
    let master = evidence.options.name(master);
    format!("{asked}: {told} (client {client} at {master}, {called:.4} to {until} s)")
}

/// An answer that nothing explains; all operations on its object are given, in order of their calls.
pub(crate) fn of_answer(own: &[&Recorded], found: &linear::Violation) -> Violation {
    let wrong = own[found.operation];
    let smallest = registers(own).and_then(|operations| minimal(&operations, found));
    let window = match &smallest {
        Some(_) => {
            "the smallest part of the history that no order explains, whatever was stored before it"
        }
        None => "what was under way at the same time; the part that is wrong by itself is larger",
    };
    let indices = smallest.unwrap_or_else(|| {
        let mut indices: Vec<usize> =
            found.window.iter().copied().take(WINDOW_OPERATIONS_MAX).collect();
        indices.push(found.operation);
        indices.sort_unstable();
        indices
    });
    let Shown { object, asked, told, .. } = Shown::of(wrong, true);
    let told = told.unwrap_or_default();
    Violation {
        check: "linearizable",
        what: format!(
            "{object}: {asked} was answered with “{told}”, and no order of the operations explains it"
        ),
        at: wrong.operation.returned().unwrap_or(wrong.operation.called),
        window,
        operations: context(own, &indices, found.operation)
            .into_iter()
            .map(|index| Shown { context: true, ..Shown::of(own[index], false) })
            .chain(indices.iter().map(|index| Shown::of(own[*index], *index == found.operation)))
            .collect(),
    }
}

/// The operations, when they are a register's: only of these the smallest part is looked for.
fn registers(own: &[&Recorded]) -> Option<Vec<Operation<RegisterInput, RegisterOutput>>> {
    let register = |recorded: &&Recorded| {
        let Operation { client, called, input, outcome } = &recorded.operation;
        let Input::Register(input) = input else { return None };
        let outcome = match outcome {
            Outcome::Done { at, output: Output::Register(output) } => {
                Outcome::Done { at: *at, output: output.clone() }
            }
            Outcome::Done { .. } => return None,
            Outcome::Unknown => Outcome::Unknown,
        };
        Some(Operation { client: *client, called: *called, input: input.clone(), outcome })
    };
    own.iter().map(register).collect()
}

/// Writes before the window: the last one that was acknowledged, and the one that wrote what the wrong answer tells.
fn context(own: &[&Recorded], window: &[usize], wrong: usize) -> Vec<usize> {
    let first = window.iter().map(|index| own[*index].operation.called).min().unwrap_or(0);
    let writes = |index: &usize| {
        !window.contains(index)
            && own[*index].operation.called < first
            && !own[*index].operation.input.is_read()
    };
    let last = (0..own.len()).filter(writes).filter(|index| {
        let operation = &own[*index].operation;
        operation.output().is_some_and(Output::is_written)
            && operation.returned().is_some_and(|at| at < first)
    });
    let told = match own[wrong].operation.output() {
        Some(Output::Register(RegisterOutput::Value(value))) => Some(*value),
        _ => None,
    };
    let source = (0..own.len())
        .filter(writes)
        .find(|index| told.is_some() && written(&own[*index].operation.input) == told);
    let mut found: Vec<usize> = source
        .into_iter()
        .chain(last.max_by_key(|index| own[*index].operation.returned()))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// What an operation writes to a register.
fn written(input: &Input) -> Option<u64> {
    match input {
        Input::Register(
            RegisterInput::Write(value)
            | RegisterInput::Patch(value)
            | RegisterInput::Create(value),
        ) => Some(*value),
        Input::Register(RegisterInput::Swap { to, .. }) => Some(*to),
        _ => None,
    }
}

/// A broken promise of a watch.
pub(crate) fn of_watch(evidence: &Evidence, broken: &Broken) -> Violation {
    let (watcher, revision, change) = match broken {
        Broken::TwoTruths { revision, second, .. } => (None, *revision, Some(second)),
        Broken::Order { watcher, second, .. } => (Some(watcher), *second, None),
        Broken::Bookmark { watcher, revision, .. } => (Some(watcher), *revision, None),
        Broken::Gap { watcher, change, later, .. } => (Some(watcher), *later, Some(change)),
        Broken::List { watcher, revision, .. } => (Some(watcher), *revision, None),
        Broken::Untrue { revision, change, .. } => (None, *revision, Some(change)),
    };
    let at = arrival(evidence, watcher.map(String::as_str), revision);
    around(evidence, "watches", &broken.to_string(), at, change.map(|change| change.key.as_str()))
}

/// Something wrong with one revision of one object.
pub(crate) fn of_revision(
    evidence: &Evidence,
    check: &'static str,
    what: &str,
    revision: Revision,
    change: &Change,
) -> Violation {
    around(evidence, check, what, arrival(evidence, None, revision), Some(&change.key))
}

/// When a revision arrived, at one watcher or at the last one; the end of the run when it did at none.
pub(crate) fn arrival(evidence: &Evidence, watcher: Option<&str>, revision: Revision) -> Tick {
    let is = |sent: &Sent| match sent {
        Sent::Event(found, _) | Sent::Bookmark(found) => *found == revision,
    };
    let arrivals = evidence.watchers.iter().zip(&evidence.arrivals);
    arrivals
        .filter(|(found, _)| watcher.is_none_or(|watcher| found.name == watcher))
        .filter_map(|(found, at)| {
            // Out of order or twice: the last time is what was wrong.
            let index = found.sent.iter().rposition(is)?;
            at.get(index).copied()
        })
        .max()
        .unwrap_or(evidence.ended)
}

/// Whether an operation is about this object; elements of a set are objects of their own.
fn is_about(recorded: &Recorded, object: &str) -> bool {
    let rest = object.strip_prefix(&recorded.object());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Something wrong at a moment, of one object or of none.
pub(crate) fn around(
    evidence: &Evidence,
    check: &'static str,
    what: &str,
    at: Tick,
    object: Option<&str>,
) -> Violation {
    let from = at.saturating_sub(BEFORE);
    let mut near: Vec<&Recorded> = evidence
        .history
        .iter()
        .filter(|found| object.is_none_or(|object| is_about(found, object)))
        .filter(|found| !found.operation.input.is_read())
        .filter(|found| {
            let Operation { called, .. } = found.operation;
            called <= at
                && found.operation.returned().is_none_or(|end| end >= from)
                && called >= from
        })
        .collect();
    near.sort_by_key(|found| found.operation.called);
    let more = near.len().saturating_sub(WINDOW_OPERATIONS_MAX);
    Violation {
        check,
        what: what.to_owned(),
        at,
        window: match object {
            Some(_) => "writes of the same object in the half second before",
            None => "writes in the half second before",
        },
        operations: near[more..].iter().map(|found| Shown::of(found, false)).collect(),
    }
}
