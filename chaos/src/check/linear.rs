//! Linearizability of one key's history: is there an order of the operations that the model agrees
//! with, in which each took effect between its call and its return?
//!
//! The search is Wing and Gong's (1993) with Lowe's memory of configurations (2017), as porcupine
//! does it: walk the calls and returns in time order; place any operation that was called and that
//! the model accepts; at a return of an operation that is not placed yet, take the last placement
//! back. What was seen before (the set of placed operations and the state they led to) is not
//! searched again. Keys are independent (Herlihy and Wing's locality), so each is checked alone.
//!
//! Operations with an unknown outcome may be placed anywhere after their call, or nowhere.

use std::collections::HashSet;

use crate::history::{Operation, Tick};
use crate::limits::{MEMO_MAX, SEARCH_STEPS_MAX};
use crate::model::Model;

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order: indices of the operations, in it.
    Linearizable(Vec<usize>),
    /// There is none.
    Violation(Violation),
    /// The search was given up: too many operations at once, or unknown outcomes. Not a pass.
    Undecided {
        /// After so many steps.
        steps: u64,
    },
}

impl Verdict {
    /// The same, with each index `n` replaced by `places[n]`.
    #[must_use]
    pub fn at(self, places: &[usize]) -> Self {
        let at = |indices: Vec<usize>| indices.into_iter().map(|index| places[index]).collect();
        match self {
            Self::Linearizable(order) => Self::Linearizable(at(order)),
            Self::Violation(Violation { operation, explained, window }) => {
                let (explained, window) = (at(explained), at(window));
                let operation = places.get(operation).copied().unwrap_or(operation);
                Self::Violation(Violation { operation, explained, window })
            }
            Self::Undecided { steps } => Self::Undecided { steps },
        }
    }
}

/// The first moment at which no order explains the history any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The operation whose answer nothing explains; before its return all was well.
    pub operation: usize,
    /// The longest order that was found for what had returned before it, and what may have been
    /// under way.
    pub explained: Vec<usize>,
    /// Operations that were under way when it was: where to look.
    pub window: Vec<usize>,
}

type History<M> = [Operation<<M as Model>::Input, <M as Model>::Output>];

/// Checks one key's history. Deterministic: the same history gives the same verdict.
pub fn check<M: Model>(model: &M, history: &History<M>) -> Verdict {
    check_within(model, history, SEARCH_STEPS_MAX)
}

/// [`check`] with another limit of steps.
pub fn check_within<M: Model>(model: &M, history: &History<M>, steps_max: u64) -> Verdict {
    let mut steps = 0;
    match search(model, history, Tick::MAX, steps_max, &mut steps) {
        Found::Order(order) => Verdict::Linearizable(order),
        Found::GivenUp => Verdict::Undecided { steps },
        Found::None { .. } => first_violation(model, history, steps_max),
    }
}

/// Whether some order explains a history; `None` when that was not found out within `steps_max` steps.
pub(crate) fn is_explained<M: Model>(
    model: &M,
    history: &History<M>,
    steps_max: u64,
) -> Option<bool> {
    match search(model, history, Tick::MAX, steps_max, &mut 0) {
        Found::Order(_) => Some(true),
        Found::None { .. } => Some(false),
        Found::GivenUp => None,
    }
}

/// Linearizability is closed under prefixes: the first return that makes the history wrong is
/// found by halving.
fn first_violation<M: Model>(model: &M, history: &History<M>, steps_max: u64) -> Verdict {
    let mut returns: Vec<(Tick, usize)> = history
        .iter()
        .enumerate()
        .filter_map(|(index, operation)| operation.returned().map(|at| (at, index)))
        .collect();
    returns.sort_unstable();
    let (mut right, mut wrong) = (0, returns.len());
    let mut explained = Vec::new();
    while right < wrong {
        let middle = usize::midpoint(right, wrong);
        let mut steps = 0;
        match search(model, history, returns[middle].0, steps_max, &mut steps) {
            Found::Order(order) => {
                explained = order;
                right = middle + 1;
            }
            Found::None { .. } => wrong = middle,
            Found::GivenUp => return Verdict::Undecided { steps },
        }
    }
    // Several may return at one tick; the longest order tells which of them was not placed.
    let at = returns.get(wrong).map_or(Tick::MAX, |found| found.0);
    let mut steps = 0;
    let longest = match search(model, history, at, steps_max, &mut steps) {
        Found::None { longest } => longest,
        Found::Order(_) => Vec::new(),
        Found::GivenUp => return Verdict::Undecided { steps },
    };
    let here = returns.iter().filter(|found| found.0 == at).map(|found| found.1);
    let unplaced = here.clone().find(|index| !longest.contains(index));
    let operation = unplaced.or_else(|| here.clone().next()).unwrap_or(0);
    let called = history.get(operation).map_or(0, |found| found.called);
    let window = (0..history.len())
        .filter(|index| {
            let other = &history[*index];
            *index != operation
                && other.called <= at
                && other.returned().is_none_or(|end| end >= called)
        })
        .collect();
    if explained.is_empty() {
        explained = longest;
    }
    Verdict::Violation(Violation { operation, explained, window })
}

enum Found {
    Order(Vec<usize>),
    None { longest: Vec<usize> },
    GivenUp,
}

