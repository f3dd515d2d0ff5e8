//! What all controllers read: the store's view, typed mirrors and indexes over them, all at one
//! revision. Followed once for everybody, so that no plan ever scans what it can look up.

mod failing;
mod ownership;
mod pods;
mod workloads;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use quorate_state_machine::object::StoredRef;
use quorate_state_machine::{Key, ObjectKey, ResourceView, View};
use quorate_store::{Mirror, Typed};
use tokio::time::Instant;

use crate::model::{
    ControllerRevision, CronJob, DaemonSet, Deployment, Job, Node, Pod, ReplicaSet,
    ReplicationController, StatefulSet, Taint,
};
use crate::resources::{
    CONTROLLER_REVISIONS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, JOBS, LEASES, NODES, PODS,
    REPLICA_SETS, REPLICATION_CONTROLLERS, Resource, SERVICES, STATEFUL_SETS,
};
use failing::FailingDaemons;
use ownership::Ownership;
use pods::PodIndex;

/// A typed object with the version it was read from.
pub(crate) type Object<T> = Arc<Typed<T>>;

/// One object that differs from what the world showed before.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    pub(crate) key: Key,
    pub(crate) old: Option<StoredRef>,
    pub(crate) new: Option<StoredRef>,
}

impl Changed {
    /// The versions before and after, as far as there are.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &StoredRef> {
        self.old.iter().chain(&self.new)
    }
}

/// A pod that differs from what the world showed before.
#[derive(Debug, Clone)]
pub(crate) struct ChangedPod {
    pub(crate) old: Option<Object<Pod>>,
    pub(crate) new: Option<Object<Pod>>,
}

/// Everything that changed with one [`World::follow`].
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) all: Vec<Changed>,
    pub(crate) pods: Vec<ChangedPod>,
}

/// Nodes of one zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ZoneCount {
    pub(crate) nodes: usize,
    pub(crate) not_ready: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    view: Arc<View>,
    pub(crate) deployments: Mirror<Deployment>,
    pub(crate) replica_sets: Mirror<ReplicaSet>,
    pub(crate) replication_controllers: Mirror<ReplicationController>,
    pub(crate) daemon_sets: Mirror<DaemonSet>,
    pub(crate) stateful_sets: Mirror<StatefulSet>,
    pub(crate) controller_revisions: Mirror<ControllerRevision>,
    pub(crate) cron_jobs: Mirror<CronJob>,
    pub(crate) jobs: Mirror<Job>,
    pub(crate) nodes: Mirror<Node>,
    pub(crate) services: Mirror<Service>,
    pods: Mirror<Pod>,
    pod_index: PodIndex,
    ownership: Ownership,
    zones: BTreeMap<String, ZoneCount>,
    taints_seen: HashMap<(ObjectKey, String, String, String), Timestamp>,
    nodes_missing: HashMap<Arc<str>, Timestamp>,
    heard: HashMap<Arc<str>, Instant>,
    failing: FailingDaemons,
}

impl Default for World {
    fn default() -> Self {
        Self {
            view: Arc::default(),
            deployments: Mirror::new(DEPLOYMENTS.group_resource()),
            replica_sets: Mirror::new(REPLICA_SETS.group_resource()),
            replication_controllers: Mirror::new(REPLICATION_CONTROLLERS.group_resource()),
            daemon_sets: Mirror::new(DAEMON_SETS.group_resource()),
            stateful_sets: Mirror::new(STATEFUL_SETS.group_resource()),
            controller_revisions: Mirror::new(CONTROLLER_REVISIONS.group_resource()),
            cron_jobs: Mirror::new(CRON_JOBS.group_resource()),
            jobs: Mirror::new(JOBS.group_resource()),
            nodes: Mirror::new(NODES.group_resource()),
            services: Mirror::new(SERVICES.group_resource()),
            pods: Mirror::new(PODS.group_resource()),
            pod_index: PodIndex::default(),
            ownership: Ownership::default(),
            zones: BTreeMap::new(),
            taints_seen: HashMap::new(),
            nodes_missing: HashMap::new(),
            heard: HashMap::new(),
            failing: FailingDaemons::default(),
        }
    }
}

