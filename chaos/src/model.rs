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
    type Input: Debug;
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
}
