//! The store at one moment: an immutable value that readers keep as long as they like.
//!
//! Maps are persistent (`imbl`): a clone is a few reference counts, and the machine goes on writing
//! into its own copy.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, Vector};
use quorate_mutants::{self as mutants, Mutant};

use crate::history::{Change, ChangeKind, ChangeRef};
use crate::names::{ClusterLevel, GroupResource, Key, LogIndex, ObjectKey, Revision};
use crate::object::{Image, Stored, StoredRef};

/// The revision asked for is below what the history of the resource still holds: 410 on the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} is compacted, the history begins after {compacted}")]
pub struct Expired {
    /// What was asked for.
    pub asked: Revision,
    /// Changes up to this revision are forgotten.
    pub compacted: Revision,
}

/// The whole store at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub(crate) index: LogIndex,
    pub(crate) revision: Revision,
    pub(crate) level: ClusterLevel,
    pub(crate) hash: u128,
    pub(crate) resources: OrdMap<GroupResource, Arc<ResourceView>>,
}

/// One resource at one moment: its objects and its history.
#[derive(Debug, Clone, Default)]
pub struct ResourceView {
    pub(crate) objects: OrdMap<ObjectKey, StoredRef>,
    pub(crate) claims: OrdMap<String, ObjectKey>,
    pub(crate) history: Vector<ChangeRef>,
    pub(crate) compacted: Revision,
    pub(crate) objects_weight: u64,
    pub(crate) history_weight: u64,
}

impl View {
    /// Index of the last log entry that is in this view.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.index
    }

    /// The last revision given out.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The cluster level.
    #[must_use]
    pub fn level(&self) -> ClusterLevel {
        self.level
    }

    /// Hash of all objects (see [`crate::hash`]): equal on all masters at an equal index.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&StoredRef> {
        self.resource(&key.resource)?.get(&key.object)
    }

    /// One resource; `None` when nothing was ever stored in it.
    #[must_use]
    pub fn resource(&self, resource: &GroupResource) -> Option<&Arc<ResourceView>> {
        self.resources.get(resource)
    }

    /// All resources that ever held an object, in order.
    pub fn resources(&self) -> impl Iterator<Item = (&GroupResource, &Arc<ResourceView>)> {
        self.resources.iter()
    }

    /// Bytes of all objects and histories, about.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.resources.values().map(|r| r.objects_weight + r.history_weight).sum()
    }

    /// Bytes of all objects that there are, about: a delete makes it less at once.
    #[must_use]
    pub fn objects_weight(&self) -> u64 {
        self.resources.values().map(|resource| resource.objects_weight).sum()
    }

    /// Gives out the next revision and records one change at it.
    pub(crate) fn change(
        &mut self,
        key: &Key,
        kind: ChangeKind,
        image: Option<&Image>,
    ) -> Revision {
        let mut revision = self.revision.next();
        if kind == ChangeKind::Deleted && mutants::is(Mutant::DeleteWithoutRevision) {
            revision = self.revision;
        }
        if mutants::one_in(Mutant::StateDiffers, 2003) {
            revision = revision.next();
        }
        self.revision = revision;
        if !self.resources.contains_key(&key.resource) {
            self.resources.insert(key.resource.clone(), Arc::default());
        }
        let resource =
            self.resources.get_mut(&key.resource).expect("the resource was put there just before");
        let resource = Arc::make_mut(resource);
        let key = resource.shared_key(key);
        let current =
            image.map(|image| Arc::new(Stored::new(key.clone(), revision, image.clone())));
        let previous = resource.put(&key.object, current.clone());
        if let Some(previous) = &previous {
            self.hash = self.hash.wrapping_sub(previous.hash());
        }
        if let Some(current) = &current {
            self.hash = self.hash.wrapping_add(current.hash());
        }
        if previous.is_some() || current.is_some() {
            resource.record(Arc::new(Change { revision, kind, previous, current }));
        }
        revision
    }

    /// Forgets the history of a resource up to `bound`.
    pub(crate) fn compact(&mut self, resource: &GroupResource, bound: Revision) {
        let bound = bound.min(self.revision);
        if let Some(resource) = self.resources.get_mut(resource)
            && bound > resource.compacted
        {
            let resource = Arc::make_mut(resource);
            resource.compact(bound);
            if mutants::is(Mutant::WatchLosesAtCompaction) {
                // The newest: the others have long been told.
                resource.history.pop_back();
            }
        }
    }

    pub(crate) fn raise_level(&mut self, level: ClusterLevel) {
        self.level = self.level.max(level);
    }
}

