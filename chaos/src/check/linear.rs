//! Linearizability of one key's history: is there an order of the operations that the model agrees
//! with, in which each took effect between its call and its return?
//!
//! The search is Wing and Gong's (1993) with Lowe's memory of configurations (2017), as porcupine
//! does it: walk the calls and returns in time order; place any operation that was called and that
//! the model accepts; at a return of an operation that is not placed yet, take the last placement
//! back. What was seen before (the set of placed operations and the state they led to) is not
//! searched again. Keys are independent (Herlihy and Wing's locality), so each is checked alone.
//!
//! Operations with an unknown outcome may be placed anywhere after their call, or nowhere. So a configuration that has
//! used no more of them than another, the rest being equal, can do whatever that one can: only those that have used the
//! least are searched, and what can change nothing any more does not count as used.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use tokio_util::sync::CancellationToken;

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

/// All bits of [`Model::changes`].
const CHANGES_MAX: u8 = 3;

/// Steps between two looks whether the search is to stop.
const STOP_LOOKED_AT: u64 = 256;

thread_local! {
    static STOP: RefCell<Option<CancellationToken>> = const { RefCell::new(None) };
}

/// Searches of this thread are given up from now on as soon as this is cancelled.
pub fn stop_with(stop: Option<CancellationToken>) {
    STOP.with_borrow_mut(|own| *own = stop);
}

