//! `pod-template-hash`: which template a ReplicaSet and its pods are of.
//!
//! Upstream hashes Go's dump of the struct, which nobody else can; any stable hash of the same
//! shape does, because the hash is only compared with itself. Ours is FNV-1a over the template's
//! JSON with sorted keys, written in upstream's alphabet.

use serde_json::Value;

/// The label.
pub(super) const LABEL: &str = "pod-template-hash";

/// Letters and digits that make no words (upstream's `rand.SafeEncodeString`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of a template; another `collisions` gives another hash of the same template.
pub(crate) fn of(template: &Value, collisions: Option<i32>) -> String {
    let mut hash = Fnv(0x811c_9dc5);
    hash.value(template);
    if let Some(collisions) = collisions {
        hash.bytes(&u64::try_from(collisions).unwrap_or(0).to_le_bytes());
    }
    let letter = |digit: u8| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]);
    hash.0.to_string().bytes().map(letter).collect()
}

/// Whether two templates are the same but for the hash label.
pub(super) fn same_template(a: &Value, b: &Value) -> bool {
    without_hash(a) == without_hash(b)
}

fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    let mut empty = false;
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(LABEL);
        empty = labels.is_empty();
    }
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        // Written by some clients, never set by anyone.
        metadata.remove("creationTimestamp");
        if empty {
            metadata.remove("labels");
        }
    }
    template
}

struct Fnv(u32);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_unstable_by_key(|(key, _)| *key);
                self.bytes(b"{");
                for (key, value) in fields {
                    self.bytes(key.as_bytes());
                    self.bytes(b":");
                    self.value(value);
                    self.bytes(b",");
                }
                self.bytes(b"}");
            }
            Value::Array(items) => {
                self.bytes(b"[");
                for item in items {
                    self.value(item);
                    self.bytes(b",");
                }
                self.bytes(b"]");
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.bytes(value.to_string().as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hash_has_upstreams_shape_and_never_changes() {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"a": [1, true]}});
        // Stored in clusters: a change of this text rolls out every Deployment again.
        assert_eq!(of(&template, None), "755dd8d4b5");
        assert_ne!(of(&template, Some(1)), of(&template, None));
        assert_ne!(of(&template, Some(1)), of(&template, Some(2)));
        assert!(of(&template, None).bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    #[test]
    fn templates_are_compared_without_the_hash_label() {
        let plain = json!({"metadata": {"labels": {"app": "web"}}, "spec": {}});
        let hashed = json!({"metadata": {"labels": {"app": "web", LABEL: "x"}}, "spec": {}});
        let other = json!({"metadata": {"labels": {"app": "db"}}, "spec": {}});
        assert!(same_template(&plain, &hashed));
        assert!(!same_template(&plain, &other));
    }
}
