//! A hash of the store that changes with it: masters compare at equal log index and so notice a
//! flipped bit (design, section 4, "Bit rot").
//!
//! The hash is a sum over objects, so that one change costs one object, and the same sum can be made
//! again from the bytes of a view. Each version of an object remembers its own hash from the moment
//! it was made, so that a scrubber sees which one is no longer what it was.

use xxhash_rust::xxh3::Xxh3;

use crate::names::{Key, Revision};
use crate::object::{Header, Image, Stored};
use crate::view::View;

/// Hash of one stored version, made from its bytes.
#[must_use]
pub fn of_object(object: &Stored) -> u128 {
    of_version(&object.key, object.revision, &object.image)
}

/// The same, of what is to be stored.
pub(crate) fn of_version(key: &Key, revision: Revision, image: &Image) -> u128 {
    let mut hasher = Xxh3::new();
    for part in [
        &*key.resource.group,
        &*key.resource.resource,
        &*key.object.namespace,
        &*key.object.name,
        &image.header.uid,
    ] {
        put(&mut hasher, part.as_bytes());
    }
    hasher.update(&revision.0.to_le_bytes());
    hasher.update(&image.bytes);
    hasher.digest128()
}

/// Hash of what stands beside the bytes of an object. Not part of the sum, which is the same in all versions of this
/// program.
pub(crate) fn of_header(image: &Image) -> u64 {
    let Header { uid, labels, owners, finalizers, deletion, claims } = &image.header;
    let mut hasher = Xxh3::new();
    put(&mut hasher, uid.as_bytes());
    for (key, value) in labels {
        put(&mut hasher, key.as_bytes());
        put(&mut hasher, value.as_bytes());
    }
    for list in [owners, finalizers, claims] {
        hasher.update(&(list.len() as u64).to_le_bytes());
        list.iter().for_each(|text| put(&mut hasher, text.as_bytes()));
    }
    hasher.update(&[u8::from(deletion.is_some())]);
    hasher.update(&deletion.unwrap_or_default().to_le_bytes());
    hasher.update(&image.revision_offset.to_le_bytes());
    hasher.digest()
}

fn put(hasher: &mut Xxh3, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

/// The hash of a whole view, made again from the bytes.
#[must_use]
pub fn of_view(view: &View) -> u128 {
    view.resources()
        .flat_map(|(_, resource)| resource.iter())
        .fold(0, |sum, object| sum.wrapping_add(of_object(object)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: &'static [u8]) -> Image {
        Image { header: Header::default(), bytes: bytes.into(), revision_offset: 2 }
    }

    fn stored(image: Image) -> Stored {
        Stored::new(Key::new("", "configmaps", "default", "a"), Revision(7), image)
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let good = stored(image(b"{\"data\":1}"));
        assert!(good.is_intact());
        let damages: [fn(&mut Stored); 7] = [
            |it| it.image.bytes = b"{\"data\":3}".as_slice().into(),
            |it| it.image.header.labels.push(("app".into(), "a".into())),
            |it| it.image.header.claims.push("x".into()),
            |it| it.image.header.owners.push("x".into()),
            |it| it.image.header.deletion = Some(0),
            |it| it.image.revision_offset = 3,
            |it| it.revision = Revision(6),
        ];
        for damage in damages {
            let mut bad = stored(image(b"{\"data\":1}"));
            damage(&mut bad);
            assert!(!bad.is_intact(), "{bad:?}");
        }
    }
}