fn is_stopped() -> bool {
    STOP.with_borrow(|stop| stop.as_ref().is_some_and(CancellationToken::is_cancelled))
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

/// What was placed last, to be taken back when it was wrong.
enum Step {
    /// The call of an operation whose answer is known.
    Known(usize),
    /// One of a kind of operations whose answers are not, when the first return that was not placed was at this tick.
    Open { kind: usize, first_return: Tick },
}

/// What is tried next.
#[derive(Clone, Copy)]
enum Next {
    /// The operation of this event, or, at a return, what is open.
    Known(usize),
    /// One of this kind.
    Open { kind: usize, first_return: Tick },
}

/// Looks at what happened up to and including `until`: an operation that returned later has an unknown outcome.
///
/// Those with unknown outcomes are apart from the others. Any of them may be placed nowhere, so who has placed fewer
/// of them, the rest being equal, can do whatever the other can: only the least are remembered and searched, and known
/// operations are tried first. Of those that ask the same the one that was called first is placed first.
fn search<M: Model>(
    model: &M,
    history: &History<M>,
    until: Tick,
    steps_max: u64,
    steps: &mut u64,
) -> Found {
    let mut search = Search::new(model, history, until);
    let mut next = Next::Known(search.walk.first());
    while search.left > 0 {
        *steps += 1;
        if *steps > steps_max || (steps.is_multiple_of(STOP_LOOKED_AT) && is_stopped()) {
            return Found::GivenUp;
        }
        next = match next {
            Next::Known(at) => search.known(at),
            Next::Open { kind, first_return } if kind < search.kinds.len() => {
                search.open(kind, first_return)
            }
            Next::Open { .. } => match search.take_back() {
                Some(next) => next,
                None => return Found::None { longest: search.longest },
            },
        };
    }
    Found::Order(search.placed_so_far())
}

/// Where a search is.
struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a History<M>,
    walk: Walk,
    kinds: Vec<Kind>,
    /// How many of each kind are placed.
    used: Vec<u32>,
    /// Of the operations whose answers are known.
    placed: Placed,
    /// How many of those are not placed.
    left: usize,
    state: M::State,
    /// What is placed, which operation that is, and the state before each.
    order: Vec<(Step, usize, M::State)>,
    longest: Vec<usize>,
    seen: Seen<M::State>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a History<M>, until: Tick) -> Self {
        let known: Vec<bool> =
            history.iter().map(|found| found.returned().is_some_and(|at| at <= until)).collect();
        let kinds = kinds(model, history, &known, until);
        Self {
            model,
            history,
            walk: Walk::new(history, &known),
            used: vec![0; kinds.len()],
            kinds,
            placed: Placed::default(),
            left: known.iter().filter(|known| **known).count(),
            state: model.initial(),
            order: Vec::new(),
            longest: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn placed_so_far(&self) -> Vec<usize> {
        self.order.iter().map(|(_, index, _)| *index).collect()
    }

    /// Whether what is placed now, and this state, were not searched yet.
    fn is_new(&mut self, state: &M::State) -> bool {
        let used = live(self.model, &self.kinds, &self.placed, state, &self.used);
        self.seen.is_new(&self.placed, state, used)
    }

    fn push(&mut self, step: Step, index: usize, then: M::State) -> Next {
        self.order.push((step, index, std::mem::replace(&mut self.state, then)));
        Next::Known(self.walk.first())
    }

    /// Tries the operation whose call this is; at a return, goes on with those that are open.
    fn known(&mut self, at: usize) -> Next {
        let Event { operation: index, returns, next: following, .. } = self.walk.events[at];
        let operation = &self.history[index];
        if returns.is_none() {
            if self.order.len() > self.longest.len() {
                self.longest = self.placed_so_far();
            }
            return Next::Open { kind: 0, first_return: operation.returned().unwrap_or(Tick::MAX) };
        }
        let then = self.model.step(&self.state, &operation.input, operation.output());
        let Some(then) = then else { return Next::Known(following) };
        self.placed.set(index, true);
        if !self.is_new(&then) {
            self.placed.set(index, false);
            return Next::Known(following);
        }
        self.left -= 1;
        self.walk.take_out(at);
        self.push(Step::Known(at), index, then)
    }

    /// Tries one of a kind, of those that were called before the first return. At one tick calls come first: what
    /// touches counts as concurrent.
    fn open(&mut self, kind: usize, first_return: Tick) -> Next {
        let following = Next::Open { kind: kind + 1, first_return };
        let index = self.kinds[kind].operations.get(self.used[kind] as usize).copied();
        let called = |index: &usize| self.history[*index].called <= first_return;
        let Some(index) = index.filter(called) else { return following };
        let then = self.model.step(&self.state, &self.history[index].input, None);
        let Some(then) = then else { return following };
        self.used[kind] += 1;
        // What changes nothing is not new.
        if !self.is_new(&then) {
            self.used[kind] -= 1;
            return following;
        }
        self.push(Step::Open { kind, first_return }, index, then)
    }

    /// What returned first is not placed, and nothing makes it fit: the last placement was wrong.
    fn take_back(&mut self) -> Option<Next> {
        let (step, index, before) = self.order.pop()?;
        self.state = before;
        Some(match step {
            Step::Known(call) => {
                self.placed.set(index, false);
                self.left += 1;
                self.walk.put_back(call);
                Next::Known(self.walk.events[call].next)
            }
            Step::Open { kind, first_return } => {
                self.used[kind] -= 1;
                Next::Open { kind: kind + 1, first_return }
            }
        })
    }
}

/// Operations with unknown outcomes that ask the same.
struct Kind {
    /// In order of their calls.
    operations: Vec<usize>,
    /// The value that must be there for them to change anything, and the only operation that leads to it, whose answer
    /// is known.
    needs: Option<(u64, usize)>,
    /// The sums of used operations in which they count: see [`sums`].
    sums: Vec<usize>,
}

/// Those that were called by then.
fn kinds<M: Model>(model: &M, history: &History<M>, known: &[bool], until: Tick) -> Vec<Kind> {
    let mut writers: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, operation) in history.iter().enumerate() {
        if let (_, Some(value)) = model.values(&operation.input) {
            writers.entry(value).or_default().push(index);
        }
    }
    let mut open: Vec<usize> = (0..history.len())
        .filter(|index| !known[*index] && history[*index].called <= until)
        .collect();
    open.sort_by_key(|index| history[*index].called);
    let mut kinds: Vec<Kind> = Vec::new();
    for index in open {
        let input = &history[index].input;
        let same = |kind: &&mut Kind| history[kind.operations[0]].input == *input;
        if let Some(kind) = kinds.iter_mut().find(same) {
            kind.operations.push(index);
            continue;
        }
        let needs = model.values(input).0.and_then(|value| {
            let writer = match writers.get(&value).map(Vec::as_slice) {
                Some([writer]) if known[*writer] => *writer,
                _ => return None,
            };
            Some((value, writer))
        });
        kinds.push(Kind { operations: vec![index], needs, sums: Vec::new() });
    }
    let mut numbers: HashMap<(Option<u64>, usize), usize> = HashMap::new();
    for (number, kind) in kinds.iter_mut().enumerate() {
        for name in sums(model, &history[kind.operations[0]].input, number) {
            let next = numbers.len();
            kind.sums.push(*numbers.entry(name).or_insert(next));
        }
    }
    kinds
}

