//! Any of the models: what clients of different kinds do in one run is one history.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Append, AppendInput, AppendOutput, Content, Model, Register, RegisterInput, RegisterOutput,
    Set, SetInput, SetOutput, Versioned, VersionedInput, VersionedOutput,
};

/// Which model an object follows.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Read, create, update under a `resourceVersion`, patch and delete ConfigMaps
    Register,
    /// Append to lists
    Append,
    /// Create elements and list them
    Set,
    /// Move money between accounts
    Bank,
    /// Fight for leases as client-go's leader election does
    Leases,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Register, Self::Append, Self::Set, Self::Bank, Self::Leases];

    /// The name of an object of this family, by its number.
    #[must_use]
    pub fn object(self, key: usize) -> String {
        format!("{}{key}", self.prefix())
    }

    /// What names of its objects begin with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Register => "register-",
            Self::Append => "list-",
            Self::Set => "set-",
            Self::Bank => "bank-",
            Self::Leases => "lease-",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Register => "register",
            Self::Append => "append",
            Self::Set => "set",
            Self::Bank => "bank",
            Self::Leases => "leases",
        })
    }
}

/// What is asked of an object of any family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// Of a register.
    Register(RegisterInput),
    /// Of a list.
    Append(AppendInput),
    /// Of a set.
    Set(SetInput),
    /// Of accounts.
    Bank(VersionedInput),
    /// Of a lease.
    Lease(VersionedInput),
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Of a register.
    Register(RegisterOutput),
    /// Of a list.
    Append(AppendOutput),
    /// Of a set.
    Set(SetOutput),
    /// Of accounts, or of a lease.
    Versioned(VersionedOutput),
}

impl Input {
    /// Whose input it is.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Register(_) => Family::Register,
            Self::Append(_) => Family::Append,
            Self::Set(_) => Family::Set,
            Self::Bank(_) => Family::Bank,
            Self::Lease(_) => Family::Leases,
        }
    }

    /// Whether it changes nothing, whatever is answered.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Self::Register(input) => *input == RegisterInput::Read,
            Self::Append(input) => *input == AppendInput::Read,
            Self::Set(input) => *input == SetInput::Read,
            Self::Bank(input) | Self::Lease(input) => *input == VersionedInput::Read,
        }
    }
}

impl Output {
    /// Whether it says that a write took effect.
    #[must_use]
    pub fn is_written(&self) -> bool {
        matches!(
            self,
            Self::Register(RegisterOutput::Written)
                | Self::Append(AppendOutput::Pushed)
                | Self::Set(SetOutput::Added)
                | Self::Versioned(VersionedOutput::Written)
        )
    }
}

impl From<RegisterInput> for Input {
    fn from(input: RegisterInput) -> Self {
        Self::Register(input)
    }
}

impl From<RegisterOutput> for Output {
    fn from(output: RegisterOutput) -> Self {
        Self::Register(output)
    }
}

/// One object of a family.
#[derive(Debug, Clone, Copy)]
pub struct Any(pub Family);

/// What it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// A register.
    Register(Option<u64>),
    /// A list.
    Append(Vec<u64>),
    /// A set.
    Set(BTreeSet<u64>),
    /// Accounts, or a lease.
    Versioned(Option<(u64, Content)>),
}

impl Model for Any {
    type Input = Input;
    type Output = Output;
    type State = State;

    fn initial(&self) -> State {
        match self.0 {
            Family::Register => State::Register(Register.initial()),
            Family::Append => State::Append(Append.initial()),
            Family::Set => State::Set(Set.initial()),
            Family::Bank | Family::Leases => State::Versioned(Versioned.initial()),
        }
    }

    fn step(&self, state: &State, input: &Input, output: Option<&Output>) -> Option<State> {
        /// The model's own output; an answer of another family is none that it could have given.
        macro_rules! own {
            ($family:path) => {
                match output {
                    None => None,
                    Some($family(output)) => Some(output),
                    Some(_) => return None,
                }
            };
        }
        match (state, input) {
            (State::Register(state), Input::Register(input)) => {
                Register.step(state, input, own!(Output::Register)).map(State::Register)
            }
            (State::Append(state), Input::Append(input)) => {
                Append.step(state, input, own!(Output::Append)).map(State::Append)
            }
            (State::Set(state), Input::Set(input)) => {
                Set.step(state, input, own!(Output::Set)).map(State::Set)
            }
            (State::Versioned(state), Input::Bank(input) | Input::Lease(input)) => {
                Versioned.step(state, input, own!(Output::Versioned)).map(State::Versioned)
            }
            _ => None,
        }
    }

    fn values(&self, input: &Input) -> (Option<u64>, Option<u64>) {
        match input {
            Input::Register(input) => Register.values(input),
            Input::Bank(input) | Input::Lease(input) => Versioned.values(input),
            Input::Append(_) | Input::Set(_) => (None, None),
        }
    }

    fn changes(&self, input: &Input) -> u8 {
        match input {
            Input::Register(input) => Register.changes(input),
            Input::Append(_) | Input::Set(_) | Input::Bank(_) | Input::Lease(_) => 0,
        }
    }

    fn value(&self, state: &State) -> Option<u64> {
        match state {
            State::Register(state) => Register.value(state),
            State::Versioned(state) => Versioned.value(state),
            State::Append(_) | State::Set(_) => None,
        }
    }
}
