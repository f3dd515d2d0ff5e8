//! What the masters want of this node, as last heard: pods, what they refer to, services, the node itself.
//!
//! A full sync is collected aside and takes over at its `Synced`, so that nothing is killed because a list has
//! only half
//! arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use quorate_proto::agent::{ObjectChange, ObjectKind};
use tokio::sync::Notify;

/// Namespace and name.
pub(crate) type Key = (String, String);

/// A consistent set of objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects {
    pub(crate) pods: BTreeMap<String, Arc<Pod>>,
    pub(crate) config_maps: BTreeMap<Key, Arc<ConfigMap>>,
    pub(crate) secrets: BTreeMap<Key, Arc<Secret>>,
    pub(crate) services: BTreeMap<Key, Arc<Service>>,
    pub(crate) endpoint_slices: BTreeMap<Key, Arc<EndpointSlice>>,
    /// Another number whenever a Service or EndpointSlice changes.
    pub(crate) services_version: u64,
    pub(crate) node: Option<Arc<Node>>,
    /// What the masters have told up to; 0: nothing yet in this process.
    pub(crate) revision: u64,
    /// A first full sync has ended: what is not here is not wanted.
    pub(crate) synced: bool,
    pub(crate) cluster_domain: String,
    pub(crate) cluster_dns: Vec<String>,
}

/// Which pods should look again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wake {
    pub(crate) uids: BTreeSet<String>,
    pub(crate) all: bool,
}

#[derive(Default)]
struct State {
    current: Objects,
    staging: Option<Objects>,
    wake: Wake,
}

/// The door to [`Objects`].
#[derive(Default)]
pub(crate) struct Desired {
    state: RwLock<State>,
    changed: Notify,
}

/// An object that does not decode. The sender is newer or broken; the change is skipped.
#[derive(Debug, thiserror::Error)]
#[error("object {0}/{1} does not decode")]
pub(crate) struct Undecodable(String, String, #[source] serde_json::Error);

impl Desired {
    pub(crate) fn read<T>(&self, f: impl FnOnce(&Objects) -> T) -> T {
        f(&self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner).current)
    }

    fn write<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.read(|objects| objects.pods.get(uid).cloned())
    }

    /// Pods from a checkpoint, before any master has spoken.
    pub(crate) fn restore(&self, objects: Objects) {
        self.write(|state| {
            state.current = objects;
            state.wake.all = true;
        });
        self.changed.notify_one();
    }

    /// A master greets us. With `full` the next changes are a complete set.
    pub(crate) fn begin(&self, full: bool, cluster_domain: String, cluster_dns: Vec<String>) {
        self.write(|state| {
            state.current.cluster_domain.clone_from(&cluster_domain);
            state.current.cluster_dns.clone_from(&cluster_dns);
            state.staging =
                full.then(|| Objects { cluster_domain, cluster_dns, ..Objects::default() });
        });
    }

    /// One change.
    pub(crate) fn apply(&self, change: &ObjectChange) -> Result<(), Undecodable> {
        let result = self.write(|state| {
            if let Some(staging) = &mut state.staging {
                return apply_to(staging, change).map(|_| ());
            }
            let wake = apply_to(&mut state.current, change)?;
            state.current.revision = state.current.revision.max(change.revision);
            state.wake.uids.extend(wake.uids);
            state.wake.all |= wake.all;
            Ok(())
        });
        self.changed.notify_one();
        result.map_err(|error| Undecodable(change.namespace.clone(), change.name.clone(), error))
    }

    /// Everything up to `revision` has arrived.
    pub(crate) fn synced(&self, revision: u64) {
        self.write(|state| {
            if let Some(mut staging) = state.staging.take() {
                staging.services_version += state.current.services_version + 1;
                state.current = staging;
                state.current.synced = true;
                state.wake.all = true;
            }
            state.current.revision = state.current.revision.max(revision);
        });
        self.changed.notify_one();
    }

    /// Asks a pod to look again.
    pub(crate) fn wake(&self, uid: &str) {
        self.write(|state| state.wake.uids.insert(uid.to_owned()));
        self.changed.notify_one();
    }

    /// Waits until somebody should look again, and says who.
    pub(crate) async fn next_wake(&self) -> Wake {
        loop {
            let wake = self.write(|state| std::mem::take(&mut state.wake));
            if wake.all || !wake.uids.is_empty() {
                return wake;
            }
            self.changed.notified().await;
        }
    }
}

