//! A hash of the store that changes with it: masters compare at equal log index and so notice a
//! flipped bit (design, section 4, "Bit rot").
//!
//! The hash is a sum over objects, so that one change costs one object, and the same sum can be made
//! again from the bytes of a view by a scrubber.

use xxhash_rust::xxh3::Xxh3;

use crate::object::Stored;
use crate::view::View;

/// Hash of one stored version.
#[must_use]
pub fn of_object(object: &Stored) -> u128 {
    let mut hasher = Xxh3::new();
    for part in [
        &*object.key.resource.group,
        &*object.key.resource.resource,
        &*object.key.object.namespace,
        &*object.key.object.name,
        object.uid(),
    ] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(&object.revision.0.to_le_bytes());
    hasher.update(&object.image.bytes);
    hasher.digest128()
}

/// The hash of a whole view, made again from the bytes.
#[must_use]
pub fn of_view(view: &View) -> u128 {
    view.resources()
        .flat_map(|(_, resource)| resource.iter())
        .fold(0, |sum, object| sum.wrapping_add(of_object(object)))
}
