//! Who is there, and who says to be owned by whom: over all resources, from the headers alone.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use quorate_state_machine::{Key, ObjectKey, Uid};

use super::Changed;
use crate::resources::Resource;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    uids: HashMap<Uid, Key>,
    dependents: HashMap<Uid, BTreeSet<Key>>,
}

impl Ownership {
    pub(super) fn take(&mut self, change: &Changed) {
        let owners = |version: &Option<quorate_state_machine::object::StoredRef>| {
            version.as_ref().map(|stored| stored.image.header.owners.clone()).unwrap_or_default()
        };
        let (old_owners, new_owners) = (owners(&change.old), owners(&change.new));
        if old_owners != new_owners {
            for owner in &old_owners {
                self.forget(owner, &change.key);
            }
            for owner in &new_owners {
                self.dependents
                    .entry(owner.as_str().into())
                    .or_default()
                    .insert(change.key.clone());
            }
        }
        let old_uid = change.old.as_ref().map(|old| old.uid());
        let new_uid = change.new.as_ref().map(|new| new.uid());
        if old_uid == new_uid {
            return;
        }
        if let Some(uid) = old_uid {
            self.uids.remove(uid);
        }
        if let Some(uid) = new_uid {
            self.uids.insert(uid.into(), change.key.clone());
        }
    }

    fn forget(&mut self, owner: &str, dependent: &Key) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(dependent);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<&Key> {
        self.uids.get(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// Dependents in one resource: a range, not a filter over all.
    pub(super) fn dependents_in(
        &self,
        uid: &str,
        resource: Resource,
    ) -> impl Iterator<Item = &Key> {
        let start = Key { resource: resource.group_resource(), object: ObjectKey::new("", "") };
        self.dependents
            .get(uid)
            .into_iter()
            .flat_map(move |set| set.range((Bound::Included(start.clone()), Bound::Unbounded)))
            .take_while(move |key| resource.is(&key.resource))
    }
}
