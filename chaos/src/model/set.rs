//! A set that only grows: every element that was added and acknowledged is in every later read.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Model;

/// One set; empty at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Set;

/// What is asked of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetInput {
    /// Adds an element.
    Add(u64),
    /// Reads all of it.
    Read,
}

/// What a set answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetOutput {
    /// It is in.
    Added,
    /// All elements.
    Elements(BTreeSet<u64>),
    /// All elements, and this one more than once: no set answers so.
    Twice(u64),
}

impl Model for Set {
    type Input = SetInput;
    type Output = SetOutput;
    type State = BTreeSet<u64>;

    fn initial(&self) -> BTreeSet<u64> {
        BTreeSet::new()
    }

    fn step(
        &self,
        state: &BTreeSet<u64>,
        input: &SetInput,
        output: Option<&SetOutput>,
    ) -> Option<BTreeSet<u64>> {
        match (input, output) {
            (SetInput::Add(element), None | Some(SetOutput::Added)) => {
                let mut next = state.clone();
                next.insert(*element);
                Some(next)
            }
            (SetInput::Read, None) => Some(state.clone()),
            (SetInput::Read, Some(SetOutput::Elements(seen))) if seen == state => {
                Some(state.clone())
            }
            (SetInput::Read | SetInput::Add(_), Some(_)) => None,
        }
    }
}
