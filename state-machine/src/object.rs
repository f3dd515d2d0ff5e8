//! Objects as the store keeps them: canonical JSON bytes without the resourceVersion, and a small
//! header of what `apply` and the controllers look at without parsing JSON.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::hash;
use crate::names::{Key, Revision, Uid};

/// What `apply` must know of an object, and what selects it. Beside the bytes so that nobody parses
/// JSON under the log (design, section 4).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Header {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`, sorted by key.
    pub labels: Vec<(String, String)>,
    /// uids of `metadata.ownerReferences`, in their order.
    pub owners: Vec<String>,
    /// `metadata.finalizers`, in their order.
    pub finalizers: Vec<String>,
    /// `metadata.deletionTimestamp` in seconds since 1970, when the object is being deleted.
    pub deletion: Option<i64>,
    /// Values that at most one object of this resource may hold at a time, such as
    /// `clusterIP/10.43.0.7`. Taken and released with the object, so allocation cannot race.
    pub claims: Vec<String>,
}

/// One version of an object as its proposer made it; it gets its revision when it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The header that belongs to `bytes`.
    pub header: Header,
    /// Canonical JSON without `metadata.resourceVersion`.
    pub bytes: Bytes,
    /// Offset in `bytes` right after `"metadata":{`, where a reader's copy gets
    /// `"resourceVersion":"N",`.
    pub revision_offset: u32,
}

/// One version of an object in the store.
#[derive(Debug)]
pub struct Stored {
    /// Where it is.
    pub key: Key,
    /// The revision that this version was written at.
    pub revision: Revision,
    /// Header and bytes.
    pub image: Image,
    /// Of the bytes and of the header when they were taken.
    hash: (u128, u64),
    /// See [`Stored::derived`].
    derived: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A version of an object, shared by view, history, watchers.
pub type StoredRef = Arc<Stored>;

impl Stored {
    /// One version of an object.
    #[must_use]
    pub fn new(key: Key, revision: Revision, image: Image) -> Self {
        let hash = (hash::of_version(&key, revision, &image), hash::of_header(&image));
        Self { key, revision, image, hash, derived: OnceLock::new() }
    }

    /// The hash of what it was made of: see [`crate::hash`].
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.hash.0
    }

    /// Whether it is what it was when it was made: hashes all of it again.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.hash == (hash::of_object(self), hash::of_header(&self.image))
    }

    /// The object's uid.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.image.header.uid
    }

    /// What a reader computes from the bytes, once per version: selectable fields, for example.
    /// Not replicated, not in snapshots. `T` must always be the same type: a second type finds the
    /// slot taken and gets `None`.
    pub fn derived<T: Send + Sync + 'static>(&self, make: impl FnOnce(&Self) -> T) -> Option<&T> {
        self.derived.get_or_init(|| Box::new(make(self))).downcast_ref()
    }

    /// Appends the object as clients see it: with its resourceVersion.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        self.write_at(self.revision, out);
    }

    /// Appends the object with another resourceVersion: a deletion shows the last version at the
    /// revision of the deletion.
    pub fn write_at(&self, revision: Revision, out: &mut Vec<u8>) {
        let (head, tail) = self.image.split();
        let mut digits = itoa_buffer();
        let digits = write_decimal(revision.0, &mut digits);
        out.reserve(self.image.bytes.len() + 40);
        out.extend_from_slice(head);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(digits);
        out.push(b'"');
        if tail.first() != Some(&b'}') {
            out.push(b',');
        }
        out.extend_from_slice(tail);
    }

    /// The object as clients see it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }
}

impl Image {
    /// The bytes before and after the place of the resourceVersion.
    #[must_use]
    pub fn split(&self) -> (&[u8], &[u8]) {
        // An offset beyond the bytes cannot be applied (see `Machine`), so this cannot fail.
        self.bytes.split_at((self.revision_offset as usize).min(self.bytes.len()))
    }

    /// The uid as shared text.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.header.uid.as_str().into()
    }

    /// Bytes that this version takes in memory and snapshots, about.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let labels: usize = self.header.labels.iter().map(|(k, v)| k.len() + v.len() + 48).sum();
        (self.bytes.len() + labels + self.header.uid.len() + 256) as u64
    }
}

const fn itoa_buffer() -> [u8; 20] {
    [0; 20]
}

fn write_decimal(mut value: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            return &buffer[at..];
        }
    }
}

// === impl codec of Image ===
// By hand: `Bytes` has no derive, and one copy is enough.

impl Encode for Image {
    fn encode<E: bincode::enc::Encoder>(
        &self,
        encoder: &mut E,
    ) -> Result<(), bincode::error::EncodeError> {
        self.header.encode(encoder)?;
        self.bytes.as_ref().encode(encoder)?;
        self.revision_offset.encode(encoder)
    }
}

bincode::impl_borrow_decode!(Image);

impl<Context> Decode<Context> for Image {
    fn decode<D: bincode::de::Decoder<Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        Ok(Self {
            header: Header::decode(decoder)?,
            bytes: Bytes::from(Vec::<u8>::decode(decoder)?),
            revision_offset: u32::decode(decoder)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bytes: &'static [u8], offset: u32, revision: u64) -> Stored {
        let image = Image {
            header: Header::default(),
            bytes: Bytes::from_static(bytes),
            revision_offset: offset,
        };
        Stored::new(Key::new("", "configmaps", "default", "a"), Revision(revision), image)
    }

    #[test]
    fn the_resource_version_is_put_at_its_place() {
        let object = stored(br#"{"metadata":{"name":"a"}}"#, 13, 1_234_567_890);
        assert_eq!(
            String::from_utf8(object.to_json()).unwrap(),
            r#"{"metadata":{"resourceVersion":"1234567890","name":"a"}}"#
        );
    }

    #[test]
    fn an_empty_metadata_stays_valid_json() {
        let object = stored(br#"{"metadata":{}}"#, 13, 0);
        assert_eq!(
            String::from_utf8(object.to_json()).unwrap(),
            r#"{"metadata":{"resourceVersion":"0"}}"#
        );
    }
}
