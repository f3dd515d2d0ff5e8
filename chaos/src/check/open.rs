//! Unknown outcomes that others have seen, or that nobody can ever see: what is left open makes the search for an order
//! longer, each one twice as long at worst.
//!
//! Every write of a run has a value of its own. So who was told of a value was told after its write took effect: the
//! write has an end then, though its client was not told. And what was added to a list or a set and is in no answer was
//! not added as far as anybody can tell: without it the same orders explain the same answers. An update whose condition
//! another one has used up did nothing. Of registers nothing is left out: a write that was overwritten before anybody
//! read it may be why another was refused. But which value it was cannot matter to anybody: all such writes write the
//! same one, so that the search need not tell them apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Operation, Outcome, Tick};
use crate::model::{
    AppendInput, AppendOutput, Input, Output, RegisterInput, RegisterOutput, SetInput, SetOutput,
    VersionedInput, VersionedOutput,
};

/// What a register holds after a write whose value nobody was told of, and nobody asked for. No client writes it.
const UNTOLD: u64 = u64::MAX;

/// The operations that matter, with what is known of their ends, each with its place in `own`.
#[must_use]
pub fn close(own: &[Operation<Input, Output>]) -> Vec<(usize, Operation<Input, Output>)> {
    let mut written: BTreeMap<u64, usize> = BTreeMap::new();
    for operation in own {
        if let Some(value) = writes(&operation.input) {
            *written.entry(value).or_default() += 1;
        }
    }
    let (seen, used) = (seen(own), used(own));
    let asked_for: BTreeSet<u64> = own.iter().filter_map(|found| asks_for(&found.input)).collect();
    let known = |(index, operation): (usize, &Operation<Input, Output>)| {
        let unknown = operation.outcome == Outcome::Unknown;
        let value = writes(&operation.input).filter(|value| unknown && written[value] == 1);
        let Some(value) = value else { return Some((index, operation.clone())) };
        let Some(at) = seen.get(&value) else {
            let left_out = match &operation.input {
                Input::Set(_) | Input::Append(_) => true,
                Input::Bank(VersionedInput::Update { from, .. })
                | Input::Lease(VersionedInput::Update { from, .. }) => used.contains(from),
                Input::Bank(_) | Input::Lease(_) | Input::Register(_) => false,
            };
            let mut operation = operation.clone();
            if !asked_for.contains(&value) {
                forget_value(&mut operation.input);
            }
            return (!left_out).then_some((index, operation));
        };
        // Behind the answer that tells: what is wrong with that one is said of that one.
        let (at, output) = (at.saturating_add(1), done(&operation.input));
        let outcome = match at > operation.called {
            true => Outcome::Done { at, output },
            false => Outcome::Unknown,
        };
        Some((index, Operation { outcome, ..operation.clone() }))
    };
    own.iter().enumerate().filter_map(known).collect()
}

/// The value that must be there for it.
fn asks_for(input: &Input) -> Option<u64> {
    match input {
        Input::Register(RegisterInput::Swap { from, .. }) => Some(*from),
        _ => None,
    }
}

/// Whatever it writes to a register, it is as good as [`UNTOLD`].
fn forget_value(input: &mut Input) {
    if let Input::Register(
        RegisterInput::Write(value)
        | RegisterInput::Patch(value)
        | RegisterInput::Create(value)
        | RegisterInput::Swap { to: value, .. },
    ) = input
    {
        *value = UNTOLD;
    }
}

/// The value that is there when it took effect.
fn writes(input: &Input) -> Option<u64> {
    match input {
        Input::Register(
            RegisterInput::Write(value)
            | RegisterInput::Patch(value)
            | RegisterInput::Create(value)
            | RegisterInput::Swap { to: value, .. },
        )
        | Input::Append(AppendInput::Push(value))
        | Input::Set(SetInput::Add(value)) => Some(*value),
        Input::Bank(input) | Input::Lease(input) => match input {
            VersionedInput::Create(serial, _) | VersionedInput::Update { to: serial, .. } => {
                Some(*serial)
            }
            VersionedInput::Read => None,
        },
        Input::Register(RegisterInput::Read | RegisterInput::Delete)
        | Input::Append(AppendInput::Read)
        | Input::Set(SetInput::Read) => None,
    }
}

/// What a write is told that took effect.
fn done(input: &Input) -> Output {
    match input {
        Input::Register(_) => Output::Register(RegisterOutput::Written),
        Input::Append(_) => Output::Append(AppendOutput::Pushed),
        Input::Set(_) => Output::Set(SetOutput::Added),
        Input::Bank(_) | Input::Lease(_) => Output::Versioned(VersionedOutput::Written),
    }
}

