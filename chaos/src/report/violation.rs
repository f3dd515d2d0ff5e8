//! Where a promise was broken: a moment, what was found, and the few operations that show it.

use serde::Serialize;

use super::Evidence;
use super::timeline::seconds;
use crate::check::linear;
use crate::check::minimal::minimal;
use crate::check::watch::{Broken, Change, Revision, Sent};
use crate::history::{Operation, Tick};
use crate::limits::WINDOW_OPERATIONS_MAX;
use crate::model::{RegisterInput, RegisterOutput};
use crate::real::workload::{Recorded, name};

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
            object: name(recorded.key),
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
pub(super) fn sentence(recorded: &Recorded) -> String {
    let Shown { client, master, asked, told, called, answered, .. } = Shown::of(recorded, false);
    let called = seconds(called);
    let until = answered.map_or_else(|| "?".to_owned(), |at| format!("{:.4}", seconds(at)));
    let told = told.unwrap_or_else(|| "unknown".to_owned());
    format!("{asked}: {told} (client {client} at m{}, {called:.4} to {until} s)", master + 1)
}

fn asked(input: &RegisterInput) -> String {
    match input {
        RegisterInput::Read => "get".to_owned(),
        RegisterInput::Write(value) => format!("put {value}"),
        RegisterInput::Patch(value) => format!("patch to {value}"),
        RegisterInput::Create(value) => format!("create {value}"),
        RegisterInput::Swap { from, to } => format!("update {from} → {to}"),
        RegisterInput::Delete => "delete".to_owned(),
    }
}

fn told(output: &RegisterOutput) -> String {
    match output {
        RegisterOutput::Value(value) => value.to_string(),
        RegisterOutput::Absent => "404 not found".to_owned(),
        RegisterOutput::Written => "done".to_owned(),
        RegisterOutput::Refused => "409 conflict".to_owned(),
    }
}

/// The operations that the linearizability check looks at, of one object, in order of their calls.
pub(super) fn of_key(evidence: &Evidence, key: usize) -> Vec<&Recorded> {
    let mut own: Vec<&Recorded> = evidence
        .history
        .iter()
        .filter(|found| found.key == key)
        // A read without an answer tells nothing.
        .filter(|found| {
            found.operation.input != RegisterInput::Read || found.operation.output().is_some()
        })
        .collect();
    own.sort_by_key(|found| found.operation.called);
    own
}

/// An answer that nothing explains.
pub(super) fn of_answer(evidence: &Evidence, key: usize, found: &linear::Violation) -> Violation {
    let own = of_key(evidence, key);
    let operations: Vec<_> = own.iter().map(|found| found.operation.clone()).collect();
    let wrong = own[found.operation];
    let smallest = minimal(&operations, found);
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
        operations: context(&own, &indices, found.operation)
            .into_iter()
            .map(|index| Shown { context: true, ..Shown::of(own[index], false) })
            .chain(indices.iter().map(|index| Shown::of(own[*index], *index == found.operation)))
            .collect(),
    }
}

/// Writes before the window: the last one that was acknowledged, and the one that wrote what the wrong answer tells.
fn context(own: &[&Recorded], window: &[usize], wrong: usize) -> Vec<usize> {
    let first = window.iter().map(|index| own[*index].operation.called).min().unwrap_or(0);
    let writes = |index: &usize| {
        !window.contains(index)
            && own[*index].operation.called < first
            && own[*index].operation.input != RegisterInput::Read
    };
    let last = (0..own.len()).filter(writes).filter(|index| {
        let operation = &own[*index].operation;
        operation.output() == Some(&RegisterOutput::Written)
            && operation.returned().is_some_and(|at| at < first)
    });
    let told = match own[wrong].operation.output() {
        Some(RegisterOutput::Value(value)) => Some(*value),
        Some(RegisterOutput::Absent | RegisterOutput::Written | RegisterOutput::Refused) | None => {
            None
        }
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

/// What an operation writes.
fn written(input: &RegisterInput) -> Option<u64> {
    match input {
        RegisterInput::Write(value)
        | RegisterInput::Patch(value)
        | RegisterInput::Create(value) => Some(*value),
        RegisterInput::Swap { to, .. } => Some(*to),
        RegisterInput::Read | RegisterInput::Delete => None,
    }
}

/// A broken promise of a watch.
pub(super) fn of_watch(evidence: &Evidence, broken: &Broken) -> Violation {
    let (watcher, revision, change) = match broken {
        Broken::TwoTruths { revision, second, .. } => (None, *revision, Some(second)),
        Broken::Order { watcher, second, .. } => (Some(watcher), *second, None),
        Broken::Bookmark { watcher, revision, .. } => (Some(watcher), *revision, None),
        Broken::Gap { watcher, change, later, .. } => (Some(watcher), *later, Some(change)),
        Broken::Untrue { revision, change, .. } => (None, *revision, Some(change)),
    };
    let at = arrival(evidence, watcher.map(String::as_str), revision);
    around(evidence, "watches", &broken.to_string(), at, change.map(|change| change.key.as_str()))
}

/// Something wrong with one revision of one object.
pub(super) fn of_revision(
    evidence: &Evidence,
    check: &'static str,
    what: &str,
    revision: Revision,
    change: &Change,
) -> Violation {
    around(evidence, check, what, arrival(evidence, None, revision), Some(&change.key))
}

/// When a revision arrived, at one watcher or at the last one; the end of the run when it did at none.
fn arrival(evidence: &Evidence, watcher: Option<&str>, revision: Revision) -> Tick {
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

fn around(
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
        .filter(|found| object.is_none_or(|object| name(found.key) == object))
        .filter(|found| found.operation.input != RegisterInput::Read)
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
