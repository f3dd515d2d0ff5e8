//! `Compact`: forgets the history of resources up to a revision.
//!
//! Precondition: none; a bound in the future is lowered to the present, one below the last compaction
//! does nothing. Effect: a watch or list at a revision below the bound is answered 410. Changes: none.

use quorate_points::{self as points, Point};

use super::Reply;
use crate::names::{GroupResource, Revision};
use crate::view::View;

pub(super) fn run(view: &mut View, bounds: &[(GroupResource, Revision)]) -> Reply {
    points::pass(Point::CompactionBefore);
    for (resource, bound) in bounds {
        view.compact(resource, *bound);
    }
    points::pass(Point::CompactionAfter);
    Reply::Decided(Vec::new())
}
