//! Documents that are built once and served many times, with the hash clients cache them by.

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha512};

/// A document, nearly always JSON, and its hash.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its bytes: JSON without white space, or protobuf
    pub body: Bytes,
    /// SHA-512 of the body in upper-case hex, as upstream has it in `ETag` (in quotes) and `?hash=`
    pub hash: String,
}

impl Document {
    /// Encodes a value and hashes it.
    pub fn new(value: &Value) -> Self {
        Self::of_bytes(Bytes::from(value.to_string()))
    }

    /// Hashes a document that is not JSON.
    pub fn of_bytes(body: Bytes) -> Self {
        let hash = Sha512::digest(&body).iter().map(|byte| format!("{byte:02X}")).collect();
        Self { body, hash }
    }

    /// The value of the `ETag` header: the hash in quotes.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.hash)
    }

    /// Whether an `If-None-Match` header covers this document: answer 304.
    pub fn matches(&self, if_none_match: &str) -> bool {
        if_none_match.split(',').any(|tag| {
            let tag = tag.trim();
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag.trim_matches('"') == self.hash
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_the_document_is_recognised() {
        let document = Document::new(&serde_json::json!({"a": 1}));
        assert_eq!(document.body, r#"{"a":1}"#);
        assert_eq!(document.hash.len(), 128);
        assert!(document.matches(&document.etag()));
        assert!(document.matches(&format!("\"x\", W/{}", document.etag())));
        assert!(document.matches("*"));
        assert!(!document.matches("\"x\""));
        assert!(!document.matches(""));
    }
}