impl World {
    /// Takes over a newer view and tells what changed. `now` and `instant` are remembered for what
    /// has no time of its own (a taint without `timeAdded`, a heartbeat).
    pub(crate) fn follow(&mut self, view: Arc<View>, now: Timestamp, instant: Instant) -> Changes {
        let mut all = Vec::new();
        for (resource, current) in view.resources() {
            let before = self.view.resource(resource);
            if before.is_some_and(|before| Arc::ptr_eq(before, current)) {
                continue;
            }
            diff(before.map(Arc::as_ref), current, self.view.revision(), &mut all);
        }
        for change in &all {
            self.ownership.take(change);
        }
        let mut pods = Vec::new();
        for change in self.pods.follow(&view) {
            self.pod_index.take(&change.key, change.old.as_deref(), change.new.as_deref());
            pods.push(ChangedPod { old: change.old, new: change.new });
        }
        self.follow_nodes(&view, now, instant);
        self.deployments.follow(&view);
        self.replica_sets.follow(&view);
        self.replication_controllers.follow(&view);
        self.daemon_sets.follow(&view);
        self.stateful_sets.follow(&view);
        self.controller_revisions.follow(&view);
        self.cron_jobs.follow(&view);
        self.jobs.follow(&view);
        self.failing.take(&pods, now);
        self.services.follow(&view);
        self.view = view;
        self.note_heartbeats(&all, instant);
        self.note_missing_nodes(&pods, now);
        Changes { all, pods }
    }

    fn follow_nodes(&mut self, view: &View, now: Timestamp, instant: Instant) {
        for change in self.nodes.follow(view) {
            if let Some(old) = &change.old {
                self.count_zone(&old.object, false);
            }
            if let Some(new) = &change.new {
                self.count_zone(&new.object, true);
                self.nodes_missing.remove(&change.key.name);
                self.note_status_heartbeat(change.old.as_deref(), new, instant);
            } else {
                self.nodes_missing.insert(change.key.name.clone(), now);
                self.heard.remove(&change.key.name);
            }
            let taints = change.new.as_ref().map_or(&[][..], |new| &new.object.spec.taints);
            self.note_taints(&change.key, taints, now);
        }
    }

    /// A status report of the node itself is a sign of life, as for kubelets without leases.
    fn note_status_heartbeat(
        &mut self,
        old: Option<&Typed<Node>>,
        new: &Typed<Node>,
        instant: Instant,
    ) {
        let beat = |node: &Node| {
            let ready = crate::model::condition(&node.status.conditions, "Ready")?;
            ready.last_heartbeat_time
        };
        let before = old.and_then(|old| beat(&old.object));
        if old.is_none() || beat(&new.object) != before {
            self.heard.insert(new.stored.key.object.name.clone(), instant);
        }
    }

    /// A renewed lease in kube-node-lease is a sign of life.
    fn note_heartbeats(&mut self, all: &[Changed], instant: Instant) {
        for change in all.iter().filter(|change| LEASES.is(&change.key.resource)) {
            if &*change.key.object.namespace == "kube-node-lease" && change.new.is_some() {
                self.heard.insert(change.key.object.name.clone(), instant);
            }
        }
    }

    /// Pods may name nodes that never existed: their quarantine begins when they are first seen.
    fn note_missing_nodes(&mut self, pods: &[ChangedPod], now: Timestamp) {
        for pod in pods.iter().filter_map(|change| change.new.as_ref()) {
            let node = pod.object.spec.node_name.as_str();
            if !node.is_empty()
                && self.node(node).is_none()
                && !self.nodes_missing.contains_key(node)
            {
                self.nodes_missing.insert(node.into(), now);
            }
        }
        let index = &self.pod_index;
        self.nodes_missing.retain(|node, _| index.on_node(node).next().is_some());
    }

    fn note_taints(&mut self, node: &ObjectKey, taints: &[Taint], now: Timestamp) {
        let name = |taint: &Taint| {
            (node.clone(), taint.key.clone(), taint.value.clone(), taint.effect.clone())
        };
        let present: BTreeSet<_> = taints.iter().map(name).collect();
        self.taints_seen.retain(|seen, _| seen.0 != *node || present.contains(seen));
        for taint in present {
            self.taints_seen.entry(taint).or_insert(now);
        }
    }

    fn count_zone(&mut self, node: &Node, add: bool) {
        let count = self.zones.entry(node.zone()).or_default();
        let not_ready = usize::from(node.ready().is_some_and(|ready| ready != "True"));
        if add {
            count.nodes += 1;
            count.not_ready += not_ready;
        } else {
            count.nodes -= 1;
            count.not_ready -= not_ready;
        }
        self.zones.retain(|_, count| count.nodes > 0);
    }

    // === looking things up ===

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&StoredRef> {
        self.view.get(key)
    }

    pub(crate) fn resource(&self, resource: Resource) -> Option<&Arc<ResourceView>> {
        self.view.resource(&resource.group_resource())
    }

    pub(crate) fn pod(&self, key: &ObjectKey) -> Option<&Object<Pod>> {
        self.pods.get(key)
    }

