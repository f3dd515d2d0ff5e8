//! `Write`: independent operations, each with its own outcome.
//!
//! Precondition: none of its own. Effect and outcome: those of each operation, in order; a later one
//! sees the effects of the earlier ones. Changes: one per operation that took effect.

use super::{Op, Outcome, run_op};
use crate::view::View;

pub(super) fn run(view: &mut View, ops: &[Op]) -> Vec<Outcome> {
    ops.iter().map(|op| run_op(view, op)).collect()
}
