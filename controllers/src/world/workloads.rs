//! Who belongs to which workload.

use jiff::Timestamp;

use super::{Object, World, in_namespace};
use crate::model::{ControllerRevision, DaemonSet, Job, Node};
use crate::resources::{CONTROLLER_REVISIONS, JOBS};

impl World {
    /// Revisions that name this uid as an owner.
    pub(crate) fn revisions_owned_by(
        &self,
        uid: &str,
    ) -> impl Iterator<Item = &Object<ControllerRevision>> {
        self.ownership
            .dependents_in(uid, CONTROLLER_REVISIONS)
            .filter_map(|key| self.controller_revisions.get(&key.object))
    }

    /// Revisions of a namespace that nobody manages.
    pub(crate) fn orphan_revisions(&self, namespace: &str) -> Vec<&Object<ControllerRevision>> {
        let all = self.controller_revisions.snapshot();
        let orphans = in_namespace(&all, namespace)
            .filter(|revision| revision.object.metadata.controller().is_none());
        // Looked up again because the snapshot does not live as long as the world.
        let key = |orphan: &Object<ControllerRevision>| orphan.stored.key.object.clone();
        orphans.filter_map(|orphan| self.controller_revisions.get(&key(orphan))).collect()
    }

    /// Jobs that name this uid as an owner.
    pub(crate) fn jobs_owned_by(&self, uid: &str) -> impl Iterator<Item = &Object<Job>> {
        self.ownership.dependents_in(uid, JOBS).filter_map(|key| self.jobs.get(&key.object))
    }

    /// All nodes, by name.
    pub(crate) fn all_nodes(&self) -> impl Iterator<Item = &Object<Node>> {
        self.nodes.iter()
    }

    /// All daemon sets.
    pub(crate) fn all_daemon_sets(&self) -> impl Iterator<Item = &Object<DaemonSet>> {
        self.daemon_sets.iter()
    }

    /// When a failed pod of a daemon set may be replaced on a node; `None` when at once.
    pub(crate) fn failed_daemon_until(&self, daemon_set: &str, node: &str) -> Option<Timestamp> {
        self.failing.until(daemon_set, node)
    }
}