impl ResourceView {
    /// One object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&StoredRef> {
        self.objects.get(key)
    }

    /// All objects by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &StoredRef> {
        self.objects.values()
    }

    /// All versions that somebody may be shown: of the objects, and those before and after each change that is
    /// remembered. One that is in several places comes several times.
    pub fn versions(&self) -> impl Iterator<Item = &StoredRef> {
        let remembered =
            self.history.iter().flat_map(|change| change.previous.iter().chain(&change.current));
        self.objects.values().chain(remembered)
    }

    /// Number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are no objects.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects of one namespace ("" for all, also the cluster-scoped ones) that come after
    /// `after`, in order.
    pub fn range<'a>(
        &'a self,
        namespace: &'a str,
        after: Option<&ObjectKey>,
    ) -> impl Iterator<Item = &'a StoredRef> + 'a {
        let start = match after {
            Some(after) => Bound::Excluded(after.clone()),
            None if namespace.is_empty() => Bound::Unbounded,
            None => Bound::Included(ObjectKey::new(namespace, "")),
        };
        self.objects.range((start, Bound::Unbounded)).map(|(_, object)| object).take_while(
            move |object| namespace.is_empty() || &*object.key.object.namespace == namespace,
        )
    }

    /// Who holds a claim.
    #[must_use]
    pub fn claim_holder(&self, claim: &str) -> Option<&ObjectKey> {
        self.claims.get(claim)
    }

    /// All claims that begin with `prefix`, with their holders, in order.
    pub fn claims<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a ObjectKey)> + 'a {
        self.claims
            .range(prefix.to_owned()..)
            .take_while(move |(claim, _)| claim.starts_with(prefix))
            .map(|(claim, holder)| (claim.as_str(), holder))
    }

    /// Changes up to this revision are forgotten.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The changes after `after`, oldest first.
    ///
    /// # Errors
    /// [`Expired`] when some of them are forgotten.
    pub fn changes_after(
        &self,
        after: Revision,
    ) -> Result<impl Iterator<Item = &ChangeRef>, Expired> {
        self.check(after)?;
        // Not `iter().skip()`, which steps over each of the thousands that a watcher has seen.
        Ok(self.history.focus().narrow(self.position_after(after)..).into_iter())
    }

    /// Number of changes in the history, and bytes that it holds, about.
    #[must_use]
    pub fn history_size(&self) -> (usize, u64) {
        (self.history.len(), self.history_weight)
    }

    /// Bytes that the objects hold, about.
    #[must_use]
    pub fn objects_weight(&self) -> u64 {
        self.objects_weight
    }

    /// The oldest changes that must go so that at most `changes_max` and `bytes_max` stay: the
    /// bound for a `Compact`, or `None` when nothing must go.
    #[must_use]
    pub fn compaction_bound(&self, changes_max: usize, bytes_max: u64) -> Option<Revision> {
        let mut bytes = self.history_weight;
        let mut left = self.history.len();
        let mut bound = None;
        for change in &self.history {
            if left <= changes_max && bytes <= bytes_max {
                break;
            }
            bytes -= change.weight();
            left -= 1;
            bound = Some(change.revision);
        }
        bound
    }

    /// The objects as they were at an older revision: the present, undone by the history.
    ///
    /// # Errors
    /// [`Expired`] when the history does not reach back to it.
    pub fn at(&self, revision: Revision) -> Result<OrdMap<ObjectKey, StoredRef>, Expired> {
        self.check(revision)?;
        let mut objects = self.objects.clone();
        for change in self.history.iter().rev().take_while(|change| change.revision > revision) {
            let key = &change.key().object;
            match &change.previous {
                Some(previous) => objects.insert(key.clone(), previous.clone()),
                None => objects.remove(key),
            };
        }
        Ok(objects)
    }

    fn check(&self, asked: Revision) -> Result<(), Expired> {
        if asked < self.compacted {
            return Err(Expired { asked, compacted: self.compacted });
        }
        Ok(())
    }

    fn position_after(&self, revision: Revision) -> usize {
        self.history
            .binary_search_by(|change| {
                if change.revision <= revision {
                    std::cmp::Ordering::Less
                } else {
                    std::cmp::Ordering::Greater
                }
            })
            .unwrap_or_else(|position| position)
    }

    /// The key with texts shared with an object that is there already: thousands of objects hold
    /// the same group, resource and namespace.
    pub(crate) fn shared_key(&self, key: &Key) -> Key {
        if let Some(existing) = self.objects.get(&key.object) {
            return existing.key.clone();
        }
        let neighbour = self.objects.get_prev(&key.object).map(|(_, object)| &object.key);
        let Some(neighbour) = neighbour else {
            return key.clone();
        };
        let namespace = if neighbour.object.namespace == key.object.namespace {
            neighbour.object.namespace.clone()
        } else {
            key.object.namespace.clone()
        };
        Key {
            resource: neighbour.resource.clone(),
            object: ObjectKey { namespace, name: key.object.name.clone() },
        }
    }

    /// Replaces one object and its claims; gives back the version before.
    pub(crate) fn put(&mut self, key: &ObjectKey, current: Option<StoredRef>) -> Option<StoredRef> {
        if let Some(current) = &current {
            self.objects_weight += current.image.weight();
        }
        let previous = match &current {
            Some(current) => self.objects.insert(key.clone(), current.clone()),
            None => self.objects.remove(key),
        };
        if let Some(previous) = &previous {
            self.objects_weight -= previous.image.weight();
            for claim in &previous.image.header.claims {
                self.claims.remove(claim);
            }
        }
        for claim in current.iter().flat_map(|current| &current.image.header.claims) {
            self.claims.insert(claim.clone(), key.clone());
        }
        previous
    }

    pub(crate) fn record(&mut self, change: ChangeRef) {
        self.history_weight += change.weight();
        self.history.push_back(change);
    }

    fn compact(&mut self, bound: Revision) {
        let gone = self.position_after(bound);
        for change in self.history.iter().take(gone) {
            self.history_weight -= change.weight();
        }
        self.history = self.history.split_off(gone);
        self.compacted = bound;
    }
}
