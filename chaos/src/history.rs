//! What clients did and saw: operations with the time between call and return.
//!
//! Times are ticks of one clock that all clients of a run share, so that "returned before the other
//! was called" has a meaning. Nothing here knows what an operation does: that is a
//! [`Model`](crate::model::Model).

use std::collections::BTreeMap;

/// A point in a run: nanoseconds of the harness's own monotonic clock, or a counter in tests.
pub type Tick = u64;

/// How an operation ended, as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<O> {
    /// It was answered.
    Done {
        /// When the answer was there.
        at: Tick,
        /// What it said.
        output: O,
    },
    /// Nobody knows: a timeout, a broken connection, a 504. It may have taken effect, may still do
    /// so at any later time, or never (Jepsen's `:info`).
    Unknown,
}

/// One operation of one client.
///
/// An operation that certainly had no effect (refused before it was proposed) and told nothing is
/// not part of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<I, O> {
    /// Whose it is. A client has one operation at a time; after an unknown outcome it goes on under
    /// a new number.
    pub client: u32,
    /// When it was called.
    pub called: Tick,
    /// What was asked for.
    pub input: I,
    /// What became of it.
    pub outcome: Outcome<O>,
}

impl<I, O> Operation<I, O> {
    /// When it returned; never for an unknown outcome.
    pub fn returned(&self) -> Option<Tick> {
        match self.outcome {
            Outcome::Done { at, .. } => Some(at),
            Outcome::Unknown => None,
        }
    }

    /// When, and nothing of what.
    #[must_use]
    pub fn times(&self) -> Operation<(), ()> {
        let outcome = match self.outcome {
            Outcome::Done { at, .. } => Outcome::Done { at, output: () },
            Outcome::Unknown => Outcome::Unknown,
        };
        Operation { client: self.client, called: self.called, input: (), outcome }
    }

    /// What it told, if anything.
    pub fn output(&self) -> Option<&O> {
        match &self.outcome {
            Outcome::Done { output, .. } => Some(output),
            Outcome::Unknown => None,
        }
    }
}

/// Why a history cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// An operation returned before it was called.
    #[error("operation {0} returned before it was called")]
    Backwards(usize),
    /// A client called while its last operation was under way.
    #[error("client {client}: operation {second} was called while operation {first} was under way")]
    Overlap {
        /// Whose operations they are.
        client: u32,
        /// Index of the one that was under way.
        first: usize,
        /// Index of the other.
        second: usize,
    },
}

/// Tells whether the harness itself recorded nonsense, before anything else is blamed: times in
/// order, one operation at a time for each client.
///
/// # Errors
/// The first operation that breaks the form.
pub fn well_formed<I, O>(operations: &[Operation<I, O>]) -> Result<(), Malformed> {
    let mut by_client: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        if operation.returned().is_some_and(|at| at < operation.called) {
            return Err(Malformed::Backwards(index));
        }
        by_client.entry(operation.client).or_default().push(index);
    }
    for (client, mut own) in by_client {
        own.sort_by_key(|index| operations[*index].called);
        for pair in own.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            let free = operations[first].returned();
            if free.is_none_or(|at| at >= operations[second].called) {
                return Err(Malformed::Overlap { client, first, second });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(client: u32, called: Tick, at: Option<Tick>) -> Operation<(), ()> {
        let outcome = at.map_or(Outcome::Unknown, |at| Outcome::Done { at, output: () });
        Operation { client, called, input: (), outcome }
    }

    #[test]
    fn one_operation_at_a_time() {
        let good = [operation(1, 0, Some(5)), operation(1, 6, Some(7)), operation(2, 1, None)];
        assert_eq!(well_formed(&good), Ok(()));
        let overlap = [operation(1, 4, Some(6)), operation(1, 0, Some(5))];
        let found = well_formed(&overlap);
        assert_eq!(found, Err(Malformed::Overlap { client: 1, first: 1, second: 0 }));
        let after_unknown = [operation(1, 0, None), operation(1, 9, Some(10))];
        assert!(matches!(well_formed(&after_unknown), Err(Malformed::Overlap { .. })));
    }

    #[test]
    fn time_goes_forward() {
        assert_eq!(well_formed(&[operation(1, 5, Some(4))]), Err(Malformed::Backwards(0)));
    }
}
