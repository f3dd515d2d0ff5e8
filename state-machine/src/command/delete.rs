//! `Delete`: the object is gone.
//!
//! Precondition: it exists, with the uid and at the revision that are asked for. Effect: it is gone
//! and its claims are free. Changes: one `Deleted`, which shows the last version.

use super::{Outcome, change};
use crate::history::ChangeKind;
use crate::names::{Key, Revision};
use crate::view::View;

pub(super) fn run(
    view: &mut View,
    key: &Key,
    expect: Option<Revision>,
    uid: Option<&str>,
) -> Outcome {
    let Some(current) = view.get(key) else {
        return Outcome::NotFound;
    };
    if let Some(uid) = uid
        && current.uid() != uid
    {
        return Outcome::OtherUid(current.uid().to_owned());
    }
    if let Some(expect) = expect
        && current.revision != expect
    {
        return Outcome::Conflict(current.revision);
    }
    change(view, key, ChangeKind::Deleted, None)
}
