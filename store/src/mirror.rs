//! Typed caches for the leader's subscribers: each changed object is decoded once, and a snapshot of
//! the whole cache costs a reference count.

use std::sync::Arc;

use imbl::OrdMap;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, ObjectKey, Revision, View};
use serde::de::DeserializeOwned;

/// One decoded object, with the version it was decoded from.
#[derive(Debug)]
pub struct Typed<T> {
    /// The object, its resourceVersion included.
    pub object: T,
    /// What is stored: expected revision, header, bytes.
    pub stored: StoredRef,
}

/// One object that differs from what the mirror showed before.
#[derive(Debug)]
pub struct MirrorChange<T> {
    /// Which object.
    pub key: ObjectKey,
    /// As it was; `None` when it is new.
    pub old: Option<Arc<Typed<T>>>,
    /// As it is; `None` when it is gone.
    pub new: Option<Arc<Typed<T>>>,
}

/// A typed copy of one resource that follows the store's views.
#[derive(Debug)]
pub struct Mirror<T> {
    resource: GroupResource,
    at: Revision,
    objects: OrdMap<ObjectKey, Arc<Typed<T>>>,
    undecodable: u64,
}

impl<T: DeserializeOwned> Mirror<T> {
    /// An empty mirror of one resource.
    #[must_use]
    pub fn new(resource: GroupResource) -> Self {
        Self { resource, at: Revision(0), objects: OrdMap::new(), undecodable: 0 }
    }

    /// Takes over everything that changed up to `view` and tells what did. Several changes of one
    /// object come as one. When the history does not reach back, it compares everything.
    pub fn follow(&mut self, view: &View) -> Vec<MirrorChange<T>> {
        let Some(resource) = view.resource(&self.resource) else {
            self.at = view.revision();
            return Vec::new();
        };
        let mut dirty: Vec<ObjectKey> = match resource.changes_after(self.at) {
            Ok(changes) if self.at > Revision(0) => {
                changes.map(|change| change.key().object.clone()).collect()
            }
            Ok(_) | Err(_) => {
                let known = self.objects.keys().cloned();
                known.chain(resource.iter().map(|object| object.key.object.clone())).collect()
            }
        };
        dirty.sort_unstable();
        dirty.dedup();
        let changes =
            dirty.into_iter().filter_map(|key| self.take(key, |key| resource.get(key))).collect();
        self.at = view.revision();
        changes
    }

    fn take<'a>(
        &mut self,
        key: ObjectKey,
        find: impl FnOnce(&ObjectKey) -> Option<&'a StoredRef>,
    ) -> Option<MirrorChange<T>> {
        let stored = find(&key);
        let old = self.objects.get(&key).cloned();
        if old.as_ref().map(|old| old.stored.revision) == stored.map(|stored| stored.revision) {
            return None;
        }
        let new = stored.and_then(|stored| match decode(&stored.to_json()) {
            Ok(object) => Some(Arc::new(Typed { object, stored: stored.clone() })),
            Err(error) => {
                self.undecodable += 1;
                tracing::error!(key = %stored.key, %error, "stored object does not decode");
                None
            }
        });
        match &new {
            Some(new) => self.objects.insert(key.clone(), new.clone()),
            None => self.objects.remove(&key),
        };
        Some(MirrorChange { key, old, new })
    }

    /// The revision up to which the mirror shows everything.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.at
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Typed<T>>> {
        self.objects.get(key)
    }

    /// All objects as they are now: O(1), and unaffected by what follows.
    #[must_use]
    pub fn snapshot(&self) -> OrdMap<ObjectKey, Arc<Typed<T>>> {
        self.objects.clone()
    }

    /// All objects, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Typed<T>>> {
        self.objects.values()
    }

    /// Versions that could not be decoded since the mirror was made: should be 0.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }
}

/// Decodes an object. Typed decoders are stricter than Go's about `null` where a list or map belongs,
/// so one that fails is tried again without its nulls.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|_| {
        let mut value = serde_json::from_slice(bytes)?;
        drop_nulls(&mut value);
        serde_json::from_value(value)
    })
}

fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_list_is_an_empty_one() {
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Role {
            #[serde(default)]
            rules: Vec<String>,
        }
        assert_eq!(decode::<Role>(br#"{"rules":null}"#).unwrap(), Role { rules: Vec::new() });
        assert!(decode::<Role>(br#"{"rules":7}"#).is_err());
    }
}
