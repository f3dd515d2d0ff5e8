//! One object with a version: read, write, compare-and-set, delete (knossos' cas-register, with
//! Kubernetes' words for its answers).

use serde::{Deserialize, Serialize};

use super::Model;

/// One key; absent at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Register;

/// What is asked of a register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegisterInput {
    /// GET.
    Read,
    /// Writes without a condition; makes the object when it is not there.
    Write(u64),
    /// PATCH without a condition: only when it is there.
    Patch(u64),
    /// POST: only when it is not there.
    Create(u64),
    /// PUT under the condition that this value is there.
    Swap {
        /// What must be there.
        from: u64,
        /// What is there then.
        to: u64,
    },
    /// DELETE.
    Delete,
}

/// What a register answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegisterOutput {
    /// The value that is there.
    Value(u64),
    /// 404.
    Absent,
    /// 200 or 201: it took effect.
    Written,
    /// 409: its condition did not hold, nothing changed.
    Refused,
}

impl Model for Register {
    type Input = RegisterInput;
    type Output = RegisterOutput;
    type State = Option<u64>;

    fn initial(&self) -> Option<u64> {
        None
    }

    fn step(
        &self,
        state: &Option<u64>,
        input: &RegisterInput,
        output: Option<&RegisterOutput>,
    ) -> Option<Option<u64>> {
        use {RegisterInput as Input, RegisterOutput as Output};
        let (answer, next) = match (input, state) {
            (Input::Read, Some(value)) => (Output::Value(*value), *state),
            (Input::Read | Input::Patch(_) | Input::Swap { .. } | Input::Delete, None) => {
                (Output::Absent, None)
            }
            (Input::Write(value), _)
            | (Input::Create(value), None)
            | (Input::Patch(value), Some(_)) => (Output::Written, Some(*value)),
            (Input::Create(_), Some(_)) => (Output::Refused, *state),
            (Input::Swap { from, to }, Some(value)) if from == value => {
                (Output::Written, Some(*to))
            }
            (Input::Swap { .. }, Some(_)) => (Output::Refused, *state),
            (Input::Delete, Some(_)) => (Output::Written, None),
        };
        output.is_none_or(|seen| *seen == answer).then_some(next)
    }

    fn values(&self, input: &RegisterInput) -> (Option<u64>, Option<u64>) {
        match input {
            RegisterInput::Read | RegisterInput::Delete => (None, None),
            RegisterInput::Write(to) | RegisterInput::Patch(to) | RegisterInput::Create(to) => {
                (None, Some(*to))
            }
            RegisterInput::Swap { from, to } => (Some(*from), Some(*to)),
        }
    }

    /// Of what is there, and of what is not.
    fn changes(&self, input: &RegisterInput) -> u8 {
        match input {
            RegisterInput::Read | RegisterInput::Delete | RegisterInput::Swap { .. } => 0,
            RegisterInput::Patch(_) => 1,
            RegisterInput::Create(_) => 2,
            RegisterInput::Write(_) => 3,
        }
    }

    fn value(&self, state: &Option<u64>) -> Option<u64> {
        *state
    }
}