/// Who has used less can do more. Of kinds that have nothing in common each counts for itself. Of those that lead to
/// one value, some can make more changes than others, and it does not matter which one is left for a change that both
/// can make: what is left does for as many changes of some sorts as those that can make any of these sorts are (Hall's
/// theorem). So what counts, for each set of sorts, is how many are used that can make any of them.
fn sums<M: Model>(model: &M, input: &M::Input, number: usize) -> Vec<(Option<u64>, usize)> {
    let (changes, value) = (usize::from(model.changes(input)), model.values(input).1);
    if changes == 0 {
        return vec![(None, number)];
    }
    (1..=usize::from(CHANGES_MAX))
        .filter(|set| changes & set != 0)
        .map(|set| (value, set))
        .collect()
}

/// How many of each kind are used, of those that could still change something: what needs a value that was there and
/// cannot come back is as good as used up.
fn live<M: Model>(
    model: &M,
    kinds: &[Kind],
    placed: &Placed,
    state: &M::State,
    used: &[u32],
) -> Used {
    let value = model.value(state);
    let is_spent = |kind: &Kind| {
        kind.needs.is_some_and(|(needs, writer)| value != Some(needs) && placed.holds(writer))
    };
    let mut all: BTreeMap<usize, u32> = BTreeMap::new();
    for (kind, used) in kinds.iter().zip(used).filter(|(_, used)| **used > 0) {
        for sum in kind.sums.iter().filter(|_| !is_spent(kind)) {
            *all.entry(*sum).or_default() += used;
        }
    }
    all.into_iter().collect()
}

/// Sums of what is used; the others are 0.
type Used = Box<[(usize, u32)]>;

/// Whether the one has used no more than the other.
fn no_more(one: &Used, other: &Used) -> bool {
    one.iter().all(|(kind, used)| {
        let found = other.binary_search_by_key(kind, |(kind, _)| *kind);
        found.is_ok_and(|at| *used <= other[at].1)
    })
}

/// Configurations that were searched: the known operations that are placed, the state, and how many of each kind of
/// open ones are used.
struct Seen<S> {
    least: HashMap<(Placed, S), Vec<Used>>,
    count: usize,
}

impl<S> Default for Seen<S> {
    fn default() -> Self {
        Self { least: HashMap::new(), count: 0 }
    }
}

impl<S: Clone + Eq + Hash> Seen<S> {
    /// Whether none of the same was seen that had used no more; then it is remembered. Past the limit nothing new is,
    /// and whatever is new is searched.
    fn is_new(&mut self, placed: &Placed, state: &S, used: Used) -> bool {
        let configuration = (placed.clone(), state.clone());
        let is_full = self.count >= MEMO_MAX;
        match self.least.get_mut(&configuration) {
            Some(least) => {
                if least.iter().any(|other| no_more(other, &used)) {
                    return false;
                }
                let before = least.len();
                least.retain(|other| !no_more(&used, other));
                self.count -= before - least.len();
                if !is_full {
                    least.push(used);
                    self.count += 1;
                }
            }
            None if is_full => {}
            None => {
                self.least.insert(configuration, vec![used]);
                self.count += 1;
            }
        }
        true
    }
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
    /// Of the operations whose answers are known.
    fn new<I, O>(history: &[Operation<I, O>], known: &[bool]) -> Self {
        // At one tick calls come first: what touches counts as concurrent.
        let mut times: Vec<(Tick, bool, usize)> = Vec::with_capacity(history.len() * 2);
        for (index, operation) in history.iter().enumerate() {
            if let Some(end) = operation.returned().filter(|_| known[index]) {
                times.push((operation.called, false, index));
                times.push((end, true, index));
            }
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
    fn holds(&self, operation: usize) -> bool {
        operation < self.top && self.holes.binary_search(&operation).is_err()
    }

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