fn apply_to(objects: &mut Objects, change: &ObjectChange) -> Result<Wake, serde_json::Error> {
    let key = (change.namespace.clone(), change.name.clone());
    let everyone = Wake { all: true, ..Wake::default() };
    match change.kind() {
        ObjectKind::Pod => return apply_pod(objects, change),
        ObjectKind::ConfigMap => put(&mut objects.config_maps, key, change)?,
        ObjectKind::Secret => put(&mut objects.secrets, key, change)?,
        ObjectKind::Service => {
            // New services count for containers that start later: nobody needs to wake.
            put(&mut objects.services, key, change)?;
            objects.services_version += 1;
            return Ok(Wake::default());
        }
        ObjectKind::EndpointSlice => {
            put(&mut objects.endpoint_slices, key, change)?;
            objects.services_version += 1;
            return Ok(Wake::default());
        }
        ObjectKind::Node => {
            if !change.deleted {
                objects.node = Some(Arc::new(serde_json::from_slice(&change.object)?));
            }
        }
        ObjectKind::Unspecified => return Ok(Wake::default()),
    }
    Ok(everyone)
}

fn put<T: serde::de::DeserializeOwned>(
    map: &mut BTreeMap<Key, Arc<T>>,
    key: Key,
    change: &ObjectChange,
) -> Result<(), serde_json::Error> {
    if change.deleted {
        map.remove(&key);
    } else {
        map.insert(key, Arc::new(serde_json::from_slice(&change.object)?));
    }
    Ok(())
}

fn apply_pod(objects: &mut Objects, change: &ObjectChange) -> Result<Wake, serde_json::Error> {
    let mut uid = change.uid.clone();
    if !change.deleted {
        let pod: Pod = serde_json::from_slice(&change.object)?;
        uid = pod.metadata.uid.clone().unwrap_or(uid);
        objects.pods.insert(uid.clone(), Arc::new(pod));
    } else if uid.is_empty() {
        // A deletion without uid: by name.
        let named = |pod: &Pod| {
            pod.metadata.namespace.as_deref() == Some(&change.namespace)
                && pod.metadata.name.as_deref() == Some(&change.name)
        };
        let found = objects.pods.iter().find(|(_, pod)| named(pod)).map(|(uid, _)| uid.clone());
        uid = found.unwrap_or_default();
        objects.pods.remove(&uid);
    } else {
        objects.pods.remove(&uid);
    }
    Ok(Wake { uids: BTreeSet::from([uid]), all: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, revision: u64) -> ObjectChange {
        let object = serde_json::json!({
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}
        });
        ObjectChange {
            kind: ObjectKind::Pod.into(),
            namespace: "ns".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            revision,
            object: object.to_string().into(),
            ..Default::default()
        }
    }

    fn names(desired: &Desired) -> Vec<String> {
        desired.read(|objects| objects.pods.keys().cloned().collect())
    }

    #[test]
    fn a_full_sync_takes_over_at_its_end_only() {
        let desired = Desired::default();
        desired.begin(true, "cluster.local".into(), vec![]);
        desired.apply(&pod("a", 3)).unwrap();
        assert_eq!(names(&desired), [""; 0]);
        desired.synced(7);
        assert_eq!(names(&desired), ["uid-a"]);
        // The connection breaks in the middle of the next full sync: nothing is lost.
        desired.begin(true, "cluster.local".into(), vec![]);
        desired.apply(&pod("b", 9)).unwrap();
        assert_eq!(names(&desired), ["uid-a"]);
        assert_eq!(desired.read(|objects| objects.revision), 7);
        desired.begin(false, "cluster.local".into(), vec![]);
        desired.apply(&pod("c", 10)).unwrap();
        assert_eq!(names(&desired), ["uid-a", "uid-c"]);
        assert_eq!(desired.read(|objects| (objects.revision, objects.synced)), (10, true));
        desired.apply(&ObjectChange { deleted: true, revision: 11, ..pod("a", 11) }).unwrap();
        assert_eq!(names(&desired), ["uid-c"]);
    }
}
