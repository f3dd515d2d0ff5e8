//! A list that is appended to: a read shows the order in which all writes took effect, so it finds
//! more than a register does (Elle's list-append).

use serde::{Deserialize, Serialize};

use super::Model;

/// One list; empty at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Append;

/// What is asked of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppendInput {
    /// Appends an element.
    Push(u64),
    /// Reads all of it.
    Read,
}

/// What a list answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppendOutput {
    /// It is at the end.
    Pushed,
    /// All elements, oldest first.
    Elements(Vec<u64>),
}

impl Model for Append {
    type Input = AppendInput;
    type Output = AppendOutput;
    type State = Vec<u64>;

    fn initial(&self) -> Vec<u64> {
        Vec::new()
    }

    fn step(
        &self,
        state: &Vec<u64>,
        input: &AppendInput,
        output: Option<&AppendOutput>,
    ) -> Option<Vec<u64>> {
        match (input, output) {
            (AppendInput::Push(element), None | Some(AppendOutput::Pushed)) => {
                let mut next = state.clone();
                next.push(*element);
                Some(next)
            }
            (AppendInput::Read, None) => Some(state.clone()),
            (AppendInput::Read, Some(AppendOutput::Elements(seen))) if seen == state => {
                Some(state.clone())
            }
            (AppendInput::Read | AppendInput::Push(_), Some(_)) => None,
        }
    }
}
