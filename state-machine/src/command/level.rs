//! `RaiseLevel`: all masters are at least at this version now.
//!
//! Effect: the cluster level is the higher of the two. Changes: none.

use super::Reply;
use crate::names::ClusterLevel;
use crate::view::View;

pub(super) fn run(view: &mut View, level: ClusterLevel) -> Reply {
    view.raise_level(level);
    Reply::Decided(Vec::new())
}
