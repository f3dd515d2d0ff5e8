//! `Compact`: forgets the history of resources up to a revision.
//!
//! Precondition: none; a bound in the future is lowered to the present, one below the last compaction
//! does nothing. Effect: a watch or list at a revision below the bound is answered 410. Changes: none.

use super::Reply;
use crate::names::{GroupResource, Revision};
use crate::view::View;

pub(super) fn run(view: &mut View, bounds: &[(GroupResource, Revision)]) -> Reply {
    for (resource, bound) in bounds {
        view.compact(resource, *bound);
    }
    Reply::Decided(Vec::new())
}