/// When each value was first told to anybody, or was the condition of an update that succeeded.
fn seen(own: &[Operation<Input, Output>]) -> BTreeMap<u64, Tick> {
    let mut seen: BTreeMap<u64, Tick> = BTreeMap::new();
    for operation in own {
        let (Some(at), Some(output)) = (operation.returned(), operation.output()) else { continue };
        let told: Vec<u64> = match (&operation.input, output) {
            (_, Output::Register(RegisterOutput::Value(value))) => vec![*value],
            (_, Output::Append(AppendOutput::Elements(all))) => all.clone(),
            (_, Output::Set(SetOutput::Elements(all))) => all.iter().copied().collect(),
            (_, Output::Versioned(VersionedOutput::Is(serial, _))) => vec![*serial],
            (
                Input::Register(RegisterInput::Swap { from, .. }),
                Output::Register(RegisterOutput::Written),
            )
            | (
                Input::Bank(VersionedInput::Update { from, .. })
                | Input::Lease(VersionedInput::Update { from, .. }),
                Output::Versioned(VersionedOutput::Written),
            ) => vec![*from],
            _ => Vec::new(),
        };
        for value in told {
            let first = seen.entry(value).or_insert(at);
            *first = at.min(*first);
        }
    }
    seen
}

/// Serials that an update which succeeded has replaced.
fn used(own: &[Operation<Input, Output>]) -> BTreeSet<u64> {
    let update = |operation: &Operation<Input, Output>| {
        let (Input::Bank(input) | Input::Lease(input)) = &operation.input else { return None };
        let VersionedInput::Update { from, .. } = input else { return None };
        let written = operation.output() == Some(&Output::Versioned(VersionedOutput::Written));
        written.then_some(*from)
    };
    own.iter().filter_map(update).collect()
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;
    use crate::check::linear;
    use crate::model::{Any, Content, Family, Model as _};

    /// A random request of a client of this family, with a value of its own if it writes.
    fn input(family: Family, value: u64, random: &mut StdRng, last: u64) -> Input {
        let content = || Content::Balances(vec![1]);
        match (family, random.random_range(0..5)) {
            (Family::Register, 0 | 1) => Input::Register(RegisterInput::Read),
            (Family::Register, 2) => Input::Register(RegisterInput::Swap { from: last, to: value }),
            (Family::Register, 3) => Input::Register(RegisterInput::Write(value)),
            (Family::Register, _) => Input::Register(RegisterInput::Delete),
            (Family::Append, 0..3) => Input::Append(AppendInput::Push(value)),
            (Family::Append, _) => Input::Append(AppendInput::Read),
            (Family::Set, 0..3) => Input::Set(SetInput::Add(value)),
            (Family::Set, _) => Input::Set(SetInput::Read),
            (Family::Bank | Family::Leases, 0) => {
                Input::Bank(VersionedInput::Create(value, content()))
            }
            (Family::Bank | Family::Leases, 1 | 2) => {
                Input::Bank(VersionedInput::Update { from: last, to: value, content: content() })
            }
            (Family::Bank | Family::Leases, _) => Input::Bank(VersionedInput::Read),
        }
    }

    /// A history of one object: true, but some answers are lost and now and then one is of another time.
    fn history(family: Family, seed: u64) -> Vec<Operation<Input, Output>> {
        history_of(family, seed, (14, 40))
    }

    /// So many operations, and one of so many is of another time.
    fn history_of(
        family: Family,
        seed: u64,
        (count, stale_in): (u32, u32),
    ) -> Vec<Operation<Input, Output>> {
        let random = &mut StdRng::seed_from_u64(seed);
        let model = Any(family);
        let mut states = vec![model.initial()];
        let mut own = Vec::new();
        let mut last = 0;
        for number in 0..count {
            let called = u64::from(number) * 10 + random.random_range(0..8);
            let input = input(family, u64::from(number) + 1, random, last);
            let stale = random.random_range(0..stale_in) == 0;
            let back = if stale { random.random_range(0..states.len()) } else { states.len() - 1 };
            let state = states[back].clone();
            let lost = random.random_range(0..4) == 0;
            let (output, next) = answer(&model, &state, &input);
            if !stale && (!lost || random.random::<bool>()) {
                last = writes(&input).unwrap_or(last);
                states.push(next);
            }
            let at = called + random.random_range(1..25);
            let outcome = if lost { Outcome::Unknown } else { Outcome::Done { at, output } };
            own.push(Operation { client: number, called, input, outcome });
        }
        own.sort_by_key(|operation| operation.called);
        own
    }

    /// What the model answers, by trying.
    fn answer(
        model: &Any,
        state: &<Any as crate::model::Model>::State,
        input: &Input,
    ) -> (Output, <Any as crate::model::Model>::State) {
        let next = model.step(state, input, None).unwrap();
        let all = [
            Output::Register(RegisterOutput::Absent),
            Output::Register(RegisterOutput::Written),
            Output::Register(RegisterOutput::Refused),
            Output::Append(AppendOutput::Pushed),
            Output::Set(SetOutput::Added),
            Output::Versioned(VersionedOutput::Absent),
            Output::Versioned(VersionedOutput::Written),
            Output::Versioned(VersionedOutput::Refused),
        ];
        let fits = |output: &Output| model.step(state, input, Some(output)).is_some();
        if let Some(output) = all.into_iter().find(|output| fits(output)) {
            return (output, next);
        }
        let mut values = 0..1100;
        let one = values.find_map(|value| {
            let content = Content::Balances(vec![1]);
            let register = Output::Register(RegisterOutput::Value(value));
            let versioned = Output::Versioned(VersionedOutput::Is(value, content));
            [register, versioned].into_iter().find(|output| fits(output))
        });
        let output = one.unwrap_or_else(|| match state {
            crate::model::State::Append(all) => Output::Append(AppendOutput::Elements(all.clone())),
            crate::model::State::Set(all) => Output::Set(SetOutput::Elements(all.clone())),
            other => panic!("{other:?} to {input:?}"),
        });
        assert!(fits(&output), "{output:?}");
        (output, next)
    }

    #[test]
    fn the_verdict_is_the_same_and_no_more_is_open() {
        let (mut right, mut wrong, mut closed) = (0, 0, 0);
        for family in [Family::Register, Family::Append, Family::Set, Family::Bank] {
            for seed in 0..1500 {
                let own = history(family, seed);
                let close: Vec<_> = close(&own).into_iter().map(|(_, own)| own).collect();
                let model = Any(family);
                let before = linear::is_explained(&model, &own, 1_000_000);
                let after = linear::is_explained(&model, &close, 1_000_000);
                assert_eq!(before, after, "{family} {seed}: {own:#?}\n{close:#?}");
                *(if before == Some(true) { &mut right } else { &mut wrong }) += 1;
                let open = |all: &[Operation<Input, Output>]| {
                    all.iter().filter(|found| found.outcome == Outcome::Unknown).count()
                };
                assert!(open(&close) <= open(&own));
                closed += open(&own) - open(&close);
            }
        }
        assert!(right > 500 && wrong > 500 && closed > 2000, "{right} {wrong} {closed}");
    }

    #[test]
    fn many_lost_writes_do_not_make_the_search_long() {
        let model = Any(Family::Register);
        // A quarter of the answers is lost, most of them of writes that nobody reads.
        let closed = |seed, count| -> Vec<_> {
            let own = history_of(Family::Register, seed, (count, u32::MAX));
            close(&own).into_iter().map(|(_, own)| own).collect()
        };
        for seed in 0..4 {
            let own = closed(seed, 1000);
            let open = own.iter().filter(|found| found.outcome == Outcome::Unknown).count();
            assert!(open > 150, "{open}");
            assert_eq!(linear::is_explained(&model, &own, 200_000), Some(true), "{seed}");
            // One answer of long ago, and no order.
            let mut own = closed(seed, 200);
            let told = |found: &&mut Operation<Input, Output>| {
                matches!(found.output(), Some(Output::Register(RegisterOutput::Value(_))))
            };
            let last = own.iter_mut().rfind(told).unwrap();
            let Outcome::Done { at, .. } = last.outcome else { panic!("it was told") };
            let output = Output::Register(RegisterOutput::Value(0));
            last.outcome = Outcome::Done { at, output };
            assert_eq!(linear::is_explained(&model, &own, 1_000_000), Some(false), "{seed}");
        }
    }

    #[test]
    fn a_search_that_is_stopped_says_nothing() {
        let own = history_of(Family::Register, 1, (1000, u32::MAX));
        let stop = tokio_util::sync::CancellationToken::new();
        linear::stop_with(Some(stop.clone()));
        let explained = || linear::is_explained(&Any(Family::Register), &own, u64::MAX);
        stop.cancel();
        assert_eq!(explained(), None);
        linear::stop_with(None);
    }
}