/// Looks at what happened up to and including `until`: an operation that returned later has an
/// unknown outcome.
fn search<M: Model>(
    model: &M,
    history: &History<M>,
    until: Tick,
    steps_max: u64,
    steps: &mut u64,
) -> Found {
    let known: Vec<bool> =
        history.iter().map(|found| found.returned().is_some_and(|at| at <= until)).collect();
    let mut walk = Walk::new(history, &known, until);
    let mut placed = Placed::default();
    let mut left = known.iter().filter(|known| **known).count();
    let mut seen: HashSet<(Placed, M::State)> = HashSet::new();
    let mut state = model.initial();
    // The calls that are placed, and the state before each.
    let mut order: Vec<(usize, M::State)> = Vec::new();
    let mut longest: Vec<usize> = Vec::new();
    let mut at = walk.first();
    while left > 0 {
        *steps += 1;
        if *steps > steps_max {
            return Found::GivenUp;
        }
        let Event { operation: index, returns, next: following, .. } = walk.events[at];
        if returns.is_some() {
            let operation = &history[index];
            let output = operation.output().filter(|_| known[index]);
            if let Some(next) = model.step(&state, &operation.input, output) {
                placed.set(index, true);
                // Past the limit nothing new is remembered, and whatever is new is searched.
                let configuration = (placed.clone(), next.clone());
                let new = if seen.len() < MEMO_MAX {
                    seen.insert(configuration)
                } else {
                    !seen.contains(&configuration)
                };
                if new {
                    order.push((at, std::mem::replace(&mut state, next)));
                    left -= usize::from(known[index]);
                    walk.take_out(at);
                    at = walk.first();
                    continue;
                }
                placed.set(index, false);
            }
            at = following;
            continue;
        }
        // What returned here is not placed, so the last placement was wrong. The return of an
        // unknown outcome is behind all others: with anything left it is never reached.
        if order.len() > longest.len() {
            longest = order.iter().map(|(call, _)| walk.events[*call].operation).collect();
        }
        let Some((call, before)) = order.pop() else {
            return Found::None { longest };
        };
        let index = walk.events[call].operation;
        state = before;
        placed.set(index, false);
        left += usize::from(known[index]);
        walk.put_back(call);
        at = walk.events[call].next;
    }
    Found::Order(order.iter().map(|(call, _)| walk.events[*call].operation).collect())
}

/// A call or a return, linked to its neighbours in time.
#[derive(Debug, Clone, Copy)]
struct Event {
    operation: usize,
    /// For a call, where its return is.
    returns: Option<usize>,
    previous: usize,
    next: usize,
}

/// Calls and returns in time order, as a list from which a placed operation is taken out, and put
/// back, in constant time (Knuth's dancing links).
#[derive(Debug)]
struct Walk {
    /// The first one is the head; the last one's `next` is the head again.
    events: Vec<Event>,
}

const HEAD: usize = 0;

impl Walk {
    fn new<I, O>(history: &[Operation<I, O>], known: &[bool], until: Tick) -> Self {
        // At one tick calls come first: what touches counts as concurrent.
        let mut times: Vec<(Tick, bool, usize)> = Vec::with_capacity(history.len() * 2);
        for (index, operation) in history.iter().enumerate() {
            if operation.called > until {
                continue;
            }
            times.push((operation.called, false, index));
            let end = operation.returned().filter(|_| known[index]);
            times.push((end.unwrap_or(Tick::MAX), true, index));
        }
        times.sort_unstable();
        let next = if times.is_empty() { HEAD } else { 1 };
        let head = Event { operation: usize::MAX, returns: None, previous: times.len(), next };
        let mut events = vec![head];
        let mut calls = vec![HEAD; history.len()];
        for (_, is_return, operation) in times {
            let at = events.len();
            if is_return {
                events[calls[operation]].returns = Some(at);
            } else {
                calls[operation] = at;
            }
            events.push(Event { operation, returns: None, previous: at - 1, next: at + 1 });
        }
        if let Some(last) = events.last_mut() {
            last.next = HEAD;
        }
        Self { events }
    }

    fn first(&self) -> usize {
        self.events[HEAD].next
    }

    fn take_out(&mut self, call: usize) {
        for at in [Some(call), self.events[call].returns].into_iter().flatten() {
            let Event { previous, next, .. } = self.events[at];
            self.events[previous].next = next;
            self.events[next].previous = previous;
        }
    }

    /// In the opposite order of [`Walk::take_out`].
    fn put_back(&mut self, call: usize) {
        for at in [self.events[call].returns, Some(call)].into_iter().flatten() {
            let Event { previous, next, .. } = self.events[at];
            self.events[previous].next = at;
            self.events[next].previous = at;
        }
    }
}

/// Which operations are placed: all before `top` but for `holes`. Histories are in the order of calls, so holes are
/// what is under way or unknown: as few as there are at a time, however long the history is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Placed {
    top: usize,
    /// In order.
    holes: Vec<usize>,
}

impl Placed {
    fn set(&mut self, operation: usize, to: bool) {
        if to && operation >= self.top {
            self.holes.extend(self.top..operation);
            self.top = operation + 1;
        } else if !to && operation + 1 == self.top {
            self.top = operation;
            while self.top > 0 && self.holes.last() == Some(&(self.top - 1)) {
                self.holes.pop();
                self.top -= 1;
            }
        } else {
            match self.holes.binary_search(&operation) {
                Ok(at) if to => drop(self.holes.remove(at)),
                Err(at) if !to => self.holes.insert(at, operation),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_has_one_form() {
        let members = |placed: &Placed| -> Vec<usize> {
            (0..placed.top).filter(|index| !placed.holes.contains(index)).collect()
        };
        let mut placed = Placed::default();
        for operation in [3, 0, 5, 1] {
            placed.set(operation, true);
        }
        assert_eq!(members(&placed), [0, 1, 3, 5]);
        let mut other = Placed::default();
        for (operation, to) in [(7, true), (1, true), (5, true), (0, true), (3, true), (7, false)] {
            other.set(operation, to);
        }
        assert_eq!(placed, other);
        for operation in [5, 0, 3, 1] {
            placed.set(operation, false);
        }
        assert_eq!(placed, Placed::default());
    }
}
