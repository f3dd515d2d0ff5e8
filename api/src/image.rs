//! Images: how objects are kept and served.
//!
//! An image is the object's canonical JSON (keys sorted, no white space) without
//! `metadata.resourceVersion`, and the offset right behind `"metadata":{`, where the revision
//! belongs. Serving copies head, revision, tail; nothing is parsed.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value};

/// An object as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Canonical JSON without the resourceVersion
    pub bytes: Bytes,
    /// Offset right behind `"metadata":{`
    pub revision_at: u32,
}

/// Why bytes are not an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON
    #[error("the image is not JSON")]
    Json(#[from] serde_json::Error),
    /// JSON, but not an object with metadata
    #[error("the image has no metadata object")]
    NoMetadata,
    /// Beyond 4 GiB
    #[error("the object is too large")]
    TooLarge,
}

/// Two masters must make the same bytes of the same object. A dependency that switches on
/// serde_json's `preserve_order` for the whole program would break that silently.
static KEYS_ARE_SORTED: LazyLock<bool> = LazyLock::new(|| {
    let map: Map<String, Value> =
        ["b", "a"].into_iter().map(|key| (key.to_owned(), Value::Null)).collect();
    map.keys().is_sorted()
});

const KEY: &[u8] = b"\"resourceVersion\":\"";

/// Encodes an object; its resourceVersion, if it has one, is left out. An object without metadata
/// gets an empty one.
///
/// # Errors
///
/// The value is no JSON object, its metadata is none, or it is beyond 4 GiB.
pub fn encode(object: &Value) -> Result<Image, Error> {
    assert!(*KEYS_ARE_SORTED, "serde_json was built with preserve_order: images would differ");
    let Value::Object(object) = object else { return Err(Error::NoMetadata) };
    let empty = Map::new();
    let metadata = match object.get("metadata") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(metadata)) => metadata,
        Some(_) => return Err(Error::NoMetadata),
    };
    let mut out = Vec::with_capacity(1024);
    let mut revision_at = 0;
    out.push(b'{');
    let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
    if let Err(at) = names.binary_search(&"metadata") {
        names.insert(at, "metadata");
    }
    for (at, name) in names.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, name)?;
        out.push(b':');
        if name == "metadata" {
            out.push(b'{');
            revision_at = out.len();
            write_metadata(metadata, &mut out)?;
            out.push(b'}');
        } else if let Some(value) = object.get(name) {
            serde_json::to_writer(&mut out, value)?;
        }
    }
    out.push(b'}');
    let revision_at = u32::try_from(revision_at).map_err(|_| Error::TooLarge)?;
    Ok(Image { bytes: Bytes::from(out), revision_at })
}

fn write_metadata(metadata: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut first = true;
    for (name, value) in metadata.iter().filter(|(name, _)| *name != "resourceVersion") {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, name)?;
        out.push(b':');
        serde_json::to_writer(&mut *out, value)?;
    }
    Ok(())
}

impl Image {
    /// An image from its parts, as they were kept.
    pub fn new(bytes: Bytes, revision_at: u32) -> Self {
        Self { bytes, revision_at }
    }

    /// Everything before the revision's digits but the key: copy this, then [`Image::key`].
    pub fn head(&self) -> &[u8] {
        &self.bytes[..self.at()]
    }

    /// The `"resourceVersion":"` that goes between head and digits.
    pub const fn key() -> &'static [u8] {
        KEY
    }

    /// What closes the digits: `",`, or `"` when nothing follows in the metadata.
    pub fn close(&self) -> &'static [u8] {
        if self.tail().first() == Some(&b'}') { b"\"" } else { b"\"," }
    }

    /// Everything behind the revision.
    pub fn tail(&self) -> &[u8] {
        &self.bytes[self.at()..]
    }

    /// Bytes that [`Image::write`] appends at most.
    pub fn len_served(&self) -> usize {
        self.bytes.len() + KEY.len() + 22
    }

    /// Appends the object as clients see it, with this revision.
    pub fn write(&self, revision: u64, out: &mut Vec<u8>) {
        out.reserve(self.len_served());
        out.extend_from_slice(self.head());
        out.extend_from_slice(KEY);
        push_decimal(revision, out);
        out.extend_from_slice(self.close());
        out.extend_from_slice(self.tail());
    }

    /// The object as clients see it, with this revision.
    pub fn served(&self, revision: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len_served());
        self.write(revision, &mut out);
        out
    }

    /// Parses the object and puts the revision in.
    ///
    /// # Errors
    ///
    /// The bytes are not an image.
    pub fn parse(&self, revision: u64) -> Result<Value, Error> {
        let mut value: Value = serde_json::from_slice(&self.bytes)?;
        let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.ok_or(Error::NoMetadata)?;
        metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
        Ok(value)
    }

    fn at(&self) -> usize {
        usize::try_from(self.revision_at).map_or(self.bytes.len(), |at| at.min(self.bytes.len()))
    }
}

/// Appends a number's decimal digits without allocating.
pub fn push_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_revision_is_left_out_and_put_back_in_its_place() {
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "spec": {"metadata": {"name": "no"}},
            "metadata": {"resourceVersion": "7", "name": "a", "uid": "u"}});
        let image = encode(&pod).unwrap();
        let kept = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","uid":"u"},"spec":{"metadata":{"name":"no"}}}"#;
        assert_eq!(image.bytes, kept);
        let mut served = image.parse(42).unwrap();
        assert_eq!(served["metadata"]["resourceVersion"], "42");
        assert_eq!(serde_json::from_slice::<Value>(&image.served(42)).unwrap(), served);
        served["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(served, pod);
        assert!(image.served(u64::MAX).len() <= image.len_served());
    }

    #[test]
    fn metadata_that_is_empty_or_missing_still_has_a_place() {
        for object in [
            json!({}),
            json!({"metadata": null}),
            json!({"metadata": {}}),
            json!({"a": 1, "metadata": {"resourceVersion": "3"}, "z": 2}),
        ] {
            let image = encode(&object).unwrap();
            let served: Value = serde_json::from_slice(&image.served(9)).unwrap();
            assert_eq!(served["metadata"], json!({"resourceVersion": "9"}), "{object}");
            assert_eq!(served, image.parse(9).unwrap());
        }
        assert!(encode(&json!([])).is_err());
        assert!(encode(&json!({"metadata": 1})).is_err());
    }

    #[test]
    fn decimals() {
        for number in [0, 1, 9, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
