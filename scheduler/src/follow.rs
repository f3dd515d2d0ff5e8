//! From the store's view to the scheduler's: each changed namespace, node and pod once.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use quorate_mutants::{self as mutants, Mutant};
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, ObjectKey, Revision, View};
use quorate_store::{Mirror, MirrorChange};
use serde::{Deserialize, Deserializer};

use crate::node::{NodeDelta, NodeFacts};
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// Follows namespaces, nodes and pods.
#[derive(Debug)]
pub struct Follower {
    namespaces: Mirror<NamespaceLabels>,
    nodes: Mirror<Arc<NodeFacts>>,
    pods: Mirror<Known>,
}

/// What is kept of a namespace.
#[derive(Debug)]
struct NamespaceLabels(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for NamespaceLabels {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let namespace = Namespace::deserialize(from)?;
        Ok(Self(namespace.metadata.labels.unwrap_or_default()))
    }
}

/// What is kept of a pod. Not the whole object, which takes ten times the memory of its JSON.
#[derive(Debug)]
struct Known(Arc<PodInfo>);

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let pod = Pod::deserialize(from)?;
        let meta = &pod.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let key = ObjectKey::new(namespace, meta.name.as_deref().unwrap_or_default());
        let revision = meta.resource_version.as_deref().and_then(|text| text.parse().ok());
        let info = PodInfo::new(&pod, key, Revision(revision.unwrap_or_default()));
        Ok(Self(Arc::new(info)))
    }
}

/// What became of a pod, for the queue.
#[derive(Debug, Clone)]
pub enum Seen {
    /// It is to be placed.
    Pending(Arc<PodInfo>),
    /// It is not (any more): bound, finished, being deleted, gone.
    Settled(ObjectKey),
}

/// What one step brought.
#[derive(Debug, Default)]
pub struct Followed {
    /// What could help pods.
    pub changes: Vec<Change>,
    /// Pods that are new, different or gone.
    pub pods: Vec<Seen>,
}

impl Default for Follower {
    fn default() -> Self {
        Self {
            namespaces: Mirror::new(GroupResource::new("", "namespaces")),
            nodes: Mirror::new(GroupResource::new("", "nodes")),
            pods: Mirror::new(GroupResource::new("", "pods")),
        }
    }
}

impl Follower {
    /// Brings `cluster` to what `view` says.
    pub fn follow(&mut self, view: &View, cluster: &mut ClusterView) -> Followed {
        let mut followed = Followed::default();
        for change in self.namespaces.follow(view) {
            let labels = change.new.map(|new| new.object.0.clone()).unwrap_or_default();
            followed.changes.extend(cluster.set_namespace(&change.key.name, labels));
        }
        let nodes = self.nodes.follow(view);
        // A zone label may have changed too.
        let rearrange = !nodes.is_empty();
        for change in nodes {
            match change.new {
                Some(node) => {
                    followed.changes.extend(cluster.set_node(node.object.clone()));
                }
                None => {
                    cluster.remove_node(&change.key.name);
                    // Pods are spread over one domain less.
                    let (name, delta) = (change.key.name.clone(), NodeDelta::NEW);
                    followed.changes.push(Change::Node { name, delta });
                }
            }
        }
        if rearrange {
            cluster.arrange();
        }
        for change in self.pods.follow(view) {
            let seen = take_pod(change, cluster, &mut followed.changes);
            followed.pods.push(seen);
        }
        followed
    }

    /// The stored version that a pod was made from; `None` when it has been overtaken.
    #[must_use]
    pub fn stored(&self, pod: &PodInfo) -> Option<&StoredRef> {
        let typed = self.pods.get(&pod.key)?;
        (typed.stored.revision == pod.revision).then_some(&typed.stored)
    }
}

fn take_pod(
    change: MirrorChange<Known>,
    cluster: &mut ClusterView,
    changes: &mut Vec<Change>,
) -> Seen {
    let Some(typed) = change.new else {
        changes.extend(cluster.remove_pod(&change.key));
        return Seen::Settled(change.key);
    };
    let pod = typed.object.0.clone();
    changes.extend(cluster.set_pod(pod.clone()));
    let bound = pod.node_name.is_some();
    if bound && change.old.is_none() && !pod.deleting && mutants::is(Mutant::BindTwice) {
        return Seen::Pending(Arc::new(PodInfo { node_name: None, ..(*pod).clone() }));
    }
    if !bound && !pod.finished && !pod.deleting {
        Seen::Pending(pod)
    } else {
        Seen::Settled(pod.key.clone())
    }
}
