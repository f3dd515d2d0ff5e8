//! Indexes over pods: by node, by label, those that nobody manages, those that have ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use quorate_state_machine::ObjectKey;
use quorate_store::Typed;

use crate::model::Pod;

type Keys = BTreeSet<ObjectKey>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PodIndex {
    by_node: HashMap<Arc<str>, Keys>,
    by_label: HashMap<Arc<str>, HashMap<(String, String), Keys>>,
    by_namespace: HashMap<Arc<str>, Keys>,
    orphans: HashMap<Arc<str>, Keys>,
    ended: BTreeSet<(Timestamp, ObjectKey)>,
}

impl PodIndex {
    pub(super) fn take(
        &mut self,
        key: &ObjectKey,
        old: Option<&Typed<Pod>>,
        new: Option<&Typed<Pod>>,
    ) {
        let (old, new) = (old.map(|old| &old.object), new.map(|new| &new.object));
        self.take_node(key, old, new);
        self.take_labels(key, old, new);
        let orphan = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.metadata.controller().is_none());
        put(&mut self.orphans, &key.namespace, key, orphan(old), orphan(new));
        put(&mut self.by_namespace, &key.namespace, key, old.is_some(), new.is_some());
        if let Some(old) = old.filter(|pod| pod.ended()) {
            self.ended.remove(&(old.metadata.created(), key.clone()));
        }
        if let Some(new) = new.filter(|pod| pod.ended() && !pod.metadata.terminating()) {
            self.ended.insert((new.metadata.created(), key.clone()));
        }
    }

    fn take_node(&mut self, key: &ObjectKey, old: Option<&Pod>, new: Option<&Pod>) {
        let node = |pod: Option<&Pod>| pod.map_or("", |pod| pod.spec.node_name.as_str()).to_owned();
        let (old, new) = (node(old), node(new));
        if old == new {
            return;
        }
        if !old.is_empty() {
            put(&mut self.by_node, &old.into(), key, true, false);
        }
        if !new.is_empty() {
            put(&mut self.by_node, &new.into(), key, false, true);
        }
    }

    fn take_labels(&mut self, key: &ObjectKey, old: Option<&Pod>, new: Option<&Pod>) {
        let none = BTreeMap::new();
        let old = old.map_or(&none, |pod| &pod.metadata.labels);
        let new = new.map_or(&none, |pod| &pod.metadata.labels);
        if old == new {
            return;
        }
        let labels = self.by_label.entry(key.namespace.clone()).or_default();
        for (name, value) in old {
            put(labels, &(name.clone(), value.clone()), key, true, false);
        }
        for (name, value) in new {
            put(labels, &(name.clone(), value.clone()), key, false, true);
        }
        if labels.is_empty() {
            self.by_label.remove(&key.namespace);
        }
    }

    pub(super) fn on_node(&self, node: &str) -> impl Iterator<Item = &ObjectKey> {
        self.by_node.get(node).into_iter().flatten()
    }

    pub(super) fn orphans(&self, namespace: &str) -> impl Iterator<Item = &ObjectKey> {
        self.orphans.get(namespace).into_iter().flatten()
    }

    /// Pods with the rarest of these labels; all of the namespace when none is asked for.
    pub(super) fn candidates(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &ObjectKey> {
        let rarest = if labels.is_empty() {
            self.by_namespace.get(namespace)
        } else {
            let sets = self.by_label.get(namespace);
            let found: Option<Vec<&Keys>> = labels
                .iter()
                .map(|(key, value)| sets?.get(&(key.clone(), value.clone())))
                .collect();
            found.and_then(|found| found.into_iter().min_by_key(|set| set.len()))
        };
        rarest.into_iter().flatten()
    }

    pub(super) fn ended(&self) -> &BTreeSet<(Timestamp, ObjectKey)> {
        &self.ended
    }
}

/// Moves a key out of and into a set of an index; empty sets go.
fn put<K: std::hash::Hash + Eq + Clone>(
    index: &mut HashMap<K, Keys>,
    at: &K,
    key: &ObjectKey,
    was: bool,
    is: bool,
) {
    match (was, is) {
        (false, true) => {
            index.entry(at.clone()).or_default().insert(key.clone());
        }
        (true, false) => {
            if let Some(keys) = index.get_mut(at) {
                keys.remove(key);
                if keys.is_empty() {
                    index.remove(at);
                }
            }
        }
        (false, false) | (true, true) => {}
    }
}
