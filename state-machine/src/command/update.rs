//! `Update`: a new version of an object, computed from an exact revision of it.
//!
//! Precondition: the object is at that revision; no other object holds one of its claims. Effect: the
//! object is the new version; claims that it no longer names are free. Changes: one `Updated`.

use quorate_mutants::{self as mutants, Mutant};

use super::{Outcome, change, refuse_image};
use crate::history::ChangeKind;
use crate::names::{Key, Revision};
use crate::object::Image;
use crate::view::View;

pub(super) fn run(view: &mut View, key: &Key, expect: Revision, image: &Image) -> Outcome {
    match view.get(key) {
        None if mutants::is(Mutant::UpdateRevives) => {
            change(view, key, ChangeKind::Created, Some(image))
        }
        None => Outcome::NotFound,
        Some(current) if current.revision != expect && !mutants::is(Mutant::ConflictIgnored) => {
            Outcome::Conflict(current.revision)
        }
        Some(_) => match refuse_image(view, key, image) {
            Some(refusal) => refusal,
            None => change(view, key, ChangeKind::Updated, Some(image)),
        },
    }
}