    pub(crate) fn all_pods(&self) -> impl Iterator<Item = &Object<Pod>> {
        self.pods.iter()
    }

    /// The pods of a namespace.
    pub(crate) fn pods_in(&self, namespace: &str) -> Vec<Object<Pod>> {
        in_namespace(&self.pods.snapshot(), namespace).cloned().collect()
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Object<Node>> {
        self.nodes.get(&ObjectKey::new("", name))
    }

    /// The object with this uid, if there is one.
    pub(crate) fn by_uid(&self, uid: &str) -> Option<&Key> {
        self.ownership.by_uid(uid)
    }

    /// Objects of any resource that name this uid as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.ownership.dependents(uid)
    }

    /// Pods that name this uid as an owner.
    pub(crate) fn pods_owned_by(&self, uid: &str) -> impl Iterator<Item = &Object<Pod>> {
        self.ownership.dependents_in(uid, PODS).filter_map(|key| self.pods.get(&key.object))
    }

    /// ReplicaSets that name this uid as an owner.
    pub(crate) fn replica_sets_owned_by(
        &self,
        uid: &str,
    ) -> impl Iterator<Item = &Object<ReplicaSet>> {
        self.ownership
            .dependents_in(uid, REPLICA_SETS)
            .filter_map(|key| self.replica_sets.get(&key.object))
    }

    /// Pods of a namespace that nobody manages.
    pub(crate) fn orphan_pods(&self, namespace: &str) -> impl Iterator<Item = &Object<Pod>> {
        self.pod_index.orphans(namespace).filter_map(|key| self.pods.get(key))
    }

    /// Pods bound to a node.
    pub(crate) fn pods_on(&self, node: &str) -> impl Iterator<Item = &Object<Pod>> {
        self.pod_index.on_node(node).filter_map(|key| self.pods.get(key))
    }

    /// Pods of a namespace with all these labels: only those with the rarest one are looked at.
    pub(crate) fn pods_with_labels<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Object<Pod>> + 'a {
        self.pod_index.candidates(namespace, labels).filter_map(|key| self.pods.get(key)).filter(
            |pod| {
                labels.iter().all(|(key, value)| pod.object.metadata.labels.get(key) == Some(value))
            },
        )
    }

    /// Pods that have ended, those made first come first.
    pub(crate) fn ended_pods(&self) -> &BTreeSet<(Timestamp, ObjectKey)> {
        self.pod_index.ended()
    }

    /// Nodes that pods name and that are not there, and since when.
    pub(crate) fn missing_since(&self, node: &str) -> Option<Timestamp> {
        self.nodes_missing.get(node).copied()
    }

    pub(crate) fn zones(&self) -> &BTreeMap<String, ZoneCount> {
        &self.zones
    }

    /// When a taint took effect: its own time, else when it was first seen.
    pub(crate) fn taint_since(&self, node: &ObjectKey, taint: &Taint) -> Timestamp {
        let key = (node.clone(), taint.key.clone(), taint.value.clone(), taint.effect.clone());
        let seen = || self.taints_seen.get(&key).copied().unwrap_or(Timestamp::MAX);
        taint.time_added.unwrap_or_else(seen)
    }

    /// How long ago the store last saw a sign of life of a node.
    pub(crate) fn silence(&self, node: &str, instant: Instant) -> Option<Duration> {
        self.heard.get(node).map(|heard| instant.saturating_duration_since(*heard))
    }
}

/// The objects of one namespace in a typed map.
pub(crate) fn in_namespace<'a, T>(
    map: &'a OrdMap<ObjectKey, Object<T>>,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Object<T>> + 'a {
    let start = ObjectKey::new(namespace, "");
    map.range((Bound::Included(start), Bound::Unbounded))
        .take_while(move |(key, _)| &*key.namespace == namespace)
        .map(|(_, object)| object)
}

/// What differs between two views of a resource, in the order of keys.
fn diff(
    before: Option<&ResourceView>,
    current: &ResourceView,
    since: quorate_state_machine::Revision,
    out: &mut Vec<Changed>,
) {
    let mut keys: Vec<Key> = match (before, current.changes_after(since)) {
        (Some(_), Ok(changes)) => changes.map(|change| change.key().clone()).collect(),
        _ => {
            let known = before.into_iter().flat_map(ResourceView::iter);
            known.chain(current.iter()).map(|object| object.key.clone()).collect()
        }
    };
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let old = before.and_then(|before| before.get(&key.object)).cloned();
        let new = current.get(&key.object).cloned();
        if old.as_ref().map(|old| old.revision) != new.as_ref().map(|new| new.revision) {
            out.push(Changed { key, old, new });
        }
    }
}
