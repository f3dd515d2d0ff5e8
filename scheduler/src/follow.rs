//! From the store's view to the scheduler's: each changed node and pod once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{GroupResource, ObjectKey, Revision, View};
use quorate_store::{Mirror, MirrorChange};
use serde::{Deserialize, Deserializer};

use crate::node::NodeFacts;
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// Follows nodes and pods.
#[derive(Debug)]
pub struct Follower {
    nodes: Mirror<Arc<NodeFacts>>,
    pods: Mirror<Known>,
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
            nodes: Mirror::new(GroupResource::new("", "nodes")),
            pods: Mirror::new(GroupResource::new("", "pods")),
        }
    }
}

impl Follower {
    /// Brings `cluster` to what `view` says.
    pub fn follow(&mut self, view: &View, cluster: &mut ClusterView) -> Followed {
        let mut followed = Followed::default();
        let nodes = self.nodes.follow(view);
        // A zone label may have changed too.
        let rearrange = !nodes.is_empty();
        for change in nodes {
            match change.new {
                Some(node) => {
                    followed.changes.extend(cluster.set_node(node.object.clone()));
                }
                None => cluster.remove_node(&change.key.name),
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
    if pod.node_name.is_none() && !pod.finished && !pod.deleting {
        Seen::Pending(pod)
    } else {
        Seen::Settled(pod.key.clone())
    }
}
