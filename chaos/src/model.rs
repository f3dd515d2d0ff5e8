//! Models: what a single, never failing copy of the store would answer.
//!
//! A model is a pure function from state, input and answer to the next state. A history is right
//! when some order of its operations, each placed between its call and its return, makes every
//! answer one that the model could have given (Herlihy and Wing 1990).

mod any;
mod append;
mod register;
mod set;
mod versioned;

use std::fmt::Debug;
use std::hash::Hash;

pub use any::{Any, Family, Input, Output, State};
pub use append::{Append, AppendInput, AppendOutput};
pub use register::{Register, RegisterInput, RegisterOutput};
pub use set::{Set, SetInput, SetOutput};
pub use versioned::{Content, Versioned, VersionedInput, VersionedOutput};

/// A sequential specification.
pub trait Model {
    /// What a client asks for.
    type Input: Debug + PartialEq;
    /// What it is told.
    type Output: Debug;
    /// What the one copy would hold.
    type State: Clone + Eq + Hash + Debug;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after the operation, or `None` when the model could not have answered so.
    ///
    /// Without an output (nobody knows what was answered) there must be a next state: the one that
    /// the operation leads to, which for a condition that does not hold is the same state.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;

    /// The value that must be there for this to change anything, where it is one, and the value that it leads to.
    /// Values are numbers that tell what different operations write.
    fn values(&self, _input: &Self::Input) -> (Option<u64>, Option<u64>) {
        (None, None)
    }

    /// Which changes it can make of those to its value: a bit for each, none when it has nothing in common with others.
    /// Two with one bit in common make the same of every state that this bit stands for.
    fn changes(&self, _input: &Self::Input) -> u8 {
        0
    }

    /// The value that is there, where it is one.
    fn value(&self, _state: &Self::State) -> Option<u64> {
        None
    }
}
