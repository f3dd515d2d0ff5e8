//! An object that is replaced as a whole under the version that was read: accounts whose sum stays, a lease that has
//! one holder.
//!
//! Every write has a serial number that no other has, so a `resourceVersion` that is still current means the same as a
//! serial that is still there: an update under a `resourceVersion` is a compare-and-set, and one that comes back to an
//! old content is not taken for it.

use serde::{Deserialize, Serialize};

use super::Model;

/// One object; absent at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Versioned;

/// What such an object says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// What is in each account.
    Balances(Vec<i64>),
    /// Who has the lease.
    Lease {
        /// The holder; empty when it was given back.
        holder: String,
        /// How often it came to a holder that had not had it before (`spec.leaseTransitions`).
        transitions: u64,
    },
}

/// What is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionedInput {
    /// GET.
    Read,
    /// POST: only when it is not there.
    Create(u64, Content),
    /// PUT under the condition that this serial is there.
    Update {
        /// What must be there.
        from: u64,
        /// What is there then.
        to: u64,
        /// And what it says.
        content: Content,
    },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionedOutput {
    /// What is there.
    Is(u64, Content),
    /// 404.
    Absent,
    /// 200 or 201: it took effect.
    Written,
    /// 409: its condition did not hold, nothing changed.
    Refused,
}

impl Model for Versioned {
    type Input = VersionedInput;
    type Output = VersionedOutput;
    type State = Option<(u64, Content)>;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(
        &self,
        state: &Self::State,
        input: &VersionedInput,
        output: Option<&VersionedOutput>,
    ) -> Option<Self::State> {
        use {VersionedInput as Input, VersionedOutput as Output};
        let (answer, next) = match (input, state) {
            (Input::Read, Some((serial, content))) => {
                (Output::Is(*serial, content.clone()), state.clone())
            }
            (Input::Read | Input::Update { .. }, None) => (Output::Absent, None),
            (Input::Create(serial, content), None) => {
                (Output::Written, Some((*serial, content.clone())))
            }
            (Input::Update { from, to, content }, Some((serial, _))) if from == serial => {
                (Output::Written, Some((*to, content.clone())))
            }
            (Input::Create(..) | Input::Update { .. }, Some(_)) => (Output::Refused, state.clone()),
        };
        output.is_none_or(|seen| *seen == answer).then_some(next)
    }

    fn values(&self, input: &VersionedInput) -> (Option<u64>, Option<u64>) {
        match input {
            VersionedInput::Read => (None, None),
            VersionedInput::Create(serial, _) => (None, Some(*serial)),
            VersionedInput::Update { from, to, .. } => (Some(*from), Some(*to)),
        }
    }

    fn value(&self, state: &Self::State) -> Option<u64> {
        state.as_ref().map(|(serial, _)| *serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use VersionedInput::{Create, Read, Update};
    use VersionedOutput::{Absent, Is, Refused, Written};

    fn content(a: i64, b: i64) -> Content {
        Content::Balances(vec![a, b])
    }

    #[test]
    fn a_serial_is_written_once() {
        let step = |state: &Option<(u64, Content)>, input: &VersionedInput, output| {
            Versioned.step(state, input, Some(&output))
        };
        assert_eq!(step(&None, &Read, Absent), Some(None));
        let first = step(&None, &Create(1, content(5, 5)), Written).unwrap();
        assert_eq!(step(&first, &Create(2, content(5, 5)), Written), None);
        let update = |from, to| Update { from, to, content: content(4, 6) };
        let second = step(&first, &update(1, 3), Written).unwrap();
        assert_eq!(step(&second, &Read, Is(3, content(4, 6))), Some(second.clone()));
        assert_eq!(step(&second, &Read, Is(1, content(5, 5))), None, "stale");
        assert_eq!(step(&second, &update(1, 4), Written), None, "what it had read is gone");
        assert_eq!(step(&second, &update(1, 4), Refused), Some(second));
    }
}
